"""The figures' shared hand: images become pictures, borders lie on pixels, tables are words."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cdlib.figures import as_picture, image_grid, outline, overlay, panels, tables

pytestmark = pytest.mark.usefixtures("closed_figures")


def test_every_kind_of_image_becomes_the_same_picture():
    bytes_ = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    tensor = torch.from_numpy(bytes_).permute(2, 0, 1).float() / 255
    for image in (bytes_, bytes_ / 255, tensor, tensor.half(), tensor.numpy()):
        assert as_picture(image).shape == (8, 6, 3)
        assert np.allclose(as_picture(image), bytes_ / 255, atol=1e-3)


@pytest.mark.parametrize("shape", [(5,), (2, 4, 4), (1, 3, 8, 8)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match="shape"):
        as_picture(np.zeros(shape))


def test_outline_runs_along_the_edges_of_pixels():
    mask = np.zeros((4, 4), bool)
    mask[1:3, 2] = True
    _, axes = panels(1, 1)
    outline(axes[0, 0], mask)
    drawn = np.concatenate([line.get_xydata() for line in axes[0, 0].lines])
    ends = drawn[~np.isnan(drawn).any(1)]
    assert len(ends) == 12  # six edges of a pixel go around two pixels, one above the other
    assert (ends.min(0) == (1.5, 0.5)).all() and (ends.max(0) == (2.5, 2.5)).all()


def test_overlay_tints_the_mask_and_nothing_else():
    image, mask = np.full((4, 4, 3), 0.5), np.zeros((2, 2), bool)
    mask[0, 1] = True
    _, axes = panels(1, 1)
    overlay(axes[0, 0], image, mask, colour="#000000", strength=1.0)
    shown = axes[0, 0].images[0].get_array()
    assert (shown[:2, 2:] == 0).all() and (shown[2:] == 0.5).all() and (shown[:, :2] == 0.5).all()


def test_grid_has_a_place_for_every_image_and_titles_above_the_first_row():
    fig = image_grid([np.zeros((4, 4))] * 5, ["a", "b", "c"], columns=3, rows=["one", "two"])
    assert len(fig.axes) == 6
    assert [ax.get_title() for ax in fig.axes] == ["a", "b", "c", "", "", ""]
    assert fig.axes[3].get_ylabel() == "two"
    with pytest.raises(ValueError, match="at least one"):
        image_grid([])


def test_numbers_are_written_as_the_prose_writes_them():
    assert tables.number(0.96, "fraction") == "0.960"
    assert tables.number(28.04, "dB") == "28.0\u00a0dB"
    assert tables.number(12000) == "12,000" and tables.number(None) == "–"
    assert tables.span((27.9, 28.06), "dB").split() == ["27.9", "to", "28.1"]


def record(value: float, **more: object) -> dict:
    fields = {"ci95": None, "n": None, "unit": "fraction", "chapter": "02_attention"}
    return {"value": value, "paper": None, "source": "live", **fields, **more}


def test_tables_of_results_say_so_where_no_chapter_has_run():
    for made in (tables.results_table, tables.all_results_table, tables.costs_table):
        assert "make book" in made({}).frame["result"].item()


def test_results_table_speaks_in_order_and_leaves_out_what_has_no_words():
    results = {
        "m_hat.mass.auc": record(0.8),
        "m_hat.car.auc": record(0.98),
        "m_hat.bird.auc": record(0.97, paper=0.971, n=96, ci95=[0.96, 0.98]),
        "pocket.vae.psnr": record(28.0, unit="dB", source="recorded", chapter="01_pocket_world"),
        "world.concepts": record(8, unit=None),
    }
    rows = tables.results_table(results).frame
    assert [text.split(":")[0] for text in rows["result"]] == [
        "autoencoder, there and back", "bird", "car", "mass",
    ]  # fmt: skip
    assert rows["paper"].tolist() == ["–", "0.971", "–", "–"]
    assert rows["chapter"].tolist() == ["01", "02", "02", "02"]
    assert "world.concepts" in tables.all_results_table(results)._repr_html_()


def test_gates_are_judged_by_their_numbers():
    gate = {"ci95": [0.9, 0.99], "n": 10, "unit": "fraction", "target": 0.97, "held": True}
    gates = {
        "pocket.m_hat.bird.auc": {**gate, "value": 0.96},
        "pocket.m_hat.car.auc": {**gate, "value": 0.97},
    }
    rows = tables.gates_table(gates).frame
    assert rows["verdict"].tolist() == ["missed", "held"]
    assert rows["gate"].tolist() == ["attention to “bird”: AUC", "attention to “car”: AUC"]


def test_a_gate_that_is_missed_by_little_does_not_look_held():
    gate = {"unit": "fraction", "target": 0.97, "ci95": (0.967, 0.972), "n": 100}
    missed, held = ({**gate, "value": value} for value in (0.96977, 0.97))
    rows = tables.gates_table({"missed": missed, "held": held}).frame
    assert list(rows["measured"]) == ["0.96977", "0.970"]
