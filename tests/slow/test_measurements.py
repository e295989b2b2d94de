"""Every active measurement on every network: each measures or says why not, and leaves no trace."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch

import dropdiag as dd
from dropdiag.errors import ArgumentError
from tests.zoo.models import ZOO
from tests.zoo.test_measurements import Whole, held

SMALL = {
    "masks_by_weights": {"masks": 2},
    "ensemble": {"masks": 2, "output": lambda loss: torch.stack([loss, -loss]).reshape(1, 2)},
    "flatness": {"k": 1, "trace_samples": 2, "sizes": (0.1,), "directions": 2},
    "robustness": {"noise": (0.1,), "draws": 2},
    "ablation": {"groups": 2, "permutations": 2, "shares": (), "orders": 2},
    "gradient_direction": {"batches": 2},
    "net_variance": {"masks": 2},
}
"""As few passes as each takes."""
MEASURED = {
    "masks_by_weights": 30, "ensemble": 45, "flatness": 80, "robustness": 80, "ablation": 60, "gradient_direction": 80,
    "net_variance": 30,
}  # fmt: skip
"""Of so many networks at least each measurement gives numbers."""


def measured(name, network):
    """Measure a network after a training step; return whether there was a number, after a look at what it left."""
    model = Whole(network)
    batch, other, *_ = network.batches()
    model(batch).backward()
    before = held(model)
    loss = {} if name == "net_variance" else {"loss_fn": lambda loss: loss}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # also torch's own, of checkpoints without gradients
        try:
            getattr(dd.measure, name)(model, [copy.deepcopy(other)], **loss, **SMALL[name])
        except ArgumentError:
            return False
        finally:
            assert held(model) == before, network
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_network_is_left_as_it_was(name):
    found = [network.name for network in ZOO if measured(name, network)]
    assert len(found) >= MEASURED[name], found
