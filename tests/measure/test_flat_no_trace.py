"""Flatness and robustness leave everything as it was, whatever the model holds and wherever they are called."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from dropdiag.measure import flatness, robustness
from tests.measure.test_no_trace import KINDS, data, plain
from tests.measure.traces import check_training_goes_on

FEW = {"trace_samples": 2, "sizes": (0.1,), "directions": 2}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_what_it_was_and_training_goes_on(kind):
    def measure(model):
        assert flatness(model, data(), **FEW)["hessian_eigenvalue@1"] is not None
        assert robustness(model, data(), noise=(0.1,), draws=2)["noisy_loss@0.1"] is not None

    # of GAAF no gradient is asked
    check_training_goes_on(kind, measure, prepare=lambda model: setattr(model, "act", nn.Tanh()))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3))


def test_surroundings_of_the_call_do_not_matter():
    model, batch = network(), data()

    def both():
        return flatness(model, batch, **FEW), robustness(model, batch, noise=(0.1,), draws=2)

    expected = both()
    for around in (torch.inference_mode(), torch.no_grad(), torch.device("meta"), parametrize.cached()):
        with around:
            assert both() == expected
    torch.set_default_dtype(torch.float64)
    try:
        assert both() == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_everything_is_put_back_where_the_loss_fails_half_way():
    model, (x, y) = network(), data()
    before, calls = plain(model), []

    def failing(out, y):
        calls.append(1)
        if len(calls) == 5:  # while the parameters are moved
            raise ValueError("no loss here")
        return F.cross_entropy(out, y)

    with pytest.raises(ValueError, match="no loss here"):
        flatness(model, (x, y), failing, **FEW)
    assert plain(model) == before
    assert torch.equal(model(x).isfinite().all(), torch.tensor(True))
