"""The network: the paper's U-Net (section 6.1), of any width, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from monai.networks.nets.basic_unet import BasicUNet, UpCat
from torch import nn

from cdlib.checks import whole_number

LEVELS = (1, 2, 4, 8, 16)  # channels at each level, in widths
CELL = 16  # pixels to a cell of the coarsest level: four halvings


class Segmenter(nn.Module):
    """A U-Net (Ronneberger et al., 2015) that says of each pixel how likely it is the object's.

    width: channels at the finest level, doubled at each of the four below it. 64 has the 31 million
        weights of the paper's, 8 half a million.
    trained: plain data about its training, kept in files beside the weights.
    """

    def __init__(self, width: int = 8, trained: Mapping[str, object] | None = None) -> None:
        super().__init__()
        self.width = whole_number("width", width, 1)
        self.trained = dict(trained or {})
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=1,
            features=(*(width * times for times in LEVELS), width),
            act=("relu", {"inplace": True}),
            norm="batch",
            bias=False,  # of the 3x3 convolutions: the normalisation behind them has its own
        )
        for layer in self.unet.modules():
            if isinstance(layer, UpCat):
                layer.is_pad = False  # sides are multiples of CELL: nothing to fill up

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) in [0, 1] to logits (N, H, W)."""
        height, width = images.shape[2:]
        logits = self.unet(whole_cells(images) * 2 - 1)
        return logits[:, 0, :height, :width]

    def predict(
        self, images: torch.Tensor | Sequence[torch.Tensor], batch_size: int = 64
    ) -> torch.Tensor | list[torch.Tensor]:
        """How likely each pixel is the object's, in [0, 1]: (N, H, W) float32.

        images: (N, 3, H, W) in [0, 1], H and W as you like, on any device; the answer is on theirs.
        Or a sequence of (3, H, W) of different sizes; then a list of (H, W). Each is judged alone:
        what else is in its batch makes no difference.
        """
        if not isinstance(images, torch.Tensor):
            return [self.predict(image[None])[0] for image in images]
        check_images("images", images)
        where, was_training = next(self.parameters()).device, self.training
        self.eval()  # normalise by what was learned, not by the batch
        try:
            with torch.no_grad():
                parts = [
                    self(part.to(where, torch.float32)).sigmoid().to(images.device)
                    for part in images.split(whole_number("batch_size", batch_size, 1))
                ]
        finally:
            self.train(was_training)
        return torch.cat(parts)


def whole_cells(images: torch.Tensor) -> torch.Tensor:
    """Repeat the last row and the last column until both sides are multiples of CELL."""
    # By index and not by padding: a size that is known only when the net runs, as in an ONNX file,
    # is then no different from one that is known before.
    rows, columns = (
        torch.arange((side + CELL - 1) // CELL * CELL, device=images.device).clamp(max=side - 1)
        for side in images.shape[2:]
    )
    return images.index_select(2, rows).index_select(3, columns)


def check_images(name: str, images: torch.Tensor) -> None:
    """ValueError unless they are a batch (N, 3, H, W) of floats in [0, 1]."""
    wanted = f"{name}: must be floats in [0, 1] of shape (N, 3, H, W) with N, H and W of 1 or more"
    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        raise ValueError(f"{wanted}, not {getattr(images, 'dtype', type(images).__name__)}.")
    if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        raise ValueError(f"{wanted}, not {tuple(images.shape)}.")
    low, high = (float(end) for end in images.aminmax())
    if not (low >= 0 and high <= 1):  # NaN is not
        raise ValueError(f"{wanted}; theirs are from {low:g} to {high:g}.")


def choose_device(device: str | torch.device) -> torch.device:
    """A torch device; "auto" is an accelerator if there is one, else the CPU."""
    if device == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device={device!r}: must be 'auto' or a torch device.") from error
