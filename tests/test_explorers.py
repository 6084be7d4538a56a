"""Both explorers of the built book under a reader's hands: headless Chromium, the network cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import browsing, visit
from explorers import Hands

import cdlib
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
