"""Both explorers of the built book under a reader's hands: headless Chromium, the network cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import browsing, logged, visit

import cdlib
from cdlib.explore.browser import Hands
from cdlib.explore.timing import load_timings, measure
from cdlib.masks import upsample_mask
from cdlib.metrics import per_image_scores

PAGE = "notebooks/09_explorer.html"


@pytest.fixture(scope="module")
def hands(built: Path):
    """The chapter's page, opened, both explorers ready."""
    with browsing(built / "html") as (driver, home):
        driver.get(home + PAGE)
        hands = Hands(driver)
        hands.wait_until_ready()
        yield hands
        seen = logged(driver, home)
    assert not seen["errors"] and not seen["outside"], seen


@pytest.fixture(scope="module")
def model(hands: Hands) -> Hands:
    """The same page with the model loaded, set to draw in few steps."""
    hands.click("model-load")
    hands.wait(lambda: hands.enabled("model-draw"), "the model to load", 120)
    hands.slide("model-steps", 8)
    return hands


@pytest.fixture(scope="module")
def written(built: Path) -> dict:
    """What the chapter wrote for the mask explorer: its index, with "maps" and "truth" beside."""
    folder = built / "explore" / "masks"
    index = json.loads((folder / "index.json").read_text())
    shape = [len(index[key]) for key in ("images", "words", "layers", "bins")] + index["grid"]
    maps = np.fromfile(folder / "maps.bin", "<f2").reshape(shape).astype(np.float32)
    bits = np.unpackbits(np.fromfile(folder / "masks.bin", np.uint8))
    stages = [len(index["images"]), len(index["stages"]), *index["size"]]
    masks = bits[: np.prod(stages)].reshape(stages).astype(bool)
    return index | {"maps": maps, "truth": masks[:, index["stages"].index("truth")]}


def test_starts_with_what_the_book_says(hands, written):
    said = written["images"][0]["iou"]["m_pre"]
    assert hands.number("mask-iou") == pytest.approx(said, abs=1e-3)


def test_masks_and_scores_are_the_librarys_whatever_is_chosen(hands, written):
    image, layers, first, last, percentile = 1, [0, 2], 1, 4, 70.0
    hands.click(f"mask-scene-{image}")
    hands.click("mask-layer-1")
    hands.choose("mask-rule", "percentile")
    hands.slide("mask-percentile", percentile)
    hands.slide("mask-last", last)
    hands.slide("mask-first", first)
    counts = [one["count"] for one in written["bins"][first : last + 1]]
    chosen = written["maps"][image, 0][layers, first : last + 1].astype(np.float64)
    m_hat = np.average(chosen, axis=1, weights=counts).mean(0)
    m_pre = cdlib.preliminary_mask(torch.tensor(m_hat), "percentile", percentile=percentile)
    pixels = upsample_mask(m_pre[None], tuple(written["size"]))
    truth = torch.tensor(written["truth"][image])[None]
    scores = per_image_scores(pixels, truth)
    assert hands.number("mask-iou") == pytest.approx(float(scores["iou"][0]), abs=1e-3)
    shared = float((pixels & truth).sum())
    assert hands.number("mask-precision") == pytest.approx(shared / float(pixels.sum()), abs=1e-3)
    assert hands.number("mask-recall") == pytest.approx(shared / float(truth.sum()), abs=1e-3)


def test_a_slider_changes_the_score_at_once(hands):
    hands.click("preset-book")
    hands.choose("mask-rule", "percentile")
    seen = set()
    for share in (20, 50, 95):
        hands.slide("mask-percentile", share)
        seen.add(hands.text("mask-iou"))
    assert len(seen) == 3
    hands.click("preset-book")


def test_wipes_between_the_stages(hands, written):
    hands.click("mask-scene-0")
    hands.choose("wipe-left", "m_pre")
    hands.choose("wipe-right", "m_refined")
    for side, stage in (("left", "m_pre"), ("right", "m_refined")):
        said = written["images"][0]["iou"][stage]
        assert f"{said:.3f}" in hands.text(f"wipe-{side}-iou")
    hands.slide("wipe-position", 80)


def pixels(hands: Hands, testid: str, layer: int = 0) -> np.ndarray:
    """The pixels, (N, 4), of a canvas in the element: the picture's, or what lies over it."""
    script = """const canvas = arguments[0].querySelectorAll("canvas")[arguments[1]];
        const {width, height} = canvas;
        return [...canvas.getContext("2d").getImageData(0, 0, width, height).data];"""
    return np.array(hands.run(script, hands.find(testid), layer)).reshape(-1, 4)


def press(hands: Hands, testid: str, done: str) -> None:
    hands.click(testid)
    hands.wait(lambda: done in hands.text(f"{testid}-status"), f"{testid}: {done}", 180)


def test_draws_a_prompt_the_same_for_the_same_seed(model):
    drawn = []
    for seed in (6, 7, 6):
        model.write("model-prompt", "a photo of a red car on the beach")
        model.slide("model-seed", seed)
        press(model, "model-draw", "Drawn in")
        drawn.append(pixels(model, "model-result")[:, :3])
    assert np.array_equal(drawn[0], drawn[2]) and not np.array_equal(drawn[0], drawn[1])
    assert drawn[0].std(0).min() > 10  # a picture, not a plain field


def test_a_clicked_word_shows_where_it_went(model):
    heat = {}
    for word in ("car", "beach"):
        model.click(f"model-word-{word}")
        heat[word] = pixels(model, "model-result", layer=1)
    assert heat["car"].std() > 10 and not np.array_equal(heat["car"], heat["beach"])


def test_a_word_that_the_model_does_not_know_is_named(model):
    model.write("model-prompt", "a photo of a brid")
    assert "brid" in model.text("model-unknown") and "bird" in model.text("model-unknown")
    model.write("model-prompt", "a photo of a bird")
    assert "brid" not in model.text("model-unknown")


def test_drawing_can_be_cancelled(model):
    model.slide("model-steps", 50)
    model.click("model-draw")
    model.wait(lambda: model.enabled("model-draw-cancel"), "a drawing to cancel")
    model.click("model-draw-cancel")
    model.wait(lambda: "Cancelled" in model.text("model-draw-status"), "the cancel to be heard", 10)
    model.slide("model-steps", 8)


def test_finds_the_object_and_takes_it_out(model):
    press(model, "model-look", "found in")
    assert 0.1 < float(model.text("model-look-iou").split()[-1]) <= 1
    model.slide("model-remove-steps", 2)
    model.slide("model-remove-resample", 1)
    before = pixels(model, "model-look-picture")[:, :3]
    for painter in ("m", "m_prime"):
        model.choose("model-remove-model", painter)
        press(model, "model-remove", "Painted over in")
        assert pixels(model, "model-remove-difference")[:, :3].max() > 100
        assert np.abs(pixels(model, f"model-remove-{painter}")[:, :3] - before).max() > 25


def test_timings_are_those_that_can_be_taken(built):
    with browsing(built / "html"):
        pass  # skips where there is no browser
    told, taken = load_timings()["times"], measure(built / "html")
    assert told.keys() == taken.keys() - {"browser"}
    assert all(taken[name] > 0 for name in told)


def test_the_same_explorer_stands_in_the_chapters_before(built):
    with browsing(built / "html", width=360, dark=True) as (driver, home):
        for page in ("02_attention", "04_removal"):
            seen = visit(driver, home, f"notebooks/{page}.html")
            hands = Hands(driver)
            hands.wait_until_ready()
            assert 0 <= hands.number("mask-iou") <= 1
            assert not seen["errors"] and not seen["outside"]
            assert hands.run("return document.documentElement.scrollWidth") <= 360, page


def test_works_below_a_sub_path(built, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "book").symlink_to(built / "html")
    with browsing(tmp_path) as (driver, home):
        driver.get(f"{home}a/book/{PAGE}")
        hands = Hands(driver)
        hands.wait_until_ready()
        assert 0 <= hands.number("mask-iou") <= 1


def test_an_explorer_without_its_data_says_so_and_leaves_the_still_picture(built, tmp_path):
    import shutil

    shutil.copytree(built / "html", tmp_path / "html")
    shutil.rmtree(tmp_path / "html/_static/explore/data/masks")
    with browsing(tmp_path / "html") as (driver, home):
        driver.get(home + PAGE)
        hands = Hands(driver)
        hands.wait_until_ready()
        root = driver.find_element("css selector", '[data-explorer="masks"]')
        assert root.get_attribute("data-state") == "failed"
        assert "could not start" in root.find_element("css selector", "[role=alert]").text
        assert root.find_element("css selector", "img").get_attribute("alt")
