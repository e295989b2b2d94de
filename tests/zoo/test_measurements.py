"""Passes of measurements through every network: nothing is changed, and dropouts can be switched, or it is said why not."""

from __future__ import annotations

import random
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.dropouts.kinds import may_mask
from dropdiag.measure.passes.passes import Passes
from dropdiag.measure.passes.steady import steady_output
from tests.zoo.models import ZOO
from tests.zoo.training import _own_state


class Whole(nn.Module):
    """A network that gives its loss, whatever its batches are like."""

    def __init__(self, network):
        super().__init__()
        self.network, self.parts = [network], network.make()

    def forward(self, batch):
        return self.network[0].loss(self.parts, batch)


def bits(tensor):
    """The values of a tensor of any kind, bit for bit."""
    return tensor.detach().to_dense().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def held(model):
    """Everything of a model that could be seen to change."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    values = [(name, id(t), t._version, bits(t)) for name, t in tensors]
    grads = [(name, None if t.grad is None else (id(t.grad), t.grad._version)) for name, t in tensors]
    hooks = [(name, list(m._forward_hooks), list(m._backward_hooks)) for name, m in model.named_modules()]
    states = torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())  # noqa: NPY002
    return values, grads, hooks, [repr(value) for value in _own_state(model)], states


REFUSED = {
    "timm_vit_checkpointed": "is called inside torch.utils.checkpoint",
    "gan": "draws random numbers that are no dropout",
    "vae": r"parts \(a VAE\) draws random numbers",
    "drop_word": r"parts \(a WordDropout\) draws random numbers",
    "drop_written": r"parts \(a Written\) draws random numbers",
    "drop_host_randomness": r"parts.2 \(a HostRandomness\) draws random numbers",
    "drop_layers": r"the dropout parts:layerdrop \(a LayerDrop\) cannot be switched",
    "paths_and_blocks": r"parts \(a Paths\) draws random numbers",
    "layer_drop": r"parts \(a LayerDrop\) draws random numbers",
}
"""Networks with noise that is no dropout, or masks of their own making: it is said which, and nothing is measured."""


@pytest.mark.parametrize("network", ZOO, ids=repr)
def test_measuring_changes_nothing(network):
    model = Whole(network)
    batch, other, *_ = network.batches()
    model(batch).backward()
    before = held(model)
    with pytest.raises(ArgumentError, match=REFUSED[network.name]) if network.name in REFUSED else nullcontext():
        passes = Passes(model, [other], lambda loss: loss)
        with passes.ready(0, gradients=True, norms="given"):
            passes.backward(passes.loss())
            steady_output(passes)
            with passes.switched(True) as switches:
                first, again = (passes.seed(1) or passes.loss() for _ in range(2))
                passes.backward(again)
            assert torch.equal(first, again)
            assert bool(switches.drawn) == any(map(may_mask, passes.dropouts))
    assert held(model) == before
