"""Copies of weights: what they were, whatever becomes of the weights and of the copies before."""

import pytest
import torch

from dropdiag.probes.base import Signal
from dropdiag.recording.earlier_weights import EarlierWeights

STEP, START = Signal.WEIGHT_STEP, Signal.WEIGHT_FROM_START


def test_a_copy_is_written_over_the_one_before_and_no_other_signal_is_touched():
    weight, earlier = torch.ones(3, 4), EarlierWeights()
    earlier.keep(START, {"a": weight})
    earlier.keep(STEP, {"a": weight})
    first = earlier.change(STEP, "a", weight).before
    weight += 1.0
    assert torch.equal(first, torch.ones(3, 4))
    earlier.keep(STEP, {"a": weight})
    change = earlier.change(STEP, "a", weight)
    assert torch.equal(change.before, torch.full((3, 4), 2.0))
    assert change.before.data_ptr() == first.data_ptr()
    assert torch.equal(earlier.change(START, "a", weight).before, torch.ones(3, 4))


@pytest.mark.parametrize(
    "other", [torch.rand(4, 3), torch.rand(3, 4).double(), torch.rand(4, 3).t(), torch.rand(3, 4).requires_grad_()]
)
def test_a_weight_of_another_form_has_a_copy_of_its_own(other):
    earlier = EarlierWeights()
    earlier.keep(STEP, {"a": torch.ones(3, 4)})
    earlier.keep(STEP, {"a": other})
    before = earlier.change(STEP, "a", other).before
    assert torch.equal(before, other)
    assert (before.dtype, before.stride(), before.requires_grad) == (other.dtype, other.stride(), False)


def test_what_is_kept_no_more_is_not_known_and_inference_mode_does_no_harm():
    weight, earlier = torch.ones(2, 2), EarlierWeights()
    with torch.inference_mode():
        earlier.keep(STEP, {"a": weight})
    earlier.keep(STEP, {"b": weight, "a": weight + 1.0})
    assert torch.equal(earlier.change(STEP, "a", weight).before, torch.full((2, 2), 2.0))
    earlier.keep(STEP, {"b": weight})
    assert earlier.change(STEP, "a", weight) is None
    earlier.keep(STEP, {})
    assert earlier.change(STEP, "b", weight) is None
