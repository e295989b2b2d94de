"""A gradient is told from a sum that lies where it was."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dropdiag.recording.chain.joints import JointReading, StraightReading

VALUES = 4096
"""So many that memory is used again at once."""


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def joint_says_same() -> bool:
    joint = JointReading(("place",), {("place",): False}, 1, alone=True, as_read=lambda gradient: gradient)
    part = torch.empty(VALUES)
    joint.take_part(part)
    del part  # the engine has added it to another one
    joint.take_whole(torch.empty(VALUES))
    return joint.same


def way_says_same() -> bool:
    straight = StraightReading(1)
    part = torch.empty(VALUES)
    straight.gives(part)
    del part
    return straight.ends(torch.empty(VALUES))


@pytest.mark.parametrize("says_same", [joint_says_same, way_says_same])
@pytest.mark.parametrize("mode", [torch.enable_grad, Watching])
def test_a_sum_in_the_place_of_a_gradient_is_no_gradient(says_same, mode):
    # under create_graph, and under a dispatch mode, the engine makes a new tensor of every sum
    with mode():
        assert not any(says_same() for _ in range(50))


def test_a_gradient_that_was_compared_is_let_go_of():
    joint = JointReading(("place",), {("place",): False}, 1, alone=True, as_read=lambda gradient: gradient)
    straight, gradient = StraightReading(1), torch.empty(4)
    with torch.enable_grad():
        joint.take_part(gradient)
        joint.take_whole(gradient)
        straight.gives(gradient)
        assert straight.ends(gradient)
    assert joint.same
    assert joint._kept is straight.kept is None
