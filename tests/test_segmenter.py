"""The segmenter: its network, what it learns from, and that training is what it says."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import cdlib
from cdlib.segmenter import Segmenter, draw_batch, segmenter_steps, train_segmenter

SMALL = {"width": 2, "batch_size": 4, "device": "cpu"}


pytestmark = pytest.mark.usefixtures("one_thread")


def pairs(n: int = 6, height: int = 32, width: int = 32, seed: int = 0):
    """Noise with a bright disc somewhere, and the disc."""
    numbers = np.random.default_rng(seed)
    images = torch.from_numpy(0.5 * numbers.random((n, 3, height, width), dtype=np.float32))
    y, x = np.mgrid[:height, :width]
    centres = numbers.uniform(0.3, 0.7, (n, 2)) * (height, width)
    near = [np.hypot(y - cy, x - cx) < min(height, width) / 4 for cy, cx in centres]
    masks = torch.from_numpy(np.stack(near))
    return images + 0.5 * masks[:, None], masks


def same_weights(a: Segmenter, b: Segmenter) -> bool:
    return all(
        torch.equal(x, y)
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def iou(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a & b).sum() / (a | b).sum())


# ------------------------------------------------------------------------------- the network


def test_it_has_the_papers_size_and_layers():
    """31 million weights: 64, 128, 256, 512, 1024 channels, two convolutions at each level."""
    net = Segmenter(64)
    assert round(sum(weight.numel() for weight in net.parameters()) / 1e6, 1) == 31.1
    found = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    convolutions = [layer for layer in found if layer.kernel_size == (3, 3)]
    outs = [layer.out_channels for layer in convolutions]
    down = [64, 128, 256, 512, 1024]
    assert outs == [n for n in (*down, *down[-2::-1]) for _ in range(2)]
    assert all(layer.bias is None for layer in convolutions)
    assert [layer.kernel_size for layer in found if layer not in convolutions] == [(1, 1)]
    for kind, count in ((nn.BatchNorm2d, 18), (nn.ReLU, 18), (nn.MaxPool2d, 4)):
        assert sum(isinstance(layer, kind) for layer in net.modules()) == count, kind
    ups = [layer for layer in net.modules() if isinstance(layer, nn.ConvTranspose2d)]
    assert [layer.stride for layer in ups] == [(2, 2)] * 4
    assert 0.48e6 < sum(weight.numel() for weight in Segmenter(8).parameters()) < 0.5e6


@pytest.mark.parametrize(("height", "width"), [(32, 48), (33, 47), (1, 1), (5, 70)])
def test_any_size_is_the_padded_image_cropped(height, width):
    net = Segmenter(2)
    images, _ = pairs(3, 64, 80)
    images = images[:, :, :height, :width]
    padding = (0, -width % 16, 0, -height % 16)
    padded = F.pad(images, padding, mode="replicate")
    said = net.predict(images)
    assert said.shape == (3, height, width) and said.dtype == torch.float32
    torch.testing.assert_close(said, net.predict(padded)[:, :height, :width])
    assert said.min() >= 0 and said.max() <= 1


def test_others_in_the_batch_make_no_difference():
    net = train_segmenter(*pairs(), steps=3, **SMALL)
    images, _ = pairs(7, seed=1)
    together = net.predict(images)
    for other in (net.predict(images, batch_size=2), torch.stack(net.predict(list(images)))):
        torch.testing.assert_close(together, other, rtol=1e-5, atol=1e-6)
    training = net.train()
    torch.testing.assert_close(together, training.predict(images))
    assert training.training  # as it was


def test_images_of_several_sizes_come_back_in_theirs():
    net = Segmenter(2)
    images = [torch.rand(3, 20, 30), torch.rand(3, 33, 17)]
    assert [mask.shape for mask in net.predict(images)] == [(20, 30), (33, 17)]


# ---------------------------------------------------------------------------------- training


def test_loss_and_step_are_those_written_out():
    """The first step by hand: the masks' mean as odds to start from, mean BCE, Adam."""
    images, masks = pairs()
    how = {"lr": 1e-2, "average": 0, "recolour": 0.7, "precision": "fp32", "seed": 5, **SMALL}
    (state,) = segmenter_steps(images, masks, steps=1, **how)
    net = at_the_start(5, masks).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    x, y = draw_batch(images, masks, 0, batch_size=4, size=(32, 32), recolour=0.7, seed=5)
    said = net(x).sigmoid()
    loss = -(y * said.log() + (1 - y) * (1 - said).log()).mean()
    loss.backward()
    optimizer.step()
    assert state.loss == pytest.approx(loss.item(), rel=1e-5)
    mine = state.segmenter().state_dict()
    for name, weight in net.state_dict().items():
        torch.testing.assert_close(mine[name], weight, rtol=1e-3, atol=5e-4)  # of steps of 1e-2


def at_the_start(seed: int, masks: torch.Tensor) -> Segmenter:
    torch.manual_seed(seed)
    net = Segmenter(SMALL["width"])
    nn.init.constant_(net.unet.final_conv.bias, masks.float().mean().logit().item())
    return net


@pytest.mark.parametrize("average", [0.6, 1.0])
def test_weights_are_averaged_as_written_out(average):
    """A decayed mean of what each step left, of the normalisation's statistics too."""
    images, masks = pairs()
    how = {"steps": 9, "every": 1, "lr": 1e-2, "precision": "fp32", "seed": 5, **SMALL}
    mean = {k: v.double() for k, v in at_the_start(5, masks).state_dict().items()}
    run = zip(
        segmenter_steps(images, masks, average=0, **how),
        segmenter_steps(images, masks, average=average, **how),
        strict=True,
    )
    for n, (last, averaged) in enumerate(run, 1):
        decay = min(average, (1 + n) / (10 + n))
        for name, value in last.segmenter().state_dict().items():
            mean[name] += (1 - decay) * (value.double() - mean[name])
        assert averaged.loss == last.loss  # what is learned from is no mean
    state = averaged.segmenter().state_dict()
    for name in (name for name, value in state.items() if value.is_floating_point()):
        torch.testing.assert_close(state[name].double(), mean[name], rtol=1e-4, atol=1e-6)
    assert not same_weights(last.segmenter(), averaged.segmenter())


def test_four_images_are_learned_by_heart():
    images, masks = pairs(4)
    net = train_segmenter(images, masks, width=4, steps=120, batch_size=4, lr=1e-2, device="cpu")
    assert iou(net.predict(images) >= 0.5, masks) > 0.95


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_seed_says_everything(precision):
    train = partial(train_segmenter, *pairs(), steps=3, precision=precision, **SMALL)
    first = train(seed=1)
    torch.manual_seed(99)
    with torch.no_grad():  # nor does what the caller is at
        assert same_weights(first, train(seed=1))
    assert not same_weights(first, train(seed=2))
    before = torch.get_rng_state()
    train()
    assert torch.equal(before, torch.get_rng_state())


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path):
    how = {"steps": 7, "every": 3, "val": pairs(2, seed=3), **SMALL}
    *_, whole = segmenter_steps(*pairs(), **how)
    path = tmp_path / "run.safetensors"
    states = segmenter_steps(*pairs(), checkpoint=path, **how)
    assert next(states).step == 3
    states.close()
    *_, resumed = segmenter_steps(*pairs(), checkpoint=path, **how)
    assert same_weights(whole.segmenter(), resumed.segmenter())
    plain = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.log]
    assert plain == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.log]
    assert [row["step"] for row in plain] == [3, 6, 7]
    (done,) = segmenter_steps(*pairs(), checkpoint=path, **how)
    assert same_weights(whole.segmenter(), done.segmenter()) and done.log == resumed.log
    with pytest.raises(ValueError, match="lr"):
        segmenter_steps(*pairs(), checkpoint=path, **{**how, "lr": 1.0})
    with pytest.raises(ValueError, match="data"):
        segmenter_steps(*pairs(seed=4), checkpoint=path, **how)
    with pytest.raises(ValueError, match="steps"):
        segmenter_steps(*pairs(), checkpoint=path, **{**how, "steps": 5})


def test_validation_is_measured_and_changes_nothing():
    val = pairs(5, seed=1)
    states = list(segmenter_steps(*pairs(), val=val, steps=4, every=2, **SMALL))
    *_, unwatched = segmenter_steps(*pairs(), steps=4, every=2, **SMALL)
    assert same_weights(states[-1].segmenter(), unwatched.segmenter())
    assert unwatched.val_iou is None
    measured = iou(states[-1].segmenter().predict(val[0]) >= 0.5, val[1])
    assert states[-1].val_iou == pytest.approx(measured)
    parts = [list(part) for part in val]  # as if of several sizes
    *_, apart = segmenter_steps(*pairs(), val=parts, steps=4, every=2, **SMALL)
    assert apart.val_iou == pytest.approx(measured)


def test_a_state_is_not_changed_by_the_next():
    states = segmenter_steps(*pairs(), steps=2, every=1, **SMALL)
    first = next(states).segmenter()
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    second = next(states).segmenter()
    assert all(torch.equal(value, kept[name]) for name, value in first.state_dict().items())
    assert not same_weights(first, second) and not first.training
    assert second.trained["steps"] == 2 and first.trained["steps"] == 1


def test_images_of_several_sizes_are_learned_in_windows():
    wide, tall = pairs(2, 32, 48), pairs(2, 40, 32)
    images, masks = ([*a, *b] for a, b in zip(wide, tall, strict=True))
    net = train_segmenter(images, masks, size=32, steps=2, **SMALL)
    assert net.trained["size"] == [32, 32]
    with pytest.raises(ValueError, match="size"):
        train_segmenter(images, masks, steps=2, **SMALL)


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 0}, "width"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"lr": 0}, "lr"),
        ({"size": 33}, "size"),
        ({"seed": -1}, "seed"),
        ({"every": 0}, "every"),
        ({"precision": "bf61"}, "precision.*bf16"),
        ({"device": "gpu"}, "device"),
        ({"batch_size": 1, "size": 16}, "batch_size"),
        ({"average": 1.01}, "average.*1.01"),
        ({"average": -0.1}, "average"),
        ({"recolour": 1.5}, "recolour.*1.5"),
        ({"images": torch.zeros(6, 32, 32)}, "images"),
        ({"images": torch.full((6, 3, 32, 32), 2.0)}, "images.*2"),
        ({"images": torch.zeros(6, 3, 32, 32, dtype=torch.uint8)}, "images.*uint8"),
        ({"masks": torch.zeros(5, 32, 32)}, "masks.*5"),
        ({"masks": torch.zeros(6, 16, 16)}, "masks.*16"),
        ({"masks": torch.full((6, 32, 32), float("nan"))}, "masks"),
        ({"masks": torch.full((6, 32, 32), 255)}, "masks.*255"),
        ({"val": (torch.zeros(1, 3, 32, 32), torch.zeros(2, 32, 32))}, "val"),
    ],
)
def test_what_does_not_fit_is_refused_at_once(wrong, named):
    images, masks = pairs()
    how = {"images": images, "masks": masks, **SMALL, **wrong}
    with pytest.raises(ValueError, match=f"^{named}"):
        segmenter_steps(how.pop("images"), how.pop("masks"), **how)


def test_predict_refuses_what_is_no_image():
    for wrong in (torch.rand(3, 32, 32), torch.rand(2, 1, 32, 32), torch.rand(1, 3, 8, 8) + 1):
        with pytest.raises(ValueError, match="images"):
            Segmenter(2).predict(wrong)
    with pytest.raises(ValueError, match="batch_size"):
        Segmenter(2).predict(torch.rand(1, 3, 16, 16), batch_size=0)


def test_a_loss_that_is_no_number_stops_the_run():
    with pytest.raises(FloatingPointError, match="loss"):
        train_segmenter(*pairs(), steps=20, lr=1e30, **SMALL)


def test_the_library_has_it_at_the_door():
    assert cdlib.train_segmenter is train_segmenter
    assert cdlib.segmenter_steps is segmenter_steps


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_training_starts_at_the_mean_of_the_masks(value):
    images, masks = pairs()
    soft = torch.full(masks.shape, value)
    state = next(iter(segmenter_steps(images, soft, steps=1, lr=1e-9, **SMALL)))
    bias = state.segmenter().unet.final_conv.bias
    torch.testing.assert_close(bias.sigmoid(), torch.tensor([min(max(value, 0.001), 0.999)]))
