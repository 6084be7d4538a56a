"""In which numbers nets are computed: what "auto" means, and that it reaches every net."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from cdlib.params import check_parameters
from cdlib.precision import PRECISIONS, autocast, choose_precision, multiplies_bfloat16
from cdlib.segmenter import segmenter_steps
from cdlib.stages import Distillation, chain, segmenter_artifact, segmenting, synthesis
from cdlib.store import Store

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


def a_processor(monkeypatch, **has: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, **has})


@pytest.mark.parametrize(
    ("has", "means"),
    [
        ({}, "fp32"),
        ({"avx512_f": True, "avx512_bf16": False}, "fp32"),  # emulates it
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
    ],
)
def test_auto_asks_the_processor(monkeypatch, has, means):
    a_processor(monkeypatch, **has)
    assert choose_precision("auto", CPU) == means


@pytest.mark.parametrize("native", [True, False])
def test_auto_asks_the_gpu_and_takes_no_emulation_for_it(monkeypatch, native):
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **how: asked.update(how) or native)
    assert choose_precision("auto", CUDA) == ("bf16" if native else "fp32")
    assert asked == {"including_emulation": False}


def test_where_torch_does_not_tell_it_is_float32():
    assert not multiplies_bfloat16(MPS)


def test_what_is_asked_for_is_taken_and_a_slip_is_told(monkeypatch):
    a_processor(monkeypatch)
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp16", CPU, PRECISIONS) == "fp16"
    with pytest.raises(ValueError, match="precision='fp16': allowed are auto, fp32, bf16"):
        choose_precision("fp16", CPU)
    with pytest.raises(ValueError, match="Did you mean 'bf16'"):
        choose_precision("bf61", CPU)


@pytest.mark.parametrize("around", [True, False])
def test_products_are_of_the_precision_whatever_surrounds_them(around):
    x = torch.rand(2, 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        with autocast(CPU, "fp32"):
            assert (x @ x).dtype == torch.float32
        with autocast(CPU, "bf16"):
            assert (x @ x).dtype == torch.bfloat16


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return images, images[:, 0] > 0.5


def test_auto_trains_the_net_of_what_it_means(monkeypatch):
    def loss(precision: str) -> float:
        how = {"width": 2, "steps": 2, "batch_size": 2, "device": "cpu", "precision": precision}
        return list(segmenter_steps(*pairs(), **how))[-1].loss

    a_processor(monkeypatch)
    assert loss("auto") == loss("fp32") != loss("bf16")
    a_processor(monkeypatch, avx512_bf16=True)
    assert loss("auto") == loss("bf16")


def test_what_was_made_in_one_precision_is_not_taken_for_the_other(monkeypatch, tmp_path):
    """A store on a shared disk serves machines of both kinds."""
    store, made = Store(tmp_path), []
    for has in (False, True):
        a_processor(monkeypatch, avx512_bf16=has)
        how = {"width": 2, "steps": 1, "batch_size": 2, "device": "cpu", "store": store}
        made.append(segmenter_artifact(*pairs(), **how).manifest)
    assert [one["params"]["precision"] for one in made] == ["fp32", "bf16"]
    assert made[0]["key"] != made[1]["key"]


def test_a_chapters_parameter_reaches_every_net(monkeypatch):
    """Fine-tuning, removals, synthetic images and segmenters; see also each stage's own tests."""
    told = {}

    def noted(name):
        def stage(*_, **how):
            told[name] = how.get("precision")
            return {"removed": torch.zeros(1)}

        return stage

    monkeypatch.setattr(chain, "m_prime_artifact", noted("fine-tuning"))
    monkeypatch.setattr(chain, "removal_artifact", noted("removal"))
    monkeypatch.setattr(segmenting, "segmenter_artifact", noted("segmenter"))
    given = {"preset": "quick", "precision": "bf16", "n_train": 1, "n_images": 1}
    p = check_parameters(given, "07_evaluation")
    made = Distillation(p)
    made.__dict__["pipe"] = SimpleNamespace(device=CPU)
    monkeypatch.setattr(made, "coarse", lambda _: (SimpleNamespace(images=None), None, None))
    made.trained  # noqa: B018
    made.remove(None, torch.zeros(1), None)
    segmenting.train_sets(p, {"d_s": ()}, {"d_s": ()})
    assert told == dict.fromkeys(("fine-tuning", "removal", "segmenter"), "bf16")
    seen = {}
    made.__dict__["m_prime"] = SimpleNamespace(device=CPU)
    made.store = SimpleNamespace(get=lambda *_, params, **__: seen.update(params))
    monkeypatch.setattr(synthesis, "model_fingerprint", lambda _: "none")
    synthesis.samples_artifact(made, 1)
    assert seen["precision"] == "bf16"
