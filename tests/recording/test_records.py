"""One number is one number, wherever it comes from."""

import numpy as np
import pytest
import torch

from dropdiag.errors import ArgumentError
from dropdiag.recording.records import OWN_SCALARS, one_number, run_scalar, user_scalar


@pytest.mark.parametrize(
    "value",
    [2, 2.0, np.float32(2), np.array(2.0), torch.tensor(2), torch.tensor([[2.0]]), torch.tensor(2.0).bfloat16()],
)
def test_all_kinds_of_one_number_are_that_float(value):
    assert user_scalar("loss", value) == run_scalar("loss", 2.0)
    assert type(user_scalar("loss", value).value) is float


def test_a_number_on_a_device_is_a_copy_without_dimensions():
    given = torch.empty(1, device="meta", requires_grad=True)  # one dimension would make it a histogram's table
    taken = one_number("it must be a number", given)
    assert taken is not given
    assert (taken.shape, taken.requires_grad, taken.device.type) == ((), False, "meta")


@pytest.mark.parametrize(
    ("value", "got"),
    [
        (torch.ones(2), r"a tensor of shape \(2,\), torch.float32"),
        (torch.tensor(1j), "a tensor of shape .*complex64"),
        ("high", "'high'"),
        (None, "None"),
    ],
)
def test_what_is_no_number_is_refused_by_name(value, got):
    with pytest.raises(ArgumentError, match=f"loss= must be one number, got {got}"):
        user_scalar("loss", value)


@pytest.mark.parametrize("name", sorted(OWN_SCALARS))
def test_names_of_dropdiags_own_scalars_are_taken(name):
    with pytest.raises(ArgumentError, match=f"{name}= is recorded by dropdiag itself"):
        user_scalar(name, 1.0)
