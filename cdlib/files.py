"""Files that are there whole or not at all, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_whole(path: Path | str) -> Iterator[Path]:
    """A path beside `path` to write to; once the block has ended well, it takes `path`'s place.

        with written_whole("results.json") as aside:
            aside.write_text("{}")

    Until then, and for good if the block raises, `path` is what it was. Its folder is made if need
    be. What a killed writer leaves beside it, the next one overwrites.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix comes last: some writers, Pillow's and pandas', choose the format by it.
    aside = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        yield aside
        sync(aside)
        os.replace(aside, path)
        sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, on disk and not only on the way there."""
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
