"""What keys are made of: plain data, files, and code that counts with all it imports."""

from __future__ import annotations

import importlib
import json
import linecache
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdlib.store import Store, code_hash, fingerprint
from cdlib.store.keys import plain

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False).filter(
        lambda v: abs(v) != float("inf")
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(PLAIN)
def test_plain_data_survives_json(value):
    assert plain("v", value) == value == json.loads(json.dumps(plain("v", value)))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package `pkgN` whose stage imports a helper that imports another one."""
    name = f"pkg_{tmp_path.name}"
    files = {
        "__init__": "",
        "stage": f"from {name} import helper\n\ndef run():\n    return helper.f(1)\n",
        "helper": "def f(x):\n    from .sub import deep\n    return deep.g(x)\n",
        "sub/__init__": "",
        "sub/deep": '"""Docstring."""\nimport json\n\ndef g(x):\n    return x + 1\n',
        "unused": "X = 1\n",
    }
    for module, text in files.items():
        path = tmp_path / name / f"{module}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield name, tmp_path / name
    for module in [m for m in sys.modules if m.partition(".")[0] == name]:
        del sys.modules[module]


def test_changed_helper_is_noticed(tmp_path, package):
    name, folder = package
    store = Store(tmp_path / "artifacts")
    stage = importlib.import_module(f"{name}.stage")

    def ask(value):
        return store.get("s", lambda: {"v": value}, code=[stage.run])["v"]

    assert ask(1) == 1 and ask(2) == 1
    deep = folder / "sub" / "deep.py"
    deep.write_text(
        '"""Another."""\nimport json  # why\n\n\ndef g(x):\n    "doc"\n    return (x + 1)\n'
    )
    assert ask(3) == 1  # comments, docstrings and layout do not matter
    (folder / "unused.py").write_text("X = 2\n")
    assert ask(4) == 1  # nor does what is not imported
    deep.write_text("import json\n\ndef g(x):\n    return x + 2\n")
    assert ask(5) == 5  # two imports away
    (folder / "helper.py").write_text("def f(x):\n    return x\n")
    assert ask(6) == 6
    deep.write_text("g = None\n")
    assert ask(7) == 6  # no longer imported


def test_package_counts_with_all_its_modules(package):
    name, folder = package
    before = code_hash([name])
    assert before != code_hash([f"{name}.stage"])
    (folder / "unused.py").write_text("X = 3\n")
    assert code_hash([name]) != before
    assert code_hash([]) == ""


def test_function_of_a_notebook_counts_with_its_own_source():
    def in_main(value: int):
        source = f"def f():\n    return {value}\n"
        cell = f"<cell {value}>"
        linecache.cache[cell] = (len(source), None, source.splitlines(True), cell)
        scope = {"__name__": "__main__"}
        exec(compile(source, cell, "exec"), scope)
        return scope["f"]

    main, sys.modules["__main__"] = sys.modules["__main__"], type(sys)("__main__")
    try:
        assert code_hash([in_main(1)]) == code_hash([in_main(1)]) != code_hash([in_main(2)])
        with pytest.raises(ValueError, match="code: cannot read the source"):
            code_hash([eval("lambda: 1", {"__name__": "__main__"})])
    finally:
        sys.modules["__main__"] = main


def test_fingerprint_of_a_model_folder(tmp_path):
    (tmp_path / "unet").mkdir()
    weights = tmp_path / "unet" / "weights.safetensors"
    weights.write_bytes(b"abc")
    (tmp_path / "model_index.json").write_text('{"_class_name": "P", "unet": ["diffusers", "U"]}')
    first = fingerprint(tmp_path)
    assert first == fingerprint(str(tmp_path)) and first.startswith("sha256-")
    (tmp_path / "README.md").write_text("a model card is no part of the model")
    assert fingerprint(tmp_path) == first
    weights.write_bytes(b"abd")
    os.utime(weights, ns=(1, 1))
    assert fingerprint(tmp_path) != first
    assert fingerprint(weights) != fingerprint(tmp_path / "README.md")
    with pytest.raises(ValueError, match="path: .* is neither a file nor a folder"):
        fingerprint(tmp_path / "none")
