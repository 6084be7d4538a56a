"""Artifacts: the result of a stage, kept in a folder under a key made of all that made it.

    store = Store()
    m_hat = store.get(
        "m_hat",
        lambda: {"m_hat": concept_attention(pipe, data.images, prompt=prompt, word="bird")},
        params={"prompt": prompt, "t0": 40},
        inputs=[fingerprint(weights)],
        code=[concept_attention],
    )["m_hat"]

Asked for again, with nothing changed, the folder is read back. The key is made of stage,
parameters, seed, inputs and the code that matters: change a helper, and the artifact is made anew.
A folder is written aside and renamed once it is whole, so that a kill leaves no half artifact.
Nothing is pickled: tensors go to safetensors, tables to parquet, images to PNG, the rest to JSON.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ..files import sync
from .keys import code_hash, digest, plain

MANIFEST, TENSORS = "manifest.json", "data.safetensors"
LIBRARIES = ("torch", "diffusers", "transformers", "numpy", "scipy", "scikit-learn", "scikit-image")
PICKLED = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin"}
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Artifact(Mapping):
    """A finished folder: a mapping from entry names to values, each read when asked for.

    key: its name in the store. path: its folder. manifest: what made it.
    """

    def __init__(self, path: Path, manifest: dict[str, Any]) -> None:
        self.path, self.manifest, self.key = path, manifest, manifest["key"]

    def __getitem__(self, name: str) -> Any:
        kinds = self.manifest["entries"]
        if name not in kinds:
            near = get_close_matches(str(name), kinds, 1)
            hint = f", did you mean {near[0]!r}" if near else ""
            raise KeyError(f"{name!r} is not in artifact {self.key}{hint}; it has {sorted(kinds)}")
        return _read(self.path, name, kinds[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.manifest["entries"])

    def __len__(self) -> int:
        return len(self.manifest["entries"])

    def __repr__(self) -> str:
        return f"Artifact({self.key}: {', '.join(self) or 'files'})"


class Store:
    """A folder of artifacts; `root` is CDLIB_STORE or else _build/artifacts in the repository."""

    def __init__(self, root: str | Path | None = None) -> None:
        self.root = Path(root or os.environ.get("CDLIB_STORE") or _default_root()).resolve()

    def get(self, stage: str, make: Callable[..., Mapping[str, Any]], **made_of: Any) -> Artifact:
        """Return the artifact, calling `make` if there is none.

        make: returns {name: value} of tensors, dicts of tensors (a module's state), arrays,
            DataFrames, PIL images, or plain JSON data.
        made_of: `params`, `seed`, `inputs`, `code`, `device` and `resumable`, as in `get_folder`.
        """

        def write(folder: Path, *scratch: Path) -> dict[str, str]:
            return _write_all(folder, make(*scratch))

        return self.get_folder(stage, write, **made_of)

    def get_folder(
        self,
        stage: str,
        write: Callable[..., Mapping[str, str] | None],
        *,
        params: Mapping[str, Any] | None = None,
        seed: int | None = None,
        inputs: Sequence[Artifact | str] = (),
        code: Sequence[Any] = (),
        device: str | torch.device = "cpu",
        resumable: bool = False,
    ) -> Artifact:
        """Return the artifact, calling `write(folder)` to fill its folder if there is none.

        For what has a file format of its own, such as a diffusers model: read it back from `path`.
        params: plain JSON data, all that the result depends on. inputs: artifacts, their keys, or
        fingerprints. code: functions or modules; they count with the modules of the same package
        that they import, and theirs. device is recorded but is no part of the key. resumable: call
        `write(folder, scratch)` instead, with a second folder for checkpoints: what a run that was
        killed left there the next one finds; it goes once the artifact is whole.
        """
        if not NAME.fullmatch(stage):
            raise ValueError(f"stage: got {stage!r}, allowed are letters, digits, '_', '-', '.'")
        made_of = {
            "stage": stage,
            "params": plain("params", dict(params or {})),
            "seed": plain("seed", seed),
            "inputs": [_input_key(i, v) for i, v in enumerate(inputs)],
            "code": code_hash(code),
        }
        key = f"{stage}-{digest(made_of)}"
        final = self.root / key
        found = self._load(final)
        if found is not None:  # a mapping, and false when empty
            return found
        (self.root / ".locks").mkdir(parents=True, exist_ok=True)
        # of several makers at once one works, the others wait for its result; the system lets go
        # of the lock of a process that dies
        with FileLock(self.root / ".locks" / f"{key}.lock"):
            found = self._load(final, warn=True)
            if found is not None:
                return found
            # whoever left these behind held this lock, so is gone
            for leftover in [final, *self.root.glob(f".tmp-{key}-*")]:
                shutil.rmtree(leftover, ignore_errors=True)
            manifest = {"key": key, **made_of, "device": str(device)}
            if not resumable:
                return self._make(final, write, manifest)
            scratch = self.root / ".unfinished" / key
            scratch.mkdir(parents=True, exist_ok=True)
            made = self._make(final, lambda folder: write(folder, scratch), manifest)
            shutil.rmtree(scratch)
            return made

    def _make(self, final: Path, write: Callable, manifest: dict[str, Any]) -> Artifact:
        aside = Path(mkdtemp(prefix=f".tmp-{final.name}-", dir=self.root))
        try:
            start = time.perf_counter()
            entries = write(aside)
            manifest["seconds"] = round(time.perf_counter() - start, 3)
            manifest["created"] = datetime.now(UTC).isoformat(timespec="seconds")
            manifest["libraries"] = _library_versions()
            manifest["entries"] = dict(entries or {})
            files = sorted(f for f in aside.rglob("*") if f.is_file())
            _check_files(aside, files)
            manifest["files"] = {f.relative_to(aside).as_posix(): f.stat().st_size for f in files}
            _write_json(aside / MANIFEST, manifest)
            aside.chmod(0o755)  # mkdtemp's folders are for one user alone
            folders = [d for d in aside.rglob("*") if d.is_dir()]
            for path in [*files, aside / MANIFEST, *folders, aside]:
                sync(path)  # all of it is on disk before the name appears
            os.rename(aside, final)
            sync(self.root)
            return Artifact(final, manifest)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _load(self, path: Path, warn: bool = False) -> Artifact | None:
        """The artifact at `path`; None, with a warning if asked, if there is no whole one."""
        if not path.exists():
            return None
        try:
            manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
            for name, size in manifest["files"].items():
                if (path / name).stat().st_size != size:
                    raise ValueError(f"{name} is not {size} bytes long")
            return Artifact(path, manifest)
        except (OSError, ValueError, KeyError) as error:
            if warn:
                message = f"artifact {path.name} is damaged and will be made again: {error}"
                warnings.warn(message, stacklevel=4)
            return None


def _write_all(folder: Path, values: Mapping[str, Any]) -> dict[str, str]:
    """Write each value in the format for its type; returns {name: kind}."""
    if not isinstance(values, Mapping) or not values:
        raise ValueError(f"make: must return a dict of named values, returned {values!r:.80}")
    kinds, tensors = {}, {}
    for name, value in values.items():
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in ("manifest", "data"):
            raise ValueError(f"make: {name!r} cannot name an entry")
        if isinstance(value, (torch.Tensor, np.ndarray)):
            kinds[name] = "tensor" if isinstance(value, torch.Tensor) else "array"
            if isinstance(value, np.ndarray):
                value = torch.from_numpy(np.array(value, order="C"))
            tensors[name] = value
        elif isinstance(value, dict) and value and _all_tensors(value.values()):
            kinds[name] = "tensors"
            _save_tensors(value, folder / f"{name}.safetensors")
        elif isinstance(value, pd.DataFrame):
            kinds[name] = "table"
            value.to_parquet(folder / f"{name}.parquet")
        elif isinstance(value, Image.Image):
            kinds[name] = "image"
            value.save(folder / f"{name}.png")
        else:
            kinds[name] = "json"
            _write_json(folder / f"{name}.json", plain(name, value))
    if tensors:
        _save_tensors(tensors, folder / TENSORS)
    return kinds


def _save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    # cloned, since safetensors refuses tensors that share memory
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}, path)


def _all_tensors(values: Iterable[Any]) -> bool:
    return all(isinstance(value, torch.Tensor) for value in values)


def _read(folder: Path, name: str, kind: str) -> Any:
    if kind in ("tensor", "array"):
        with safe_open(folder / TENSORS, framework="pt") as file:
            tensor = file.get_tensor(name)
        return tensor if kind == "tensor" else tensor.numpy()
    if kind == "tensors":
        return load_file(folder / f"{name}.safetensors")
    if kind == "table":
        return pd.read_parquet(folder / f"{name}.parquet")
    if kind == "image":
        with Image.open(folder / f"{name}.png") as image:
            image.load()
        return image
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def _check_files(folder: Path, files: list[Path]) -> None:
    pickled = [f.name for f in files if f.suffix in PICKLED]
    if pickled:
        raise ValueError(f"write: {pickled} look pickled; use safetensors, parquet, PNG or JSON")
    if not files or folder / MANIFEST in files:
        raise ValueError(f"write: must leave at least one file, and none called {MANIFEST}")


def _input_key(i: int, value: Artifact | str) -> str:
    if isinstance(value, Artifact):
        return value.key
    if isinstance(value, str) and value:
        return value
    raise ValueError(
        f"inputs[{i}]: got {value!r:.80}, allowed are an artifact, a key, a fingerprint"
    )


def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # not all of them are needed everywhere
            continue
    return versions


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _default_root() -> Path:
    """_build/artifacts in the checkout this file is in, or where one stands if it is installed."""
    home = Path(__file__).resolve().parents[1]
    return (home if (home / "pyproject.toml").is_file() else Path.cwd()) / "_build" / "artifacts"
