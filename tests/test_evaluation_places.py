"""Where errors are: against a search over all pairs of pixels, and by what they add up to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cdlib.evaluation import ENDS, errors_by_distance


def plainly(masks, truth, ends):
    """Every wrong pixel looks at every pixel of the other kind in the true mask."""
    found = {"missed": np.zeros(len(ends) + 1), "added": np.zeros(len(ends) + 1)}
    for mask, inside in zip(masks, truth, strict=True):
        for place in np.argwhere(mask != inside):
            kind = "missed" if inside[tuple(place)] else "added"
            others = np.argwhere(inside != inside[tuple(place)])
            far = np.sqrt(((others - place) ** 2).sum(1)).min() if len(others) else np.inf
            found[kind][sum(far > end for end in ends)] += 1
    return {kind: counts / truth.sum() for kind, counts in found.items()}


def stacks() -> st.SearchStrategy:
    return arrays(bool, (2, 5, 6))


@given(stacks(), stacks().filter(np.any), st.sampled_from([(1,), (1, 4), (1.5, 2, 3)]))
def test_as_by_looking_at_all_pairs(masks, truth, ends):
    found, expected = errors_by_distance(masks, truth, ends), plainly(masks, truth, ends)
    for kind in ("missed", "added"):
        np.testing.assert_allclose(found[kind], expected[kind])
    assert found["missed"].sum() == pytest.approx((truth & ~masks).sum() / truth.sum())
    assert found["added"].sum() == pytest.approx((masks & ~truth).sum() / truth.sum())


def test_a_rim_is_near_and_another_object_far():
    truth = np.zeros((1, 20, 20), dtype=bool)
    truth[0, 2:8, 2:8] = True
    wider, another = truth.copy(), truth.copy()
    wider[0, 1:9, 2:8] = True
    another[0, 14:18, 14:18] = True
    shares = errors_by_distance(np.concatenate([wider, another]), np.concatenate([truth, truth]))
    assert len(ENDS) == 2 and shares["missed"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(shares["added"], np.array([12, 0, 16]) / 72)


@pytest.mark.parametrize(
    ("shape", "ends", "says"),
    [((2, 4, 5), ENDS, "masks"), ((2, 4, 4), (2, 1), "ends"), ((2, 4, 4), (0, 1), "ends"),
     ((2, 4, 4), (), "ends")],
)  # fmt: skip
def test_refusals(shape, ends, says):
    with pytest.raises(ValueError, match=f"^{says}"):
        errors_by_distance(np.zeros(shape, dtype=bool), np.ones((2, 4, 4), dtype=bool), ends)
    with pytest.raises(ValueError, match="^truth"):
        errors_by_distance(*[np.zeros((2, 4, 4), dtype=bool)] * 2)
