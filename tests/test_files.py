"""Files that are there whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
from time import sleep

import pytest

from cdlib.files import written_whole


def names_in(folder) -> list[str]:
    return [one.name for one in folder.iterdir()]


def test_a_file_is_replaced_when_the_block_ends(tmp_path):
    path = tmp_path / "made" / "a.json"
    for text in ("first", "second"):
        with written_whole(path) as aside:
            aside.write_text(text)
            assert aside.suffix == path.suffix
        assert path.read_text() == text and names_in(path.parent) == ["a.json"]


def test_an_error_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OSError, match="the disk is full"), written_whole(path) as aside:
        aside.write_text("ne")
        raise OSError("the disk is full")
    assert path.read_text() == "old" and names_in(tmp_path) == ["a.json"]


def test_a_kill_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    code = (
        "import sys, time\nfrom cdlib.files import written_whole\n"
        "with written_whole(sys.argv[1]) as aside:\n"
        "    aside.write_text('ne')\n    time.sleep(60)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, path])
    while len(names_in(tmp_path)) < 2:
        assert writer.poll() is None
        sleep(0.05)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert path.read_text() == "old"
    with written_whole(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new" and names_in(tmp_path) == ["a.json"]


def test_a_block_that_writes_nothing_is_told(tmp_path):
    with pytest.raises(FileNotFoundError), written_whole(tmp_path / "a.json"):
        pass
