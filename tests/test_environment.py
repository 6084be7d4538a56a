"""One set of versions: pyproject.toml, requirements.lock and environment.yml say the same."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [
    Requirement(line)
    for line in PROJECT["dependencies"] + sum(PROJECT["optional-dependencies"].values(), [])
]
LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
]
PINNED = {
    canonicalize_name(one.name): next(iter(one.specifier)).version
    for one in LOCK
    if len(one.specifier) == 1
}


def test_every_locked_package_has_one_exact_public_version():
    for one in LOCK:
        operators = [specifier.operator for specifier in one.specifier]
        assert operators == ["=="] and one.url is None, str(one)
        assert Version(PINNED[canonicalize_name(one.name)]).local is None, str(one)
    assert len(PINNED) == len(LOCK), "a package is locked twice"


@pytest.mark.parametrize("direct", DIRECT, ids=lambda one: one.name)
def test_lock_satisfies_every_direct_dependency(direct):
    pinned = PINNED.get(canonicalize_name(direct.name))
    assert pinned, f"{direct.name} is not in requirements.lock: make lock"
    assert direct.specifier.contains(pinned, prereleases=True), f"{direct} but {pinned} is locked"


def test_torch_is_pinned_alike():
    torch = next(one for one in DIRECT if one.name == "torch")
    assert str(torch.specifier) == f"=={PINNED['torch']}"


def test_lock_is_closed_under_requirements():
    """What a locked package requires on this machine is locked too (a GPU build's parts aside)."""
    missing = set()
    for one in LOCK:
        try:
            needs = importlib.metadata.requires(one.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # not for this platform
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                missing.add(canonicalize_name(need.name))
    missing -= set(PINNED)
    assert not {m for m in missing if not m.startswith(("nvidia", "cuda", "triton"))}


def test_no_torchvision():
    """It has no build that fits the pinned torch everywhere, so nothing may lean on it."""
    assert "torchvision" not in PINNED


def test_conda_environment_installs_the_same_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    listed = environment["dependencies"]
    [pip] = [entry["pip"] for entry in listed if isinstance(entry, dict)]
    assert pip == ["-r requirements.lock", "-e ."]
    assert environment["name"] == PROJECT["name"]
    [python] = [Requirement(one) for one in listed if str(one).startswith("python")]
    lowest = PROJECT["requires-python"].removeprefix(">=")
    assert python.specifier.contains(lowest)


def test_imports_are_declared():
    """Every package that cdlib or a test imports is a direct dependency."""
    ours = {"cdlib", *(path.stem for path in (ROOT / "tests").glob("*.py"))}
    names = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(one.name) for one in DIRECT}
    undeclared = {}
    for path in [*(ROOT / "cdlib").rglob("*.py"), *(ROOT / "tests").glob("*.py")]:
        for top in imported_packages(path) - ours - set(sys.stdlib_module_names):
            distributions = {canonicalize_name(name) for name in names.get(top, [top])}
            if not distributions & declared:
                undeclared.setdefault(top, []).append(path.name)
    assert not undeclared


def imported_packages(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def test_interpreter_is_one_that_is_promised():
    assert re.fullmatch(r">=3\.\d+", PROJECT["requires-python"])
    assert sys.version_info >= (3, 11)
