"""A mask explorer for a live kernel: any model, any images, and every choice that makes a mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING

import ipywidgets as w
import torch

from cdlib.attention import cross_attention_layers
from cdlib.checks import one_of, whole_number
from cdlib.explore import live_figures, live_model
from cdlib.explore.live_work import FIGURE, WRAP, Explorer, Work
from cdlib.masks import RULES

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

    from cdlib.datasets import Dataset

WIDE = {"width": "420px", "max_width": "98%"}
ROOM = {"description_width": "initial"}


class MaskExplorer(Explorer):
    """From one image and a word to a mask, with every choice on the way in the reader's hands.

        explorer = MaskExplorer(pipe, data)          # the last line of a cell shows it
        explorer = MaskExplorer(pipe, data, m_prime=state.pipeline())

    "Compute" runs the model, a pass for each timestep, and keeps what it sees by layer and
    timestep; layers, t0 and rule then redraw at once. "Remove" paints background over M_pre and
    refines the mask by what changed. Both can be cancelled, which leaves what was there before.

    data: a dataset, or images (N, 3, H, W) in [0, 1] whose masks nobody knows.
    concept: the word to begin with; None is the dataset's own.
    prompt: where it occurs; None is "a photo of a ..." of it.
    m_prime: a fine-tuned pipeline that may do the removal instead of `pipe`.
    t0: None is four fifths of `steps`, as in the paper.
    y_b: the prompt of the removal. seed: of the run; image i has the noise that it has as the i-th
        of a whole set, in `cdlib.concept_attention(pipe, data.images, ..., seed=seed)`.

    controls: all the inputs by name, to be read and set. maps, masked, removal: what is shown, None
    until there is some. compute, remove, cancel: the buttons. wait(): until the work is over.

    Raises ValueError for data without an image, no word to begin with, and a rule unknown.
    """

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        data: Dataset | torch.Tensor,
        concept: str | None = None,
        prompt: str | None = None,
        *,
        m_prime: StableDiffusionPipeline | None = None,
        t0: int | None = None,
        steps: int = 50,
        n: int = 1,
        rule: str = "gmm",
        percentile: float = 80.0,
        majority: bool = True,
        y_b: str = "a photo of a background",
        seed: int = 0,
    ) -> None:
        if len(data) == 0:
            raise ValueError("data: has no image.")
        concept = concept or getattr(data, "concept", None)
        if not concept:
            raise ValueError("concept: these data do not name one; give a word to begin with.")
        whole_number("steps", steps, 1)
        t0 = max(1, steps * 4 // 5) if t0 is None else whole_number("t0", t0, 1, steps)
        self.pipes = {"m": pipe} | ({} if m_prime is None else {"m_prime": m_prime})
        self.data = data
        self.maps: live_model.ConceptMaps | None = None
        self.masked: live_model.Masked | None = None
        self.removal: live_model.Removal | None = None
        self._of: tuple[live_model.Picture, str] | None = None  # what maps are of
        self._quiet = False
        self._pen = Lock()  # held from the choices to their picture: the last choice is shown last
        prompt = prompt or f"a photo of a {concept}"
        self.controls = SimpleNamespace(
            **_model_controls(len(data), concept, prompt, steps, n, seed),
            **_mask_controls(list(cross_attention_layers(pipe)), t0, steps),
            **_removal_controls(list(self.pipes), y_b, steps),
        )
        c = self.controls
        c.rule.value = one_of("rule", rule, RULES)
        c.percentile.value, c.majority.value = percentile, majority
        c.percentile.disabled = rule != "percentile"
        self.compute = w.Button(description="Compute", button_style="primary")
        self.remove = w.Button(description="Remove", disabled=True)
        self.work = Work(self.compute, self.remove)
        self.cancel = self.work.cancel
        self.compute.on_click(lambda _: self._start_maps())
        self.remove.on_click(lambda _: self._start_removal())
        for control in (c.layers, c.t0, c.rule, c.percentile, c.majority):
            control.observe(lambda _: self._redraw(), "value")
        c.image.observe(lambda _: self._preview(), "value")
        c.steps.observe(self._keep_share, "value")
        self._lay_out()
        self._preview()
        self.work.say("Choose an image and a word of the prompt, then press Compute.")

    def _lay_out(self) -> None:
        c = self.controls
        self.preview = w.Image(layout={"width": "160px"})
        self.figure = w.Image(layout=FIGURE)  # no tooltip: ipywidgets shows no image that has one
        self.scores = w.HTML()
        self.removed = w.Image(layout=FIGURE)
        self.removed_scores = w.HTML()
        numbers = w.HBox([c.steps, c.n, c.seed, self.compute], layout=WRAP)
        ask = w.VBox([c.image, c.prompt, c.word, numbers], layout={"max_width": "100%"})
        choose = w.VBox([c.t0, c.rule, c.percentile, c.majority])
        removal = [c.painter, c.y_b, c.removal_steps, c.dilate, self.remove]
        self.widget = w.VBox(
            [
                w.HBox([self.preview, ask], layout=WRAP),
                w.HBox([choose, c.layers], layout=WRAP),
                w.HBox(removal, layout=WRAP),
                self.work.row,
                self.figure,
                self.scores,
                self.removed,
                self.removed_scores,
            ]
        )

    def _preview(self) -> None:
        with self.work.told():
            picture = live_model.pick(self.data, self.controls.image.value)
            self.preview.value = live_figures.thumbnail(picture.image, 160)

    def _keep_share(self, change: dict) -> None:
        """With other steps t0 stays the same share of them."""
        t0, steps = self.controls.t0, change["new"]
        if steps < 1:
            return  # Compute will say so
        with self._silently():
            share = t0.value / t0.max
            t0.max, t0.value = steps, max(1, round(share * steps))
        self._redraw()

    @contextmanager
    def _silently(self) -> Iterator[None]:
        """Controls may be set inside without a redraw for each."""
        self._quiet = True
        try:
            yield
        finally:
            self._quiet = False

    def _start_maps(self) -> None:
        c = self.controls
        index, seed = c.image.value, c.seed.value
        prompt, word = c.prompt.value, c.word.value.strip()
        how = {"steps": c.steps.value, "n": c.n.value}

        def run() -> str:
            picture = live_model.pick(self.data, index, seed)
            maps = live_model.concept_maps(
                self.pipes["m"], picture, prompt, word, **how, tick=self.work.tick
            )
            with self._pen:
                self.maps, self._of = maps, (picture, word)
                self.masked = self.removal = None
                _put(self.figure, None)
                _put(self.removed, None)
                self.scores.value = self.removed_scores.value = ""
                self._cut()
            return f"Attention to {word!r} in image {index}. Now change layers, t0 or the rule."

        self.work.start("Computing", run)

    def _redraw(self) -> None:
        """The choices have changed: cut the maps anew, without the model."""
        self.controls.percentile.disabled = self.controls.rule.value != "percentile"
        if self.maps is None or self._quiet:
            return
        with self.work.told():
            with self._pen:
                self._cut()
            if not self.work.busy:
                stale = self.removal is not None and not self.masked.m_pre.equal(self.removal.m_pre)
                self.work.say("The removal is of another mask: press Remove." if stale else "")

    def _cut(self) -> None:
        """From the maps to a mask by the choices as they are, and show it."""
        c, (picture, word) = self.controls, self._of
        masked = live_model.mask_from(
            self.maps,
            picture,
            layers=c.layers.value,
            t0=min(c.t0.value, self.maps.maps.shape[1]),  # steps may be set, but not computed yet
            rule=c.rule.value,
            percentile=c.percentile.value,
            majority=c.majority.value,
        )
        _put(self.figure, live_figures.mask_figure(picture, masked, word))
        self.scores.value = _say_scores("M_pre", masked.mask, masked.scores)
        self.masked = masked

    def _start_removal(self) -> None:
        c, masked, of = self.controls, self.masked, self._of
        if masked is None:
            self.work.say("There is no mask yet: press Compute first.", alert=True)
            return
        pipe = self.pipes[c.painter.value]
        how = {"y_b": c.y_b.value, "steps": c.removal_steps.value, "dilate": c.dilate.value}
        before = self.removed.value if self.removal is not None else None

        def run() -> str:
            try:
                removal = live_model.remove_object(
                    pipe, of[0], masked.m_pre, **how, tick=self.work.tick, show=self._show_so_far
                )
            except BaseException:
                _put(self.removed, before)
                raise
            _put(self.removed, live_figures.removal_figure(of[0], removal))
            self.removal = removal
            says = _say_scores("M, refined", removal.m_refined, removal.scores)
            self.removed_scores.value = says
            return "Removed; the mask is refined by what changed."

        self.work.start("Removing", run)

    def _show_so_far(self, image: torch.Tensor) -> None:
        _put(self.removed, live_figures.thumbnail(image))


def _put(where: w.Image, png: bytes | None) -> None:
    where.value = png or b""
    where.layout.display = "none" if png is None else None


def _say_scores(name: str, mask: torch.Tensor, scores: dict[str, float] | None) -> str:
    said = f"{name} covers {mask.float().mean():.1%} of the image."
    if scores is None:
        return f"<p>{said} Its truth is not known.</p>"
    numbers = " · ".join(f"{key} {'–' if v != v else f'{v:.3f}'}" for key, v in scores.items())
    return f"<p>{said} {numbers.replace('iou', 'IoU')}</p>"


def _model_controls(
    images: int, concept: str, prompt: str, steps: int, n: int, seed: int
) -> dict[str, w.Widget]:
    """What the model has to run for. Whole numbers are free, so that what is wrong is said."""
    return {
        "image": w.IntSlider(0, 0, images - 1, description="image", continuous_update=False),
        "prompt": w.Text(prompt, description="prompt", continuous_update=False, layout=WIDE),
        "word": w.Text(concept, description="word", continuous_update=False, layout=WIDE),
        "steps": _number(steps, "steps"),
        "n": _number(n, "noise draws n"),
        "seed": _number(seed, "seed"),
    }


def _mask_controls(layers: list[str], t0: int, steps: int) -> dict[str, w.Widget]:
    """What only chooses among the maps."""
    return {
        "t0": w.IntSlider(t0, 1, steps, description="t0", continuous_update=False),
        "layers": w.SelectMultiple(
            options=layers,
            value=layers,
            description="layers",
            layout={"height": f"{19 * min(len(layers), 8) + 10}px"},
        ),
        "rule": w.Dropdown(options=RULES, description="rule"),
        "percentile": w.FloatSlider(
            80.0, min=0, max=100, step=0.5, description="percentile", continuous_update=False
        ),
        "majority": w.Checkbox(True, description="majority filter"),
    }


def _removal_controls(painters: list[str], y_b: str, steps: int) -> dict[str, w.Widget]:
    return {
        "painter": w.Dropdown(options=painters, value=painters[-1], description="removal by"),
        "y_b": w.Text(y_b, description="with y_b", continuous_update=False, layout=WIDE),
        "removal_steps": _number(steps, "removal steps"),
        "dilate": _number(0, "enlarge by cells"),
    }


def _number(value: int, name: str) -> w.IntText:
    return w.IntText(value, description=name, style=ROOM, layout={"width": "160px"})
