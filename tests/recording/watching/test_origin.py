"""Digests of weights and batches: equal where the values are, others where one of them is, and nothing is changed."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dropdiag.recording.watching.origin import SAMPLED, Origin


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def batches(*tensors):
    model = network()
    origin = Origin(model)
    for step, tensor in enumerate(tensors, 1):
        origin.batch(step, (tensor,), {})
    return list(origin.described()["batches"].values())


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
)
@pytest.mark.parametrize("size", [1, 7, SAMPLED, 3 * SAMPLED + 1])
def test_equal_values_have_one_digest_and_others_another(dtype, size):
    x = (torch.arange(size) % 251 % 2 == 0) if dtype is torch.bool else (torch.arange(size) % 251).to(dtype)
    other = ~x if dtype is torch.bool else x + 1
    first, again, second, shaped = batches(x, x.clone(), other, x[None])
    assert first == again
    assert len({first, second, shaped}) == 3


def test_the_order_of_values_counts_and_how_they_lie_does_not():
    x = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    plain, transposed, permuted = batches(x, x.t().contiguous().t(), x[torch.arange(63, -1, -1)])
    assert plain == transposed
    assert plain != permuted


def test_sparse_images_of_equal_frames_are_told_apart():
    """Of images most values are the same in all: what is looked at must not fall on their frame alone."""
    x = torch.zeros(256, 28, 28)
    x[:, 12:16, 12:16] = torch.rand(256, 4, 4, generator=torch.Generator().manual_seed(1))
    first, second = batches(x, x.flip(0))
    assert first != second


def test_the_first_tensor_counts_wherever_it_is():
    x, state = torch.ones(3), torch.zeros(2)
    model = network()
    origin = Origin(model)
    origin.batch(1, ("text", x, state), {})
    origin.batch(2, (), {"x": [x], "state": state + 1})
    origin.batch(3, ("text",), {})
    assert list(origin.described()["batches"]) == ["1", "2"]
    assert len(set(origin.described()["batches"].values())) == 1


def test_steps_that_are_looked_at_grow_apart_and_evaluations_are_left_out():
    model = network()
    origin = Origin(model)
    for step in range(1, 1001):
        origin.batch(step, (torch.full((2,), float(step)),), {})
    seen = [int(step) for step in origin.described()["batches"]]
    assert seen[:8] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(seen) < 35
    assert all(later <= 1.25 * step + 1 for step, later in zip(seen, seen[1:], strict=False))
    model.eval()
    origin.batch(5000, (torch.ones(2),), {})
    assert [int(step) for step in origin.described()["batches"]] == seen


def test_weights_are_those_of_the_start_and_of_the_end_whatever_modules_are_called():
    model = network()
    same = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Tanh(), nn.Linear(3, 2))
    for mine, theirs in zip(same.parameters(), model.parameters(), strict=True):
        mine.data = theirs.data.clone()
    first, second = Origin(model), Origin(same)
    assert first.described()["weights"] == second.described()["weights"]
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        model[2].bias[1] += 1e-6
    first.ends()
    second.ends()
    told = first.described()
    assert told["end"] != told["weights"] == second.described()["end"]
    with torch.no_grad():
        model[2].bias.copy_(before["2.bias"])
    first.ends()
    assert first.described()["end"] == told["weights"]


def test_what_has_no_values_is_not_known():
    assert Origin(nn.Sequential(nn.Linear(2, 2), nn.LazyLinear(3))).described()["weights"] is None
    with torch.device("meta"):
        assert Origin(network()).described() == {"weights": None, "batches": {}, "end": None}
    assert Origin(nn.Sequential(nn.Tanh())).described()["weights"] is None
    assert batches(torch.eye(3).to_sparse(), torch.empty(3, device="meta")) == []


def test_no_random_number_is_drawn():
    model = network()
    before = torch.get_rng_state()
    origin = Origin(model)
    origin.batch(1, (torch.ones(3 * SAMPLED),), {})
    origin.ends()
    origin.described()
    assert torch.equal(torch.get_rng_state(), before)
