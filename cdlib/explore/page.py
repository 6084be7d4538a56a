"""An explorer's place in a page: where its data lies, what stands there without scripts."""

from __future__ import annotations

import gzip
import html
import io
import os
import re
import shutil
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from cdlib.results import RESULTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXPLORERS = ("masks", "model")  # modules of web/src that mount themselves
VENDOR = "node_modules/onnxruntime-web/dist"
RUNTIME = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs")
WASM = "ort-wasm-simd-threaded.wasm"
_SOURCE = re.compile(r"[a-z0-9_-]+")


def data_folder(source: str) -> Path:
    """Where a chapter writes what an explorer shows: beside the results of its build.

    source: the explorer's data-source, lower-case letters, digits, - and _.
    """
    if not _SOURCE.fullmatch(source):
        raise ValueError(f"source = {source!r} is not allowed: use a-z, 0-9, - and _.")
    results = Path(os.environ.get("CDLIB_RESULTS") or RESULTS)
    return results.parent / "explore" / source


def folder_sizes(source: str) -> dict[str, int]:
    """Bytes of each file of an explorer's data, those of its pictures together."""
    folder = data_folder(source)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    sizes = {file.name: file.stat().st_size for file in files if file.suffix != ".png"}
    pictures = [file.stat().st_size for file in files if file.suffix == ".png"]
    return sizes | ({"pictures": sum(pictures)} if pictures else {})


def show_explorer(name: str, source: str, fig: Figure, *, alt: str, says: str) -> None:
    """Show an explorer in the page, and `fig` with what it `says` where no script runs.

    name: one of `EXPLORERS`. source: as in `data_folder`. alt: what is to be seen in the figure.
    The figure is closed.
    """
    from IPython.display import HTML, display
    from matplotlib import pyplot as plt

    if name not in EXPLORERS:
        raise ValueError(f"name = {name!r} is not allowed: give one of {', '.join(EXPLORERS)}.")
    for key, text in (("alt", alt), ("says", says)):
        if not text.strip():
            raise ValueError(f"{key} = {text!r} is not allowed: say in words what {name} shows.")
    data_folder(source)
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=144, bbox_inches="tight", facecolor="white")
    plt.close(fig)
    still = b64encode(buffer.getvalue()).decode()
    display(
        HTML(
            f'<div class="cd-explorer" data-explorer="{name}" data-source="{source}">'
            f'<img src="data:image/png;base64,{still}" alt="{html.escape(alt)}">'
            f"<p>{html.escape(says)}</p></div>"
        )
    )


def check_packages(web: Path) -> None:
    """Raises FileNotFoundError where the packages of web/package-lock.json are not installed."""
    if not (web / VENDOR / WASM).exists():
        raise FileNotFoundError(
            f"{web / VENDOR / WASM}: is missing; `npm ci --prefix web` installs it, as "
            "`make environment` does."
        )


def lay_out(web: Path, written: Path, static: Path) -> None:
    """Put the explorers' scripts, their runtime and their data into a page's `static` folder.

    web: the folder of package.json, its packages installed. written: the folder that holds what
    chapters wrote, a folder for each source; may be absent. The runtime's WebAssembly is stored
    compressed, since a plain file server would send it as it is: a quarter of its 14 MB.
    Raises FileNotFoundError as `check_packages` does.
    """
    check_packages(web)
    runtime = web / VENDOR
    shutil.rmtree(static, ignore_errors=True)
    shutil.copytree(web / "src", static)
    vendor = static / "vendor"
    vendor.mkdir()
    for file in RUNTIME:
        shutil.copy(runtime / file, vendor / file)
    packed = gzip.compress((runtime / WASM).read_bytes(), compresslevel=9, mtime=0)
    (vendor / f"{WASM}.gz").write_bytes(packed)
    if written.exists():
        shutil.copytree(written, static / "data")
