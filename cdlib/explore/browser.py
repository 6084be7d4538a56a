"""A built book in headless Chromium, its network cut: for tests, and to time the explorers."""

from __future__ import annotations

import functools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

_EVENT = "arguments[0].dispatchEvent(new Event(arguments[1], {bubbles: true}))"


class NoBrowser(Exception):
    """There is no Chromium with its driver on this machine."""


@contextmanager
def open_book(folder: Path, *, width: int = 1280, dark: bool = False) -> Iterator[tuple]:
    """A driver (selenium's) and the address, ending in a slash, at which `folder` is served.

    Nothing but that address can be reached. width: of the window, in pixels; a phone has 360.
    Raises NoBrowser where Chromium, chromedriver or selenium is missing.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver_path = shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        raise NoBrowser("selenium is not installed") from None
    if not (chromium and driver_path):
        raise NoBrowser("no chromium with chromedriver on this machine")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--window-size={max(width, 500)},1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver_path))
    try:
        # a window is at least 500 pixels wide, a page as wide as it is told
        metrics = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": width < 500}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        yield driver, f"http://127.0.0.1:{server.server_port}/"
    finally:
        driver.quit()
        server.shutdown()


class Hands:
    """On the page that a selenium driver has open: finds controls by data-testid and works them."""

    def __init__(self, driver: object) -> None:
        self.driver = driver

    def run(self, script: str, *arguments: object) -> object:
        return self.driver.execute_script(script, *arguments)

    def find(self, testid: str) -> object:
        return self.driver.find_element("css selector", f'[data-testid="{testid}"]')

    def enabled(self, testid: str) -> bool:
        """Is the control there and can it be used?"""
        script = "const e = document.querySelector(arguments[0]); return e !== null && !e.disabled"
        return self.run(script, f'[data-testid="{testid}"]')

    def wait(self, holds: Callable[[], object], what: str, seconds: float = 60) -> object:
        """Until `holds()` is true; its answer. AssertionError that says `what` did not come."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if found := holds():
                return found
            time.sleep(0.1)
        raise AssertionError(f"after {seconds} s still waiting: {what}")

    def wait_until_ready(self) -> None:
        """Until every explorer of the page is ready or has failed."""
        waiting = "return document.querySelectorAll('[data-explorer]:not([data-state])').length"
        self.wait(lambda: self.run(waiting) == 0, "explorers to start")

    def text(self, testid: str) -> str:
        return self.run("return arguments[0].textContent", self.find(testid)).strip()

    def number(self, testid: str) -> float:
        return float(self.text(testid))

    def click(self, testid: str) -> None:
        self.run("arguments[0].click()", self.find(testid))
        time.sleep(0.2)

    def choose(self, testid: str, value: str) -> None:
        self._set(testid, value, "change")

    def slide(self, testid: str, value: float) -> None:
        self._set(testid, value, "input")

    def write(self, testid: str, text: str) -> None:
        self._set(testid, text, "input")

    def _set(self, testid: str, value: object, event: str) -> None:
        control = self.find(testid)
        self.run("arguments[0].value = arguments[1]", control, str(value))
        self.run(_EVENT, control, event)
        assert str(control.get_property("value")) == str(value) or event == "input", testid
        time.sleep(0.1)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
