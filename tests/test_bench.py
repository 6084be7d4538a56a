"""The benchmarks run and say what they compare; their speeds are nobody's test."""

from __future__ import annotations

import json
import math

import pytest
import tiny

from cdlib.bench import main, run_benchmarks, write_benchmarks
from cdlib.datasets import load_dataset


def test_every_ratio_is_of_two_things_measured(tmp_path):
    results = run_benchmarks(tiny.pocket_shaped(), load_dataset(limit=2).images, repeats=1)
    path = tmp_path / "build" / "bench.json"
    write_benchmarks(results, path)
    assert json.loads(path.read_text()) == results
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]
    for entry in results.values():
        unit = "s" if "numerator_s" in entry else "bytes"
        assert set(entry) == {"ratio", f"numerator_{unit}", f"denominator_{unit}", "what"}
        quotient = entry[f"numerator_{unit}"] / entry[f"denominator_{unit}"]
        assert entry["ratio"] == quotient and math.isfinite(quotient) and quotient > 0


def test_wrong_arguments_are_told(capsys):
    with pytest.raises(SystemExit):
        main(["--repeats", "0"])
    assert "repeats=0" in capsys.readouterr().err
