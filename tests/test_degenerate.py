"""Which masks are left out, and for what reason."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cdlib.masks import KEPT, REASONS, degenerate, reason_counts


def blank(n: int = 1, size: int = 20) -> torch.Tensor:
    return torch.zeros(n, size, size, dtype=torch.bool)


def test_each_kind_has_its_reason():
    masks = blank(7)
    masks[1, 3, 3] = True  # a quarter of a percent
    masks[2, :, :15] = True
    masks[3, 10] = masks[3, :, 10] = True  # a cross
    masks[4, ::4, ::4] = True  # scattered pixels
    masks[4, 0] = masks[4, -1] = masks[4, :, 0] = masks[4, :, -1] = False
    masks[5, 5:12, 5:12] = True
    masks[6, 0:12, 0:12] = True  # in a corner, as an object may be
    reasons = degenerate(masks)
    assert reasons == ["empty", "too small", "too large", "touches every edge", "in pieces", "", ""]
    assert reason_counts(reasons) == {KEPT: 2, **dict.fromkeys(REASONS, 1)}


def test_bounds_are_kept_themselves():
    masks = blank()
    masks[0, :10, :10] = True  # a quarter
    assert degenerate(masks, least=0.25, most=0.25) == [""]
    assert degenerate(masks, least=0.26) == ["too small"]
    assert degenerate(masks, most=0.24) == ["too large"]


def test_the_largest_piece_counts_with_its_diagonals():
    masks = blank()
    masks[0, 2:6, 2:6] = masks[0, 6:10, 6:10] = True
    assert degenerate(masks, piece=1.0) == [""]
    masks[0, 15, 2] = True
    assert degenerate(masks, piece=1.0) == ["in pieces"]
    assert degenerate(masks, piece=0.9) == [""]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0, 1))
def test_every_mask_has_one_answer_and_they_add_up(seed, odds):
    masks = torch.rand(6, 9, 9, generator=torch.Generator().manual_seed(seed)) < odds
    reasons = degenerate(masks)
    assert set(reasons) <= {"", *REASONS}
    counts = reason_counts(reasons)
    assert list(counts) == [KEPT, *REASONS] and sum(counts.values()) == 6
    assert [degenerate(mask[None])[0] for mask in masks] == reasons


def test_no_masks_are_no_reasons():
    assert degenerate(blank(0)) == [] and sum(reason_counts([]).values()) == 0


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"masks": torch.zeros(1, 4, 4)}, "masks.*bool"),
        ({"masks": blank()[0]}, "masks"),
        ({"least": -0.1}, "least=-0.1"),
        ({"most": 1.1}, "most=1.1"),
        ({"least": 0.5, "most": 0.4}, "least=0.5.*most=0.4"),
        ({"piece": 2}, "piece=2"),
    ],
)
def test_what_does_not_fit_is_refused(how, says):
    with pytest.raises(ValueError, match=says):
        degenerate(**{"masks": blank(), **how})


def test_unknown_reasons_are_refused():
    with pytest.raises(ValueError, match="ugly"):
        reason_counts(["", "ugly"])
