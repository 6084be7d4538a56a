"""What keys are made of: plain data, the content of files, and the code that matters.

Code is hashed blind to comments, docstrings and layout. A function or class counts with the whole
module it is defined in, a package with all its modules, and every module with those of the same
top-level package that it imports, wherever the import stands, and so on. What other packages
contain is left to the manifest's library versions.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import math
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch


def digest(value: Any) -> str:
    """80 bits of hash of JSON data in its canonical form."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return sha256(text.encode()).hexdigest()[:20]


def tensor_digest(tensors: Iterable[torch.Tensor]) -> str:
    """80 bits of hash of some tensors' types, shapes and values, whatever their memory format."""
    content = sha256()
    for tensor in tensors:
        content.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        content.update(memoryview(flat.view(torch.uint8).numpy()))  # NumPy has no bfloat16
    return content.hexdigest()[:20]


def fingerprint(path: str | Path) -> str:
    """A key for files that no stage made: a hash of a file's, or a model folder's, contents.

    Of a diffusers folder only what the pipeline loads counts: model_index.json and the folders it
    names, so that a model card may change. Of any other folder, every visible file counts.
    """
    path = Path(path)
    if path.is_file():
        files = [path]
    elif path.is_dir():
        index = path / "model_index.json"
        parts = [path / n for n in json.loads(index.read_text())] if index.is_file() else [path]
        files = [f for part in parts for f in part.rglob("*") if f.is_file()]
        files = [f for f in files if not any(p[0] == "." for p in f.relative_to(path).parts)]
        files += [index] if index.is_file() else []
    else:
        raise ValueError(f"path: {str(path)!r} is neither a file nor a folder")
    if not files:
        raise ValueError(f"path: {str(path)!r} holds no files")
    stats = [(f.relative_to(path).as_posix(), f.resolve(), f.stat()) for f in sorted(set(files))]
    named = [[n, _file_digest(f, stat.st_size, stat.st_mtime_ns)] for n, f, stat in stats]
    return f"sha256-{digest(named)}"


@lru_cache(maxsize=4096)
def _file_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Hash of a file; size and time are there to read it again only when it has changed."""
    content = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()


def plain(name: str, value: Any) -> Any:
    """`value` as JSON data that reads back equal; ValueError naming the part that cannot be.

    Tuples become lists and NumPy scalars Python's; NaN, infinity and keys other than str are out.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return [plain(f"{name}[{i}]", v) for i, v in enumerate(value)]
    if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
        return {k: plain(f"{name}.{k}", v) for k, v in value.items()}
    allowed = "None, bool, int, finite float, str, lists and str-keyed dicts of these"
    shown = repr(value)[:80]
    raise ValueError(f"{name}: got {shown} of type {type(value).__name__}, allowed are {allowed}")


def code_hash(code: Sequence[Any]) -> str:
    """Hash of the functions, classes, modules or module names in `code`; "" if there are none."""
    if isinstance(code, str) or not isinstance(code, Sequence):
        raise ValueError(f"code: expected a list of functions or modules, got {code!r:.80}")
    digests: dict[str, str] = {}
    todo = []
    for item in code:
        name = _module_name(item)
        if name is None:  # defined in a notebook: no file, so its own source alone
            own = _notebook_digest(item)
            digests[f"__main__.{item.__qualname__}.{own}"] = own
        else:
            todo.append(name)
    while todo:
        name = todo.pop()
        for path in _files(name):
            module = _dotted(name, path)
            if module not in digests:
                source = path.read_text(encoding="utf-8")
                digests[module] = source_hash(source)
                todo += _imported(source, module, path.name == "__init__.py")
    if not digests:
        return ""
    text = "\n".join(f"{name} {own}" for name, own in sorted(digests.items()))
    return sha256(text.encode()).hexdigest()[:20]


def _module_name(item: Any) -> str | None:
    """The module that stands for `item`; None for a function or class of a notebook."""
    if isinstance(item, str):
        return item
    if isinstance(item, ModuleType):
        return item.__name__
    name = getattr(item, "__module__", None)
    if name is None or not hasattr(item, "__qualname__"):
        raise ValueError(f"code: got {item!r:.80}, allowed are functions, classes and modules")
    if name == "__main__":  # python -m package.module, or a notebook
        spec = sys.modules["__main__"].__spec__
        return spec.name if spec else None
    return name


def _notebook_digest(item: Any) -> str:
    try:
        return source_hash(textwrap.dedent(inspect.getsource(item)))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"code: cannot read the source of {item!r}; define it with def") from error


def _files(name: str) -> list[Path]:
    """The source of a module, or of all modules of a package."""
    spec = _find(name)
    if spec is None:
        raise ValueError(f"code: there is no module {name!r}")
    if spec.submodule_search_locations:
        return sorted(f for d in spec.submodule_search_locations for f in Path(d).rglob("*.py"))
    if not spec.origin or not spec.origin.endswith(".py"):
        raise ValueError(f"code: module {name!r} has no Python source")
    return [Path(spec.origin)]


def _dotted(name: str, path: Path) -> str:
    """The full name of a file that `_files(name)` found."""
    spec = _find(name)
    if not spec.submodule_search_locations:
        return name
    folder = next(d for d in spec.submodule_search_locations if path.is_relative_to(d))
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _imported(source: str, module: str, is_package: bool) -> Iterator[str]:
    """Modules of the same top-level package that a module imports anywhere in its text."""
    top = module.partition(".")[0]
    here = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.partition(".")[0] == top)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), here)
            if base.partition(".")[0] == top:
                for alias in node.names:
                    inner = f"{base}.{alias.name}"
                    # a name that is no module is something the base defines or passes on
                    yield inner if _exists(inner, base) else base


def _exists(inner: str, base: str) -> bool:
    spec = _find(base)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return is_package and _find(inner) is not None


def _find(name: str) -> ModuleSpec | None:
    """Where a module is, without importing the packages that it is in, which may take long."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations)
    return spec


@lru_cache(maxsize=1024)
def source_hash(source: str) -> str:
    """Hash of Python source, blind to comments, docstrings and layout."""
    return sha256(_meaning(ast.parse(source)).encode()).hexdigest()


def _meaning(node: Any) -> str:
    """The syntax tree as text, without bare strings and without empty fields.

    ast.dump would do, but what it prints for empty fields differs between versions of Python.
    """
    if isinstance(node, ast.AST):
        fields = ((n, v) for n, v in ast.iter_fields(node) if v not in (None, []))
        return f"{type(node).__name__}({','.join(f'{n}={_meaning(v)}' for n, v in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_meaning(n) for n in node if not _is_bare_string(n))}]"
    return repr(node)


def _is_bare_string(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
