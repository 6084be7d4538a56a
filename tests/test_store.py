"""Artifacts: made once, whole or not at all, noticed when what made them changes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cdlib.checks
from cdlib.store import Store, code_hash

PICTURE = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "artifacts")


def everything() -> dict[str, object]:
    return {
        "m_hat": torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)),
        "view": torch.arange(12).reshape(3, 4).T[1:],
        "half": torch.ones(2, dtype=torch.bfloat16),
        "mask": np.eye(3, dtype=bool)[::-1],
        "table": pd.DataFrame({"iou": [0.5, 0.25], "concept": ["bird", "dog"]}),
        "picture": PICTURE,
        "unet": {"conv.weight": torch.ones(2, 3), "steps": torch.tensor(7)},
        "scores": {"auc": np.float64(0.971), "n": np.int64(3), "layers": ("a", None, True)},
    }


def test_round_trip_of_every_kind(store):
    artifact = store.get("all", everything)
    for found in (artifact, store.get("all", lambda: pytest.fail("made twice"))):
        value = everything()
        assert list(found) == list(value) and len(found) == 8
        for name in ("m_hat", "view", "half"):
            assert torch.equal(found[name], value[name]) and found[name].dtype == value[name].dtype
        assert isinstance(found["mask"], np.ndarray) and (found["mask"] == value["mask"]).all()
        pd.testing.assert_frame_equal(found["table"], value["table"])
        assert found["unet"].keys() == value["unet"].keys()
        assert all(torch.equal(found["unet"][k], v) for k, v in value["unet"].items())
        assert (np.asarray(found["picture"]) == np.asarray(PICTURE)).all()
        assert found["scores"] == {"auc": 0.971, "n": 3, "layers": ["a", None, True]}
    names = {p.name for p in artifact.path.iterdir()}
    assert names == {
        "data.safetensors", "unet.safetensors", "table.parquet", "picture.png", "scores.json",
        "manifest.json",
    }  # fmt: skip
    assert "pickle" not in "".join(str(p.read_bytes()[:2000]) for p in artifact.path.iterdir())
    with pytest.raises(KeyError, match="did you mean 'm_hat'"):
        artifact["mhat"]


def test_manifest_tells_what_made_it(store):
    images = store.get("images", lambda: {"n": 3})
    made = store.get(
        "m_hat",
        lambda: {"m_hat": torch.zeros(2)},
        params={"t0": 40, "layers": ("mid", "up")},
        seed=7,
        inputs=[images, "sha256-abc"],
        code=[cdlib.checks],
        device=torch.device("cpu"),
    )
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest == made.manifest
    assert manifest["stage"] == "m_hat" and manifest["key"] == made.key == made.path.name
    assert manifest["params"] == {"t0": 40, "layers": ["mid", "up"]} and manifest["seed"] == 7
    assert manifest["inputs"] == [images.key, "sha256-abc"] and manifest["device"] == "cpu"
    assert manifest["code"] == code_hash([cdlib.checks]) and manifest["seconds"] >= 0
    assert {"python", "torch", "numpy"} <= set(manifest["libraries"])
    assert manifest["files"] == {
        "data.safetensors": (made.path / "data.safetensors").stat().st_size
    }
    assert manifest["created"].endswith("+00:00")


def test_key_is_made_of_all_that_matters(store):
    base = {"params": {"a": 1, "b": 2}, "seed": 0, "inputs": ["x", "y"], "code": [cdlib.checks]}
    key = store.get("s", lambda: {"v": 0}, **base).key

    def other(stage="s", **changed):
        return store.get(stage, lambda: {"v": 1}, **base | changed).key

    assert other() == other(params={"b": 2, "a": 1}) == other(device="cuda") == key
    assert other(code=[cdlib.checks.one_of]) == key  # its module counts
    different = [
        other("t"), other(params={"a": 1, "b": 3}), other(seed=1), other(inputs=["y", "x"]),
        other(inputs=["x"]), other(code=[cdlib.store]), other(code=[]),
    ]  # fmt: skip
    assert len({key, *different}) == 8


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        ({"a": [1, float("nan")]}, r"params.a\[1\]: got nan of type float"),
        ({"a": {1: 2}}, "params.a: got {1: 2} of type dict"),
        ({"model": Path("weights")}, "params.model: got .* of type PosixPath"),
        ({"x": torch.ones(1)}, "params.x: got tensor"),
        ({"s": {1, 2}}, "params.s: got {1, 2} of type set"),
    ],
)
def test_parameters_that_are_not_plain_are_named(store, bad, named):
    with pytest.raises(ValueError, match=named):
        store.get("s", lambda: {"v": 1}, params=bad)


def test_bad_input_is_named(store):
    with pytest.raises(ValueError, match="stage: got '../up'"):
        store.get("../up", lambda: {"v": 1})
    with pytest.raises(ValueError, match=r"inputs\[0\]: got 3"):
        store.get("s", lambda: {"v": 1}, inputs=[3])
    with pytest.raises(ValueError, match="make: must return a dict"):
        store.get("s", lambda: None)
    with pytest.raises(ValueError, match="make: 'manifest' cannot name an entry"):
        store.get("s", lambda: {"manifest": 1})
    with pytest.raises(ValueError, match="make: 'data' cannot name an entry"):
        store.get("s", lambda: {"data": {"w": torch.ones(1)}})
    with pytest.raises(ValueError, match="v.w: got <object"):
        store.get("s", lambda: {"v": {"w": object()}})
    with pytest.raises(ValueError, match="code: there is no module 'cdlib.nothing'"):
        store.get("s", lambda: {"v": 1}, code=["cdlib.nothing"])
    with pytest.raises(ValueError, match="code: got 3"):
        store.get("s", lambda: {"v": 1}, code=[3])
    with pytest.raises(ValueError, match="code: expected a list"):
        store.get("s", lambda: {"v": 1}, code="cdlib.checks")
    with pytest.raises(ValueError, match="look pickled"):
        store.get_folder("s", lambda folder: torch.save(1, folder / "net.pt"))
    with pytest.raises(ValueError, match="at least one file"):
        store.get_folder("s", lambda folder: None)
    assert [p.name for p in store.root.iterdir()] == [".locks"]


def test_folder_artifact_is_made_once(store):
    made = []

    def write(folder: Path) -> None:
        made.append(1)
        (folder / "unet").mkdir()
        (folder / "unet" / "config.json").write_text("{}")

    first, second = (store.get_folder("net", write) for _ in range(2))
    assert first.path == second.path and len(made) == 1
    assert first.manifest["files"] == {"unet/config.json": 2} and len(first) == 0


def test_failure_leaves_nothing(store):
    def fail(folder: Path) -> None:
        (folder / "part.json").write_text("1")
        raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        store.get_folder("s", fail)
    assert [p.name for p in store.root.iterdir()] == [".locks"]


def test_what_a_stopped_run_left_is_there_for_the_next(store):
    def train(scratch: Path) -> dict:
        begun = sorted(one.name for one in scratch.iterdir())
        (scratch / f"step-{len(begun)}").touch()
        if len(begun) < 2:
            raise KeyboardInterrupt
        return {"begun": begun}

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            store.get("s", train, params={"a": 1}, resumable=True)
    other = store.get("s", lambda scratch: {"n": len(list(scratch.iterdir()))}, resumable=True)
    assert other["n"] == 0  # another key, another folder
    made = store.get("s", train, params={"a": 1}, resumable=True)
    assert made["begun"] == ["step-0", "step-1"]
    assert not list((store.root / ".unfinished").iterdir())
    assert store.get("s", train, params={"a": 1}, resumable=True).key == made.key


@pytest.mark.parametrize("damage", ["truncate", "remove", "garble", "no manifest"])
def test_damaged_artifact_is_made_again(store, damage):
    artifact = store.get("s", lambda: {"x": torch.ones(9), "n": 1})
    if damage == "truncate":
        (artifact.path / "data.safetensors").write_bytes(b"half")
    elif damage == "remove":
        (artifact.path / "n.json").unlink()
    elif damage == "garble":
        (artifact.path / "manifest.json").write_text('{"stage": ')
    else:
        (artifact.path / "manifest.json").unlink()
    with pytest.warns(UserWarning, match="is damaged and will be made again"):
        again = store.get("s", lambda: {"x": torch.ones(9), "n": 2})
    assert again.path == artifact.path and again["n"] == 2 and again["x"].sum() == 9
    assert store.get("s", lambda: pytest.fail("made twice"))["n"] == 2


def test_several_makers_share_one_result(store):
    made, found = [], []

    def make():
        made.append(1)
        time.sleep(0.2)
        return {"who": threading.get_ident()}

    def ask():
        found.append(store.get("s", make)["who"])

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 4 and len(set(found)) == 1


def run_python(text: str, *args: object) -> subprocess.Popen:
    root = Path(__file__).resolve().parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )


def test_kill_while_making_leaves_no_artifact(store):
    maker = run_python(
        """
        import sys, time
        from cdlib.store import Store
        def write(folder):
            (folder / "half.json").write_text("[1, 2")
            print("writing", flush=True)
            time.sleep(60)
        Store(sys.argv[1]).get_folder("s", write, params={"a": 1})
        """,
        store.root,
    )
    assert maker.stdout.readline() == "writing\n"
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    assert list(store.root.glob(".tmp-*")) and not list(store.root.glob("s-*"))
    other = store.get("s", lambda: {"v": 0}, params={"a": 2})  # not disturbed by what was left
    artifact = store.get("s", lambda: {"v": 1}, params={"a": 1})
    assert artifact["v"] == 1 and other["v"] == 0
    assert not list(store.root.glob(".tmp-*"))


def test_name_appears_by_the_last_move_alone(store, monkeypatch):
    def stop(source: Path, target: Path) -> None:
        assert json.loads((source / "manifest.json").read_text())["files"] == {"v.json": 2}
        assert not target.exists()
        raise OSError("stopped before the move")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", stop)
        with pytest.raises(OSError, match="stopped before the move"):
            store.get("s", lambda: {"v": 1})
    assert [p.name for p in store.root.iterdir()] == [".locks"]


def test_kill_at_any_moment_leaves_whole_artifacts(store):
    maker = run_python(
        """
        import sys, torch
        from cdlib.store import Store
        store = Store(sys.argv[1])
        print("ready", flush=True)
        for i in range(10_000):
            store.get("s", lambda: {"x": torch.full((20_000,), i), "i": i}, params={"i": i})
        """,
        store.root,
    )
    assert maker.stdout.readline() == "ready\n"
    time.sleep(0.5)
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()
    count = len(list(store.root.glob("s-*")))
    assert count > 0
    for i in range(count):
        found = store.get("s", lambda: pytest.fail("half an artifact"), params={"i": i})
        assert (found["x"] == i).all() and found["i"] == i


def test_root_by_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("CDLIB_STORE", str(tmp_path))
    assert Store().root == tmp_path.resolve()
    monkeypatch.delenv("CDLIB_STORE")
    assert Store().root.parts[-2:] == ("_build", "artifacts")


def test_nothing_in_the_library_pickles():
    for path in Path(cdlib.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        for banned in ("import pickle", "torch.load(", "torch.save(", "allow_pickle=True"):
            assert banned not in source, f"{path.name} has {banned}"
