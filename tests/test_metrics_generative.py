"""FID and its kin: equal to torchmetrics, to SciPy and to plain loops; what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from cdlib import metrics
from cdlib.pocket.classifier import load_classifier
from cdlib.stages import inception_features, pocket_features
from cdlib.world import render_scene

FEW = {"draws": 2}  # where the interval is of no interest


def features(n: int, d: int = 6, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """(n, d) from a Gaussian that is wider along some axes than along others."""
    rng = np.random.default_rng(seed)
    return rng.normal(shift, np.linspace(0.5, 2, d), (n, d))


# -------------------------------------------------------------------------------- FID and KID


def plain_fid(real: np.ndarray, fake: np.ndarray) -> float:
    """Heusel et al. (2017), Eq. 6, with SciPy's square root of a matrix."""
    s, t = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    mean = ((real.mean(0) - fake.mean(0)) ** 2).sum()
    return float(mean + np.trace(s + t - 2 * sqrtm(s @ t).real))


def plain_kid(real: np.ndarray, fake: np.ndarray) -> float:
    """Bińkowski et al. (2018), Eq. 4, by sums over pairs."""

    def kernel(x, y):
        return (x @ y / len(x) + 1) ** 3

    def within(rows):
        pairs = [(i, j) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return np.mean([kernel(rows[i], rows[j]) for i, j in pairs])

    across = np.mean([kernel(x, y) for x in real for y in fake])
    return float(within(real) + within(fake) - 2 * across)


def test_fid_equals_scipy():
    real, fake = features(60), features(40, seed=1, shift=0.3)
    ours = metrics.fid(real, torch.from_numpy(fake), **FEW)
    assert ours.value == pytest.approx(plain_fid(real, fake), rel=1e-6) and ours.n == 40
    assert ours.ci95[0] <= ours.value <= ours.ci95[1]


def test_fid_of_a_shift_is_its_square():
    real = features(50)
    assert metrics.fid(real, real + 2, **FEW).value == pytest.approx(6 * 2**2)


def test_kid_equals_pairs_one_by_one():
    real, fake = features(12), features(12, seed=1, shift=0.5)
    ours = metrics.kid(real, fake, subsets=400, subset_size=11)
    assert ours.value == pytest.approx(plain_kid(real, fake), rel=0.05)


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_fid_and_kid_of_images_equal_torchmetrics_with_the_judge():
    class Judge(nn.Module):
        num_features = 128
        net = load_classifier()

        def forward(self, images):
            return self.net.embed(images)

    scenes = [render_scene("test", i, 64, concept="bird").image for i in range(24)]
    images = torch.from_numpy(np.stack(scenes).transpose(0, 3, 1, 2) / 255).float()
    real, fake = images[:12], images[12:].flip(1)
    ours = [
        metrics.fid(pocket_features(real), pocket_features(fake), **FEW).value,
        metrics.kid(pocket_features(real), pocket_features(fake), subsets=5, seed=3).value,
    ]
    theirs = [FrechetInceptionDistance(Judge()), KernelInceptionDistance(Judge(), 5, 6)]
    torch.manual_seed(3)
    with torch.no_grad():
        for metric in theirs:
            metric.update(real, real=True)
            metric.update(fake, real=False)
        wanted = [float(theirs[0].compute()), float(theirs[1].compute()[0])]
    assert ours == pytest.approx(wanted, rel=1e-3)


def test_kid_leaves_the_generator_of_torch_alone_and_says_nothing(recwarn):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = metrics.kid(features(20), features(20, seed=1), subsets=5)
    assert torch.equal(before, torch.get_rng_state()) and not recwarn.list
    assert metrics.kid(features(20), features(20, seed=1), subsets=5) == first
    assert metrics.kid(features(20), features(20, seed=1), subsets=5, seed=1) != first


def test_fid_of_few_images_is_too_high_and_the_extrapolated_one_less_so():
    found = {True: [], False: []}
    for seed in range(6):
        real, fake = features(60, 12, seed=2 * seed), features(60, 12, seed=2 * seed + 1)
        for extrapolate, values in found.items():
            made = metrics.fid(real, fake, draws=12, extrapolate=extrapolate)
            values.append(made.value)
            assert made.ci95[0] <= made.value <= made.ci95[1]
    biased, corrected = np.mean(found[False]), np.mean(found[True])
    assert biased > 0.5  # of two samples of one distribution: the truth is 0
    assert abs(corrected) < biased / 3


@pytest.mark.parametrize("name", ["fid", "kid", "diversity"])
def test_intervals_are_as_wide_as_values_spread(name):
    """Over fresh samples, the standard deviation of the value against the interval's."""
    values, widths = [], []
    for seed in range(40):
        real, fake = features(80, 4, seed=seed), features(80, 4, seed=1000 + seed, shift=0.4)
        if name == "diversity":
            made = metrics.diversity(real, draws=20, seed=seed)
        else:
            how = {"draws": 20} if name == "fid" else {"subsets": 20}
            made = getattr(metrics, name)(real, fake, seed=seed, **how)
        values.append(made.value)
        widths.append((made.ci95[1] - made.ci95[0]) / (2 * 1.96))
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.35)


# ------------------------------------------------------------------------ precision and recall


def plain_share(centres: np.ndarray, points: np.ndarray, k: int) -> float:
    """Kynkäänniemi et al. (2019), Eq. 1 and 2, one distance after the other."""
    inside = 0
    for point in points:
        for i, centre in enumerate(centres):
            others = sorted(
                np.linalg.norm(centre - other) for j, other in enumerate(centres) if j != i
            )
            if np.linalg.norm(point - centre) <= others[k - 1]:
                inside += 1
                break
    return inside / len(points)


@pytest.mark.parametrize("k", [1, 3])
def test_precision_and_recall_equal_plain_loops(k):
    real, fake = features(18, 3), 0.7 * features(15, 3, seed=1)
    ours = metrics.precision_recall(real, fake, k=k)
    assert ours["precision"].value == plain_share(real, fake, k)
    assert ours["recall"].value == plain_share(fake, real, k)
    for estimate in ours.values():
        assert 0 <= estimate.ci95[0] <= estimate.value <= estimate.ci95[1] <= 1


def test_one_sample_covers_itself_and_nothing_far_away():
    real = features(30)
    same = metrics.precision_recall(real, real, **FEW)
    far = metrics.precision_recall(real, real + 100, **FEW)
    assert [e.value for e in same.values()] == [1, 1] and [e.value for e in far.values()] == [0, 0]


def test_what_is_made_of_one_kind_only_is_precise_but_recalls_little():
    real = np.concatenate([features(30), features(30, seed=1) + 50])
    found = metrics.precision_recall(real, features(60, seed=2), **FEW)
    assert found["precision"].value > 0.6 and found["recall"].value <= 0.5


# ------------------------------------------------------------------- diversity and neighbours


def test_diversity_is_the_mean_over_pairs():
    rows = features(12)
    pairs = [np.linalg.norm(rows[i] - rows[j]) for i in range(12) for j in range(i)]
    assert metrics.diversity(rows).value == pytest.approx(np.mean(pairs))
    assert metrics.diversity(np.ones((4, 3))).value == 0


def test_the_nearest_real_images_are_found():
    real = features(20)
    wanted = np.array([3, 0, 19])
    distances, indices = metrics.nearest_neighbours(real[wanted] + 1e-3, real)
    assert indices.tolist() == wanted.tolist()
    np.testing.assert_allclose(distances, 1e-3 * np.sqrt(6), rtol=1e-6)


# ---------------------------------------------------------------------------- what must hold


@settings(max_examples=15, deadline=None)
@given(st.integers(8, 30), st.integers(2, 40), st.integers(0, 2**31))
def test_properties(n, d, seed):
    real, fake = features(n, d, seed), features(n, d, seed + 1, shift=0.5)
    shuffled = np.random.default_rng(seed).permutation(n)
    value = metrics.fid(real, fake, **FEW).value
    close = pytest.approx(value, rel=1e-4, abs=1e-4)
    assert value >= 0
    assert metrics.fid(fake, real, **FEW).value == close
    assert metrics.fid(real[shuffled], fake, **FEW).value == close
    assert metrics.fid(real, real[shuffled], **FEW).value == pytest.approx(0, abs=1e-3)
    there, back = (metrics.precision_recall(*pair, **FEW) for pair in ((real, fake), (fake, real)))
    assert there["precision"].value == back["recall"].value
    distances, indices = metrics.nearest_neighbours(real, real)
    assert (indices == np.arange(n)).all() and not distances.any()
    assert metrics.diversity(real[shuffled], **FEW).value == pytest.approx(
        metrics.diversity(real, **FEW).value
    )


# ------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f: metrics.fid(f[:3], f), r"real: expected .* 4 images or more, got \(3, 6\)"),
        (lambda f: metrics.fid(f, f[:, :2]), "fake: has 2 features an image, real 6"),
        (lambda f: metrics.fid(f, np.where(f > 0, f, np.nan)), "fake: .* NaN"),
        (lambda f: metrics.fid(f, f, draws=1), "draws=1"),
        (lambda f: metrics.kid(f, f, subset_size=20), "subset_size=20: .* from 2 to 19"),
        (lambda f: metrics.kid(f, f, subsets=1), "subsets=1"),
        (lambda f: metrics.precision_recall(f, f, k=0), "k=0"),
        (lambda f: metrics.precision_recall(f, f, k=10), "real: expected .* 22 images or more"),
        (lambda f: metrics.diversity(f[0]), r"features: .*\(6,\)"),
        (lambda f: metrics.nearest_neighbours(f[:0], f), "fake"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call(features(20))


# ---------------------------------------------------------------------------- features


def test_pocket_features_are_the_judges_whatever_the_batch_and_size():
    scenes = [render_scene("test", i, 64, concept="dog").image for i in range(5)]
    images = torch.from_numpy(np.stack(scenes).transpose(0, 3, 1, 2) / 255).float()
    made = pocket_features(images)
    assert made.shape == (5, 128) and made.dtype == np.float32
    np.testing.assert_allclose(pocket_features(images, batch_size=2), made, atol=1e-5)
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    np.testing.assert_allclose(pocket_features(large), made, atol=1e-5)


def test_pocket_features_tell_concepts_apart():
    """Birds are nearer to other birds than to cars, as FID sees it."""
    rows = {}
    for name in ("bird", "car"):
        scenes = [render_scene("test", i, 64, concept=name).image for i in range(40)]
        images = torch.from_numpy(np.stack(scenes).transpose(0, 3, 1, 2) / 255).float()
        rows[name] = pocket_features(images)
    alike = metrics.fid(rows["bird"][:20], rows["bird"][20:], **FEW)
    apart = metrics.fid(rows["bird"][:20], rows["car"][20:], **FEW)
    assert alike.value < apart.value


def test_inception_features_say_what_is_missing(tmp_path):
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="weights=.*is not there.*pocket_features"):
        inception_features(images, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"images: must be \(N, 3, H, W\)"):
        inception_features(images[0])
    with pytest.raises(ValueError, match="batch_size=0"):
        pocket_features(images, batch_size=0)


def test_inception_features_see_bytes_and_keep_the_order(tmp_path, monkeypatch):
    """With a stand-in for the network, which is not installed with the book."""

    class StandIn(nn.Module):
        def __init__(self, name, layers, path):
            super().__init__()
            assert (name, layers) == ("inception-v3-compat", ["2048"]) and path.endswith("file.pth")

        def forward(self, images):
            assert images.dtype == torch.uint8
            return images.float().mean((2, 3))

    (tmp_path / "file.pth").touch()
    monkeypatch.setattr("cdlib.stages.features.find_spec", lambda name: name)
    monkeypatch.setattr("torchmetrics.image.fid.NoTrainInceptionV3", StandIn)
    images = torch.linspace(0, 1, 5)[:, None, None, None].expand(5, 3, 4, 4)
    made = inception_features(images, tmp_path / "file.pth", batch_size=2)
    assert made[:, 0].tolist() == [0, 64, 128, 191, 255]
