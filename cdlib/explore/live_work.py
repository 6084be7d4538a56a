"""Work in a thread beside the kernel's own, so that its Cancel button is heard while it runs."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Lock, Thread

from ipywidgets import HTML, Button, HBox, IntProgress, Widget

WRAP = {"flex_flow": "row wrap", "align_items": "center"}
FIGURE = {"max_width": "98%", "display": "none"}  # until there is one

# The model works for one explorer at a time: both would hang hooks on the same U-Net.
_MODEL = Lock()


class Cancelled(Exception):
    """The reader has pressed Cancel."""


class Work:
    """One piece of work at a time, with its bar, its Cancel button and a line for what it says.

    buttons: those that start work; they are out of use while there is some. error: what ended the
    last work, whole; the reader sees its message.
    """

    def __init__(self, *buttons: Button) -> None:
        self.buttons = buttons
        self.bar = IntProgress(description="progress", layout={"width": "260px"})
        self.cancel = Button(description="Cancel", disabled=True, tooltip="Stop at the next step")
        self.cancel.on_click(lambda _: self._stop.set())
        self.says = HTML()
        self.message = ""
        self.error: Exception | None = None
        self.row = HBox([self.cancel, self.bar, self.says], layout={"flex_flow": "row wrap"})
        self._stop = Event()
        self._thread: Thread | None = None

    @property
    def busy(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self, what: str, work: Callable[[], str]) -> None:
        """Run `work` in a thread and then say what it returns; it calls `tick` as it goes."""
        if self.busy:
            self.say("Still at work: wait, or press Cancel.")
            return
        self._stop.clear()
        self.error = None
        self.bar.value = 0
        self.say(f"{what} ...")
        self._enable(False)
        self._thread = Thread(target=self._run, args=(work,), daemon=True, name="cdlib explorer")
        self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Until the work is over, or `timeout` seconds have passed: whether it is over."""
        if self._thread is not None:
            self._thread.join(timeout)
        return not self.busy

    def tick(self, done: int, total: int) -> None:
        """Move the bar. Raises Cancelled if the reader has pressed Cancel."""
        if self._stop.is_set():
            raise Cancelled
        self.bar.max, self.bar.value = total, done

    def say(self, text: str, *, alert: bool = False) -> None:
        self.message = text
        role, colour = ("alert", "var(--jp-error-color1, #b00020)") if alert else ("status", "")
        self.says.value = f'<div role="{role}" style="color: {colour}">{html.escape(text)}</div>'

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever goes wrong inside is said, and goes no further."""
        try:
            yield
        except Cancelled:
            self.say("Cancelled. What was there before has stayed.")
        except Exception as error:  # a traceback would end up in the kernel's log, unseen
            self.error = error
            expected = isinstance(error, ValueError | RuntimeError) and str(error)
            self.say(str(error) if expected else f"{type(error).__name__}: {error}", alert=True)

    def _run(self, work: Callable[[], str]) -> None:
        try:
            with self.told():
                while not _MODEL.acquire(timeout=0.1):
                    if self._stop.is_set():
                        raise Cancelled
                try:
                    said = work()
                finally:
                    _MODEL.release()
                self.bar.value = self.bar.max
                self.say(said)
        finally:
            self._enable(True)

    def _enable(self, ready: bool) -> None:
        for button in self.buttons:
            button.disabled = not ready
        self.cancel.disabled = ready


class Explorer:
    """What explorers share: `widget` is what Jupyter shows, `work` what runs behind its buttons."""

    widget: Widget
    work: Work

    def _repr_mimebundle_(self, **kwargs: object) -> dict:
        return self.widget._repr_mimebundle_(**kwargs)

    def wait(self, timeout: float | None = None) -> bool:
        """Until the work is over, or `timeout` seconds have passed: whether it is over."""
        return self.work.wait(timeout)

    @property
    def message(self) -> str:
        """What the explorer says below its buttons."""
        return self.work.message
