"""A prompt explorer for a live kernel: watch any model draw, and see where it puts each word."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import ipywidgets as w
import torch

from cdlib.explore import live_figures, live_model
from cdlib.explore.live_work import FIGURE, WRAP, Explorer, Work

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline


class PromptExplorer(Explorer):
    """Write a prompt, watch it become an image, ask where a word of it went, change one thing.

        explorer = PromptExplorer(pipe, "a photo of a bird")     # the last line of a cell shows it

    "Draw" denoises step by step; on the way it shows every few steps what the model takes the
    clean picture to be. The drawing before stays beside the new one. Cancel leaves both.

    guidance: the classifier-free scale, above 0; 1 is none. size: (H, W) in pixels, whole latent
    cells; None is what the model was made for. every: steps between two pictures on the way.

    controls: all the inputs by name, to be read and set. drawing, before: the last drawing and the
    one before it, None until there is one. draw, cancel: the buttons. wait(): until the work is
    over. What is wrong with a prompt or a number is said below the buttons.
    """

    def __init__(
        self,
        pipe: StableDiffusionPipeline,
        prompt: str = "a photo of a bird",
        *,
        seed: int = 0,
        steps: int = 50,
        guidance: float = 4.0,
        size: tuple[int, int] | None = None,
        every: int = 5,
    ) -> None:
        self.pipe, self.size, self.every = pipe, size, every
        self.drawing: live_model.Drawing | None = None
        self.before: live_model.Drawing | None = None
        narrow = {"layout": {"width": "150px"}, "style": {"description_width": "initial"}}
        self.controls = SimpleNamespace(
            prompt=w.Text(
                prompt,
                description="prompt",
                continuous_update=False,
                layout={"width": "480px", "max_width": "98%"},
            ),
            seed=w.IntText(seed, description="seed", **narrow),
            steps=w.IntText(steps, description="steps", **narrow),
            guidance=w.FloatText(guidance, step=0.5, description="guidance", **narrow),
            word=w.ToggleButtons(options=[], description="word", style={"button_width": "auto"}),
        )
        self.draw = w.Button(description="Draw", button_style="primary")
        self.work = Work(self.draw)
        self.cancel = self.work.cancel
        self.draw.on_click(lambda _: self._start())
        self.controls.word.observe(lambda _: self._redraw(), "value")
        self._lay_out()
        self.work.say("Write a prompt and press Draw.")

    def _lay_out(self) -> None:
        c = self.controls
        self.so_far = w.Image(layout=FIGURE)
        self.figure = w.Image(layout=FIGURE)
        c.word.layout.display = "none"  # until a prompt has been drawn
        self.widget = w.VBox(
            [
                c.prompt,
                w.HBox([c.seed, c.steps, c.guidance, self.draw], layout=WRAP),
                self.work.row,
                self.so_far,
                c.word,
                self.figure,
            ]
        )

    def _start(self) -> None:
        c = self.controls
        prompt = c.prompt.value
        how = {"seed": c.seed.value, "steps": c.steps.value, "guidance": c.guidance.value}

        def run() -> str:
            try:
                drawing = live_model.draw_prompt(
                    self.pipe,
                    prompt,
                    **how,
                    size=self.size,
                    every=self.every,
                    tick=self.work.tick,
                    show=self._show_so_far,
                )
            finally:
                self.so_far.layout.display = "none"
            self._take(drawing)
            return "Drawn. Choose a word to see where the model put it."

        self.work.start("Drawing", run)

    def _show_so_far(self, image: torch.Tensor) -> None:
        self.so_far.value = live_figures.thumbnail(image)
        self.so_far.layout.display = None

    def _take(self, drawing: live_model.Drawing) -> None:
        """A new drawing; the word stays if the prompt still has it, else it is the last."""
        word = self.controls.word
        chosen = word.value if word.value in drawing.maps else list(drawing.maps)[-1]
        figure = live_figures.drawing_figure(drawing, self.drawing, chosen)
        self.before, self.drawing = self.drawing, None  # no redraw while the words change
        word.options = list(drawing.maps)
        word.value = chosen
        self.drawing = drawing
        word.layout.display = self.figure.layout.display = None
        self.figure.value = figure

    def _redraw(self) -> None:
        if self.drawing is None or self.controls.word.value is None:
            return
        with self.work.told():
            self.figure.value = live_figures.drawing_figure(
                self.drawing, self.before, self.controls.word.value
            )
