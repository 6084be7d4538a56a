"""Hands on an explorer in a page: finds controls by their data-testid and works them."""

from __future__ import annotations

import time

SETTLE = "arguments[0].dispatchEvent(new Event(arguments[1], {bubbles: true}))"


class Hands:
    """Works the controls of the page that a selenium driver has open."""

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

    def wait(self, holds, what: str, seconds: float = 60) -> object:
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
        self.run(SETTLE, control, event)
        assert str(control.get_property("value")) == str(value) or event == "input", testid
        time.sleep(0.1)
