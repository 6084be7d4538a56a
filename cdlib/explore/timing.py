"""How long the explorers take, in the built book in headless Chromium; kept in web/timings.json.

    python -m cdlib.explore.timing             # after `make book`; needs chromium and chromedriver

A reader's browser takes its own time and says so in the page; these numbers are of one machine,
which the file names.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from datetime import date
from pathlib import Path
from statistics import median

from cdlib.explore.browser import Hands, NoBrowser, open_book
from cdlib.files import written_whole

ROOT = Path(__file__).resolve().parents[2]
PAGE = "notebooks/09_explorer.html"
FILE = ROOT / "web" / "timings.json"
MOVES = 40  # of a slider
DRAWING = {"model-steps": 16, "model-guidance": 4}


def measure(html: Path) -> dict[str, float]:
    """Work both explorers of the book built under `html`; what they took, in ms, s and MB."""
    with open_book(html) as (driver, home):
        driver.get(home + PAGE)
        hands = Hands(driver)
        hands.wait_until_ready()
        found = {"slider_ms": _slider_ms(hands)}
        hands.click("model-load")
        hands.wait(lambda: hands.enabled("model-draw"), "the model to load", 120)
        for control, value in DRAWING.items():
            hands.slide(control, value)
        _press(hands, "model-draw", "Drawn in")
        found |= {"load_s": hands.number("model-load-seconds")}
        found |= {"first_image_s": hands.number("model-first-image-seconds")}
        found |= {"pass_ms": hands.number("model-pass-ms")}
        found["look_s"] = _press(hands, "model-look", "found in")
        found["remove_s"] = _press(hands, "model-remove", "Painted over in")
        found["browser"] = driver.capabilities["browserVersion"].split(".")[0]
    return found


def _slider_ms(hands: Hands) -> float:
    """The median over moves of one slider, as the page itself takes its time."""
    hands.choose("mask-rule", "percentile")
    times = []
    for move in range(MOVES):
        hands.slide("mask-percentile", 30 + move)
        times.append(_number_in(hands.text("mask-time")))
    hands.click("preset-book")
    return median(times)


def _press(hands: Hands, testid: str, done: str) -> float:
    """Press a button and wait until its status says that it is done, and after how many seconds."""
    hands.click(testid)
    status = f"{testid}-status"
    hands.wait(lambda: done in hands.text(status), f"{testid}: {done!r}", 180)
    return _number_in(hands.text(status).split(done)[1])


def _number_in(text: str) -> float:
    return float(re.search(r"\d+(\.\d+)?", text)[0])


def load_timings() -> dict:
    """What was measured last: "times" by name, and on what: "hardware", "browser", "date".

    "steps": of the picture that was drawn.
    """
    return json.loads(FILE.read_text(encoding="utf-8"))


def main() -> int:
    """The command: 0 when the times were taken, 1 for what is missing."""
    html = ROOT / "_build" / "html"
    if not (html / PAGE).exists():
        print(f"{html / PAGE}: is missing; `make book` builds it.", file=sys.stderr)
        return 1
    try:
        found = measure(html)
    except NoBrowser as error:
        print(error, file=sys.stderr)
        return 1
    browser = found.pop("browser")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    told = {
        "command": "python -m cdlib.explore.timing",
        "date": date.today().isoformat(),
        "hardware": f"{platform.machine()}, {cores} cores",
        "browser": f"Chromium {browser}, headless",
        "steps": DRAWING["model-steps"],
        "times": found,
    }
    with written_whole(FILE) as aside:
        aside.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
