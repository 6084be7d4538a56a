"""The live explorers do what the library does, do it once, and can be stopped and corrected."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import tiny
import torch

import cdlib
from cdlib.datasets import Dataset
from cdlib.datasets.examples import Example
from cdlib.explore import live_model
from cdlib.explore.live import MaskExplorer, PromptExplorer
from cdlib.masks import RULES, upsample_mask
from cdlib.metrics import pooled_scores

PROMPT, STEPS = "a photo of a bird on the grass", 5
Y_B = "a photo of the beach"
SIZE = (32, 48)  # neither square nor what the models were made for
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def pipe():
    return tiny.pocket_shaped()


@pytest.fixture(scope="module", params=["pocket", "sd"])
def any_pipe(request, pipe):
    return pipe if request.param == "pocket" else tiny.sd_shaped()


@pytest.fixture(scope="module")
def pictures():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, *SIZE, generator=generator)
    masks = torch.zeros(3, *SIZE, dtype=torch.bool)
    masks[:, 8:24, 8:32] = True
    return Dataset(
        [Example(images[k], masks[k], None, str(k), "test") for k in range(3)], "bird", "test"
    )


@pytest.fixture
def passes(pipe):
    """How often the U-Net has run, and what is to happen at a pass."""
    heard = SimpleNamespace(count=0, then=None)

    def hear(*_):
        heard.count += 1
        if heard.then:
            heard.then(heard.count)

    handle = pipe.unet.register_forward_pre_hook(hear)
    yield heard
    handle.remove()


def computed(pipe, data, **how) -> MaskExplorer:
    explorer = MaskExplorer(pipe, data, prompt=PROMPT, **{"steps": STEPS, "y_b": Y_B, **how})
    press(explorer, explorer.compute)
    assert explorer.maps is not None, explorer.message
    return explorer


def press(explorer, button) -> None:
    button.click()
    assert explorer.wait(60)


def close(ours, theirs):
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_map_is_that_of_the_library(any_pipe, pictures):
    explorer = MaskExplorer(any_pipe, pictures, prompt=PROMPT, steps=STEPS, n=2, seed=3)
    explorer.controls.image.value = 1
    press(explorer, explorer.compute)
    theirs = cdlib.concept_attention(
        any_pipe, pictures.images, PROMPT, "bird", t0=4, steps=STEPS, n=2, seed=3
    )
    close(explorer.masked.m_hat, theirs[1])
    assert bytes(explorer.figure.value).startswith(PNG)

    few = explorer.controls.layers.options[:2]
    explorer.controls.layers.value, explorer.controls.t0.value = few, 2
    theirs = cdlib.concept_attention(
        any_pipe, pictures.images, PROMPT, "bird", t0=2, steps=STEPS, n=2, layers=few, seed=3
    )
    close(explorer.masked.m_hat, theirs[1])


@pytest.mark.parametrize("rule", RULES)
def test_mask_and_scores_are_those_of_the_library(pipe, pictures, rule):
    explorer = computed(pipe, pictures)
    c = explorer.controls
    c.rule.value, c.percentile.value, c.majority.value = rule, 70.0, False
    shown = explorer.masked
    assert shown.m_pre.equal(
        cdlib.preliminary_mask(shown.m_hat, rule, percentile=70.0, majority=False)
    )
    pixels = upsample_mask(shown.m_pre, SIZE)
    truth = pictures.masks[0]
    assert shown.scores["iou"] == pooled_scores(pixels[None], truth[None])["iou"]
    hits = int((pixels & truth).sum())
    assert shown.scores["precision"] == pytest.approx(hits / max(int(pixels.sum()), 1))
    assert shown.scores["recall"] == pytest.approx(hits / int(truth.sum()))
    assert f"{shown.scores['iou']:.3f}" in explorer.scores.value
    assert c.percentile.disabled == (rule != "percentile")


def test_choices_redraw_without_the_model(pipe, pictures, passes):
    explorer = computed(pipe, pictures)
    assert passes.count == STEPS
    seen = [bytes(explorer.figure.value)]
    c = explorer.controls
    for control, value in (
        (c.t0, 1),
        (c.layers, c.layers.options[:1]),
        (c.rule, "percentile"),
        (c.percentile, 30.0),
    ):
        control.value = value
        assert not explorer.work.error, explorer.message
        seen.append(bytes(explorer.figure.value))
    c.majority.value = False
    assert len(set(seen)) == len(seen)
    assert passes.count == STEPS
    assert not plt.get_fignums()


def test_t0_keeps_its_share_of_the_steps(pipe, pictures):
    explorer = computed(pipe, pictures)
    t0 = explorer.controls.t0
    explorer.controls.steps.value = 10
    assert (t0.value, t0.max) == (8, 10)
    assert explorer.masked.m_hat.equal(explorer.maps.m_hat(explorer.maps.layers, STEPS))
    press(explorer, explorer.compute)
    assert explorer.maps.maps.shape[1] == 10
    assert explorer.masked.m_hat.equal(explorer.maps.m_hat(explorer.maps.layers, 8))


def test_cancel_stops_within_a_step_and_leaves_the_old_result(pipe, pictures, passes):
    explorer = computed(pipe, pictures)
    maps, figure = explorer.maps, bytes(explorer.figure.value)
    passes.count = 0
    passes.then = lambda count: explorer.cancel.click() if count == 2 else None
    explorer.controls.image.value = 2
    press(explorer, explorer.compute)
    assert 2 <= passes.count <= 3
    assert "Cancelled" in explorer.message
    assert explorer.maps is maps and bytes(explorer.figure.value) == figure
    assert not explorer.compute.disabled and explorer.cancel.disabled
    passes.then = None
    press(explorer, explorer.compute)
    assert explorer.maps is not maps


@pytest.mark.parametrize(
    ("control", "value", "says"),
    [
        ("word", "bears", "is not in prompt"),
        ("prompt", "a photo of a bird" * 40, "tokens"),
        ("steps", 0, "steps=0"),
        ("steps", 5000, "steps=5000"),
        ("n", -1, "n=-1"),
        ("seed", -1, "seed=-1"),
    ],
)
def test_a_mistake_is_said_and_can_be_mended(pipe, pictures, control, value, says):
    explorer = computed(pipe, pictures)
    maps = explorer.maps
    widget = getattr(explorer.controls, control)
    before, widget.value = widget.value, value
    press(explorer, explorer.compute)
    assert says in explorer.message and 'role="alert"' in explorer.work.says.value
    assert explorer.maps is maps and isinstance(explorer.work.error, ValueError)
    widget.value = before
    press(explorer, explorer.compute)
    assert explorer.maps is not maps and explorer.work.error is None


def test_no_layer_and_no_mask_are_said(pipe, pictures):
    explorer = MaskExplorer(pipe, pictures, prompt=PROMPT, steps=STEPS)
    press(explorer, explorer.remove)
    assert "press Compute first" in explorer.message
    press(explorer, explorer.compute)
    explorer.controls.layers.value = ()
    assert "layers: choose at least one" in explorer.message
    explorer.controls.layers.value = explorer.controls.layers.options
    assert explorer.message == ""
    c = explorer.controls
    c.rule.value, c.percentile.value = "percentile", 100.0  # nothing lies above the highest value
    press(explorer, explorer.remove)
    assert "mask is empty" in explorer.message


def test_a_model_that_has_gone_wrong_is_said(pictures):
    pipe = tiny.pocket_shaped()
    pipe.unet.conv_in.weight.data.fill_(float("nan"))
    explorer = MaskExplorer(pipe, pictures, prompt=PROMPT, steps=STEPS)
    press(explorer, explorer.compute)
    assert "NaN" in explorer.message and explorer.maps is None
    prompts = PromptExplorer(pipe, PROMPT, steps=2)
    press(prompts, prompts.draw)
    assert "NaN" in prompts.message and prompts.drawing is None


def test_removal_is_that_of_the_library(any_pipe, pictures):
    explorer = computed(any_pipe, pictures, seed=2, rule="percentile")
    c = explorer.controls
    c.image.value, c.removal_steps.value, c.dilate.value = 1, 6, 1
    press(explorer, explorer.compute)
    press(explorer, explorer.remove)
    m_pre, images = explorer.masked.m_pre, pictures.images[1:2]
    seed = [2_000_001]  # of image 1 in a run with seed 2
    theirs = cdlib.remove(any_pipe, images, m_pre[None], Y_B, steps=6, dilate=1, seed=seed)
    close(explorer.removal.removed, theirs[0])
    refined = cdlib.refine(images, explorer.removal.removed[None], m_pre[None], dilate=1)
    assert explorer.removal.m_refined.equal(refined[0])
    assert bytes(explorer.removed.value).startswith(PNG) and not plt.get_fignums()

    c.percentile.value = 50.0
    assert "another mask" in explorer.message


def test_removal_by_the_fine_tuned_model(pictures):
    pipe, m_prime = tiny.pocket_shaped(), tiny.pocket_shaped(seed=1)
    explorer = computed(pipe, pictures, m_prime=m_prime, rule="percentile")
    assert explorer.controls.painter.value == "m_prime"
    explorer.controls.removal_steps.value = 2
    m_pre = explorer.masked.m_pre[None]
    for name, one in (("m_prime", m_prime), ("m", pipe)):
        explorer.controls.painter.value = name
        press(explorer, explorer.remove)
        close(
            explorer.removal.removed,
            cdlib.remove(one, pictures.images[:1], m_pre, Y_B, steps=2, seed=0)[0],
        )


def test_cancelled_removal_leaves_the_old_one(pipe, pictures, passes):
    explorer = computed(pipe, pictures, rule="percentile")
    explorer.controls.removal_steps.value = 8
    press(explorer, explorer.remove)
    removal, figure = explorer.removal, bytes(explorer.removed.value)
    passes.count = 0
    passes.then = lambda count: explorer.cancel.click() if count == 6 else None
    press(explorer, explorer.remove)
    assert passes.count == 6 and "Cancelled" in explorer.message
    assert explorer.removal is removal and bytes(explorer.removed.value) == figure


def test_images_without_a_truth(pipe):
    images = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(4))
    explorer = computed(pipe, images, concept="bird")
    assert explorer.masked.scores is None and "not known" in explorer.scores.value
    with pytest.raises(ValueError, match="concept"):
        MaskExplorer(pipe, images)
    with pytest.raises(ValueError, match="rule"):
        MaskExplorer(pipe, images, concept="bird", rule="gnn")
    with pytest.raises(ValueError, match="data"):
        MaskExplorer(pipe, images[:0], concept="bird")


def test_canvas_beside_an_image_is_left_out(pipe, pictures):
    valid = torch.zeros(SIZE, dtype=torch.bool)
    valid[:, :32] = True
    one = pictures[0]
    data = Dataset([Example(one.image, one.mask, None, "0", "test", valid=valid)], "bird", "test")
    explorer = computed(pipe, data, rule="percentile")
    m_hat = explorer.masked.m_hat
    cells = torch.zeros(m_hat.shape, dtype=torch.bool)
    cells[:, : m_hat.shape[1] * 2 // 3] = True
    assert explorer.masked.m_pre.equal(cdlib.preliminary_mask(m_hat, "percentile", cells))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_drawing_is_that_of_the_library(any_pipe, guidance):
    explorer = PromptExplorer(any_pipe, PROMPT, seed=7, steps=4, guidance=guidance, size=SIZE)
    press(explorer, explorer.draw)
    theirs = cdlib.synthesise(
        any_pipe, 1, y_f=PROMPT, y_b="", s=guidance, steps=4, size=SIZE, seed=7
    )[0]  # fmt: skip
    close(explorer.drawing.image, theirs)
    assert list(explorer.drawing.maps) == ["a", "photo", "of", "bird", "on", "the", "grass"]
    assert bytes(explorer.figure.value).startswith(PNG)


def test_word_maps_are_those_of_the_prompt_alone(any_pipe):
    """In its first step a guided drawing asks the model what an unguided one asks it."""
    free, guided = (
        live_model.draw_prompt(any_pipe, PROMPT, steps=1, guidance=s, size=SIZE) for s in (1.0, 5.0)
    )
    for word in free.maps:
        close(free.maps[word], guided.maps[word])

    with cdlib.capture_attention(any_pipe, "bird", prompt=PROMPT) as capture:
        cdlib.synthesise(any_pipe, 1, y_f=PROMPT, steps=3, size=SIZE, seed=1)
    ours = live_model.draw_prompt(any_pipe, PROMPT, steps=3, guidance=1.0, size=SIZE, seed=1)
    close(ours.maps["bird"], capture.maps[0, 0])


def test_prompts_are_compared_and_words_chosen(pipe, passes):
    explorer = PromptExplorer(pipe, PROMPT, steps=2, guidance=2.0, size=SIZE)
    press(explorer, explorer.draw)
    first = explorer.drawing
    assert explorer.controls.word.value == "grass" and explorer.before is None
    explorer.controls.prompt.value = "a photo of a red car on the grass"
    press(explorer, explorer.draw)
    assert explorer.before is first and explorer.controls.word.value == "grass"
    figure, count = bytes(explorer.figure.value), passes.count
    explorer.controls.word.value = "car"
    assert bytes(explorer.figure.value) != figure and passes.count == count
    assert not plt.get_fignums()


def test_cancelled_drawing_leaves_the_old_one(pipe, passes):
    explorer = PromptExplorer(pipe, PROMPT, steps=6, guidance=1.0, size=SIZE, every=2)
    press(explorer, explorer.draw)
    assert bytes(explorer.so_far.value).startswith(PNG)  # something was shown on the way
    drawing = explorer.drawing
    passes.count = 0
    passes.then = lambda count: explorer.cancel.click() if count == 3 else None
    explorer.controls.seed.value = 1
    press(explorer, explorer.draw)
    assert passes.count == 3 and "Cancelled" in explorer.message
    assert explorer.drawing is drawing and explorer.before is None
    with cdlib.capture_attention(pipe, "bird", prompt=PROMPT):
        pass  # the model is as it was


@pytest.mark.parametrize(
    ("control", "value", "says"),
    [
        ("prompt", " ", "at least one word"),
        ("steps", 0, "steps=0"),
        ("guidance", 0.0, "guidance=0.0"),
        ("seed", -3, "seed=-3"),
    ],
)
def test_a_mistake_in_a_prompt_is_said(pipe, control, value, says):
    explorer = PromptExplorer(pipe, PROMPT, steps=1, size=SIZE)
    before = getattr(explorer.controls, control).value
    getattr(explorer.controls, control).value = value
    press(explorer, explorer.draw)
    assert says in explorer.message and explorer.drawing is None
    getattr(explorer.controls, control).value = before
    press(explorer, explorer.draw)
    assert explorer.drawing is not None


def test_explorers_take_turns_on_one_model(pipe, pictures):
    alone = computed(pipe, pictures).masked.m_hat
    masks = MaskExplorer(pipe, pictures, prompt=PROMPT, steps=STEPS)
    prompts = PromptExplorer(pipe, PROMPT, steps=3, size=SIZE)
    masks.compute.click()
    prompts.draw.click()
    assert masks.wait(60) and prompts.wait(60)
    close(masks.masked.m_hat, alone)
    assert prompts.drawing is not None, prompts.message


def test_one_piece_of_work_at_a_time(pipe, pictures, passes):
    explorer = MaskExplorer(pipe, pictures, prompt=PROMPT, steps=STEPS)
    said = []

    def again(count):
        if count == 1:
            explorer.compute.click()
            said.append(explorer.message)

    passes.then = again
    press(explorer, explorer.compute)
    assert "Still at work" in said[0] and passes.count == STEPS


def test_they_show_themselves(pipe, pictures):
    for explorer in (MaskExplorer(pipe, pictures), PromptExplorer(pipe)):
        assert "application/vnd.jupyter.widget-view+json" in explorer._repr_mimebundle_()


def test_shipped_model_and_one_that_knows_nothing(clueless):
    data = cdlib.load_dataset("pocket", concept="bird", split="test", limit=2)
    for source in ("pocket", clueless):
        explorer = MaskExplorer(cdlib.load_model(source, "cpu"), data, steps=4)
        press(explorer, explorer.compute)
        assert explorer.masked is not None, explorer.message
        press(explorer, explorer.remove)
        assert explorer.removal is not None or "empty" in explorer.message
