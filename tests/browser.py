"""Headless Chromium, the network cut: what each page of a built book logs, asks for and shows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cdlib.explore.browser import NoBrowser, open_book


@contextmanager
def browsing(folder: Path, **how) -> Iterator[tuple]:
    """Driver and address of a built book; skips the test where there is no Chromium."""
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(open_book(folder, **how))
        except NoBrowser as error:
            pytest.skip(str(error))
        yield opened


def visit_pages(folder: Path) -> list[dict]:
    """Open every page under a built book's folder."""
    pages = sorted(p for p in folder.rglob("*.html") if "_static" not in p.parts)
    with browsing(folder) as (driver, home):
        return [visit(driver, home, str(page.relative_to(folder))) for page in pages]


def visit(driver: object, home: str, page: str) -> dict:
    """One page: errors it logged, addresses outside the book it asked for, images, formulas."""
    driver.get(home + page)
    time.sleep(0.5)  # scripts that start after loading
    return {
        "page": page,
        **logged(driver, home),
        "broken images": driver.execute_script(
            "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        ),
        "maths": driver.execute_script("return document.querySelectorAll('mjx-container').length"),
    }


def logged(driver: object, home: str) -> dict[str, list[str]]:
    """Since last asked: "errors" that the browser logged, addresses "outside" that it asked for."""
    requests = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in requests
        if message["method"] == "Network.requestWillBeSent"
    ]
    return {
        "errors": [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"],
        "outside": [url for url in urls if url.startswith("http") and not url.startswith(home)],
    }
