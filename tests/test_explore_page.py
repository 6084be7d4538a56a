"""Where explorers lie in a built book, and what their shared scripts are held to."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdlib.explore.page import VENDOR, WASM, data_folder, lay_out, show_explorer

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
NODE = Path(sys.executable).with_name("node")


def test_scripts_are_linted():
    eslint = WEB / "node_modules/eslint/bin/eslint.js"
    done = subprocess.run([NODE, eslint, "."], cwd=WEB, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_scripts_hold_by_themselves():
    """What Node tests without a fixture from Python; the others are run beside theirs."""
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=tap", *sorted((WEB / "test").glob("*.test.js"))],
        cwd=WEB,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"# pass (\d+)", done.stdout)[1]) > 10


def test_packages_are_pinned_with_their_hashes_and_without_an_address():
    given = json.loads((WEB / "package.json").read_text())
    asked = given["dependencies"] | given["devDependencies"]
    assert all(version[0].isdigit() for version in asked.values())
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    for name, package in locked.items():
        assert name == "" or package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_lays_out_scripts_runtime_and_data(tmp_path):
    written = tmp_path / "explore"
    (written / "masks").mkdir(parents=True)
    (written / "masks/index.json").write_text("{}")
    static = tmp_path / "static"
    for _ in range(2):  # what an earlier build left is replaced
        lay_out(WEB, written, static)
    assert (static / "data/masks/index.json").read_text() == "{}"
    for script in (WEB / "src").iterdir():
        assert (static / script.name).read_bytes() == script.read_bytes()
    wasm = (static / "vendor" / f"{WASM}.gz").read_bytes()
    assert gzip.decompress(wasm) == (WEB / VENDOR / WASM).read_bytes()
    assert len(wasm) < 5e6


def test_missing_packages_are_told(tmp_path):
    shutil.copytree(WEB / "src", tmp_path / "web/src")
    with pytest.raises(FileNotFoundError, match="npm ci"):
        lay_out(tmp_path / "web", tmp_path / "none", tmp_path / "static")


def test_explorers_say_what_they_are_where_no_script_runs(monkeypatch, capsys, closed_figures):
    from matplotlib import pyplot as plt

    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show_explorer("masks", "masks", plt.figure(), alt='A "map".', says="Needs <scripts>.")
    page = shown[0].data
    assert (
        'data-explorer="masks"' in page and "&quot;map&quot;" in page and "&lt;scripts&gt;" in page
    )
    for wrong in ({"alt": " "}, {"says": ""}, {"name": "film"}, {"source": "../x"}):
        given = {"name": "masks", "source": "masks", "alt": "A map.", "says": "Words."} | wrong
        with pytest.raises(ValueError, match=next(iter(wrong))):
            show_explorer(fig=plt.figure(), **given)


def test_data_lie_beside_the_results(monkeypatch, tmp_path):
    monkeypatch.setenv("CDLIB_RESULTS", str(tmp_path / "results.json"))
    assert data_folder("masks") == tmp_path / "explore" / "masks"
    with pytest.raises(ValueError, match="source = 'A b'"):
        data_folder("A b")
