"""Headless Chromium, the network cut: what each page of a built book logs, asks for and shows."""

from __future__ import annotations

import functools
import json
import shutil
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


def visit_pages(folder: Path) -> list[dict]:
    """Open every page under a built book's folder; skips the test where there is no Chromium."""
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    if not (chromium and driver_path):
        pytest.skip("no chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        pages = sorted(p for p in folder.rglob("*.html") if "_static" not in p.parts)
        return [visit(driver, home, str(page.relative_to(folder))) for page in pages]
    finally:
        driver.quit()
        server.shutdown()


def visit(driver: object, home: str, page: str) -> dict:
    """One page: errors it logged, addresses outside the book it asked for, images, formulas."""
    driver.get(home + page)
    time.sleep(0.5)  # scripts that start after loading
    requests = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [
        message["params"]["request"]["url"]
        for message in requests
        if message["method"] == "Network.requestWillBeSent"
    ]
    return {
        "page": page,
        "errors": [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"],
        "outside": [url for url in urls if url.startswith("http") and not url.startswith(home)],
        "broken images": driver.execute_script(
            "return [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        ),
        "maths": driver.execute_script("return document.querySelectorAll('mjx-container').length"),
    }


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
