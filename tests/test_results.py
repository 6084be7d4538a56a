"""Results: only sound numbers are glued, under one name each, and none is lost on the way."""

from __future__ import annotations

import json

import numpy as np
import pytest

from cdlib.results import (
    FIELDS,
    gather_results,
    glue,
    load_results,
    make_record,
    merge_results,
    show_figure,
    write_results,
)


@pytest.fixture
def shown(monkeypatch) -> list[dict]:
    """Outputs as a notebook would keep them."""
    outputs: list[dict] = []

    def display(data, raw, metadata):
        assert raw
        outputs.append({"data": data, "metadata": metadata})

    monkeypatch.setattr("IPython.display.display", display)
    return outputs


def texts(outputs: list[dict]) -> dict[str, str]:
    return {
        output["metadata"]["scrapbook"]["name"]: next(iter(output["data"].values()))
        for output in outputs
    }


def test_glue_leaves_texts_and_a_record(shown):
    glue("m_hat.bird.auc", np.float32(0.96), ci95=(0.95, 0.97), n=1200, unit="fraction")
    assert texts(shown) == {
        "m_hat.bird.auc": "'0.960'",
        "m_hat.bird.auc.ci95": "'0.950 to 0.970'",
        "m_hat.bird.auc.n": "'1,200'",
    }
    results = gather_results({"cells": [{"outputs": shown}]}, "02_attention")
    record = results["m_hat.bird.auc"]
    assert tuple(record) == FIELDS
    assert record["value"] == pytest.approx(0.96) and record["n"] == 1200
    assert (record["chapter"], record["source"], record["paper"]) == ("02_attention", "live", None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": float("nan")}, "value = nan"),
        ({"value": float("inf")}, "value = inf"),
        ({"value": None}, "value = None"),
        ({"value": True}, "value = True"),
        ({"value": 75.2}, "0.752"),
        ({"paper": 75.1}, "paper = 75.1"),
        ({"ci95": (0.6, 0.7)}, "ci95"),
        ({"ci95": (0.4, 1.2)}, "1.2"),
        ({"n": 0}, "n = 0"),
        ({"n": 2.5}, "n = 2.5"),
        ({"source": "guessed"}, "guessed"),
    ],
)
def test_unsound_numbers_are_rejected(changes, says):
    with pytest.raises(ValueError, match=says):
        make_record(**({"value": 0.5, "unit": "fraction"} | changes))


@pytest.mark.parametrize("name", ["", "AUC", "m hat", ".a", "a..b", "m_hat.bird.auc:"])
def test_names_are_dotted_and_lower_case(name, shown):
    with pytest.raises(ValueError, match="name"):
        glue(name, 1.0)
    assert not shown


def test_one_name_has_one_value():
    one = {"a.b": make_record(0.5, chapter="01")}
    merge_results(one, {"a.b": make_record(0.5, chapter="02")})
    with pytest.raises(ValueError, match=r"a\.b was glued twice: 0\.5 by chapter 01.*0\.6 by"):
        merge_results(one, {"a.b": make_record(0.6, chapter="02")})


def test_results_come_back_as_written(tmp_path):
    path = tmp_path / "results.json"
    assert load_results(path) == {}
    results = {"a.b": make_record(np.int64(3), ci95=(2, 4), n=np.int64(7), chapter="01")}
    write_results(results, path)
    assert load_results(path) == results == json.loads(path.read_text())
    assert [one.name for one in tmp_path.iterdir()] == ["results.json"]


def test_figures_need_a_label_and_words(shown):
    from matplotlib.figure import Figure

    with pytest.raises(ValueError, match="name = 'line'"):
        show_figure(Figure(), "line", caption="A line.", alt="A line.")
    for caption, alt in (("", "A line."), ("A line.", " ")):
        with pytest.raises(ValueError, match="say in words"):
            show_figure(Figure(), "fig-line", caption=caption, alt=alt)
    assert not shown
