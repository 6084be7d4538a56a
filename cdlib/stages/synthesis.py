"""Synthetic data in the store: D', what the method says of it, and composites (section 5.5).

    synthetic = synthetic_artifact(made, 160)       # made: a Distillation
    kept = synthetic["kept"]
    synthetic["images"][kept], synthetic["m_refined"][kept]     # D'_s
    synthetic["composites"], synthetic["composite_masks"]       # the same objects elsewhere

Images of other prompts, guidance or length are made by `samples_artifact`.
"""

from __future__ import annotations

from typing import Any

import torch

from cdlib.checks import one_of, real_number, whole_number
from cdlib.inpaint import composite, synthesise
from cdlib.masks import degenerate, preliminary_mask, reason_counts
from cdlib.models import image_seeds
from cdlib.precision import choose_precision
from cdlib.stages.chain import Distillation
from cdlib.stages.keys import model_fingerprint
from cdlib.store import Artifact, Store

# Whole noise seeds apart from those of any chapter's seed: `image_seeds` ends far below them.
FIRST_SEED = {"foreground": 10**16, "background": 2 * 10**16}
GUIDANCE = {"foreground": 1.0, "background": 0.0}  # each by its prompt alone, as in the paper
# The parameters on which M_hat, M_pre, removal and M of an image depend.
LOOP = (
    "t0", "steps", "n_noise", "rule", "removal_steps", "scheduler", "dilate", "removal_scale",
    "resample", "space", "polish",
)  # fmt: skip
MOST = 1_000_000  # of a kind: as many as one seed has noise seeds for


def samples_artifact(
    made: Distillation,
    n: int,
    kind: str = "foreground",
    *,
    s: float | None = None,
    steps: int | None = None,
) -> Artifact:
    """What m' draws of a kind, "foreground" or "background": "images" (n, 3, H, W) in [0, 1].

    s: guidance by the two concepts, see `synthesise`; by default 1, y_f alone, for foregrounds and
    0, y_b alone, for backgrounds, which take half the time of others. steps: made.p.steps unless
    given. made.p.precision: as in `removal_artifact`. Image i of a kind starts from a noise of its
    own, the same whatever n, s and steps; no other stage or chapter draws from it.
    """
    first = FIRST_SEED[one_of("kind", kind, FIRST_SEED)]
    n, p, pipe = whole_number("n", n, 1, MOST), made.p, made.m_prime
    precision = choose_precision(p.precision, torch.device("cpu"))
    half = precision == "bf16" and pipe.device.type == "cpu"
    settings = {"n": n, "y_f": made.y_f, "y_b": made.y_b, "s": GUIDANCE[kind] if s is None else s}
    settings |= {"steps": steps or p.steps, "scheduler": p.scheduler}

    def make() -> dict[str, torch.Tensor]:
        seeds = [first + seed for seed in image_seeds(p.seed, n)]
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            return {"images": synthesise(pipe, seed=seeds, **settings)}

    return (made.store or Store()).get(
        "samples",
        make,
        params={**settings, "kind": kind, "first_seed": first, "precision": precision},
        seed=p.seed,
        inputs=[model_fingerprint(pipe)],
        code=[synthesise],
        device=pipe.device,
    )


def synthetic_artifact(
    made: Distillation,
    n: int,
    *,
    feather: float = 1.0,
    least_area: float = 0.01,
    most_area: float = 0.6,
    piece: float = 0.5,
    s: float | None = None,
    s_background: float | None = None,
) -> Artifact:
    """D' and D'_b, n images of each, with the loop M_hat -> M_pre -> removal -> M run on D'.

    As for D, M_hat is m's and everything after it m''s; nothing here has seen a true mask.
    s, s_background: guidance of either, see `samples_artifact`.

    - "images": D' by m' for y_f, "backgrounds": D'_b for y_b; (n, 3, H, W) in [0, 1].
    - "m_hat" (n, h, w) float32, "m_pre" (n, h, w) bool, "removed" (n, 3, H, W) in [0, 1],
      "m_refined" (n, H, W) bool.
    - "kept": bool (n,), which of D' have a usable M; "reasons": why the others have none, ""
      for one that is kept; "counts": how many of each, see `degenerate` for this and for
      least_area, most_area and piece.
    - "composites": kept object k on the background of its own number, as many as are kept;
      (K, 3, H, W) in [0, 1], with "composite_masks", soft (K, H, W) in [0, 1], see `composite`.
    """
    rules = {"least": least_area, "most": most_area, "piece": piece}
    degenerate(torch.zeros(0, 1, 1, dtype=torch.bool), **rules)  # a slip is told before the work
    feather = real_number("feather", feather, 0)
    drawn = samples_artifact(made, n, s=s)
    behind = samples_artifact(made, n, "background", s=s_background)
    p = made.p
    params = {"y_f": made.y_f, "y_b": made.y_b, "word": made.word, "feather": feather, **rules}

    def make() -> dict[str, Any]:
        images, backgrounds = drawn["images"], behind["images"]
        m_hat = made.attention(images)
        m_pre = preliminary_mask(m_hat, p.rule, seed=p.seed)
        removed, m_refined = made.sharpen(images, m_pre)
        reasons = degenerate(m_refined, **rules)
        kept = torch.tensor([not reason for reason in reasons])
        pasted, soft = composite(images[kept], m_refined[kept], backgrounds[kept], feather)
        return {
            "images": images,
            "backgrounds": backgrounds,
            "m_hat": m_hat,
            "m_pre": m_pre,
            "removed": removed,
            "m_refined": m_refined,
            "kept": kept,
            "reasons": reasons,
            "counts": reason_counts(reasons),
            "composites": pasted,
            "composite_masks": soft,
        }

    return (made.store or Store()).get(
        "synthetic",
        make,
        params={**params, **{name: getattr(p, name) for name in LOOP}},
        seed=p.seed,
        inputs=[drawn, behind, model_fingerprint(made.pipe), model_fingerprint(made.m_prime)],
        code=[synthetic_artifact],
        device=made.pipe.device,
    )


def masks_with_seed(
    made: Distillation, images: torch.Tensor, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """M_pre (N, h, w) and M (N, H, W) of images when all noise of the loop is drawn anew.

    The models stay what they are. Masks that follow the noise rather than the image differ from
    one seed to the next.
    """
    again = made.but(seed=seed)
    again.m_prime = made.m_prime  # and not the one that would be fine-tuned with this seed
    m_pre = preliminary_mask(again.attention(images), made.p.rule, seed=seed)
    return m_pre, again.sharpen(images, m_pre)[1]
