"""The network of the paper's MNIST experiments, in its conditions.

784-512-256-256-10, tanh, Glorot-uniform weights, zero biases. The paper's summary does not state this
network; it is inferred from the plateaus of its Figure 1: an almost untouched Glorot-uniform layer has
density 1/(2a) on [-a, a] with a = sqrt(6/(fan_in + fan_out)), and 784-512, 512-256 and 256-256 give 7.35,
5.66 and 4.62 where the figure shows about 7.4, 5.6 and 4.4.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Final

import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.experiments.settings import condition_named
from dropdiag.experiments.surrogates import STRAIGHT_THROUGH, SURROGATES
from dropdiag.gaaf.activation import GAAF
from dropdiag.gaaf.shapes import port_shape

NO_DROPOUT: Final = "No dropout"
DROPOUT: Final = "Dropout"
GAAF_CONDITION: Final = "GAAF"
FITTED: Final = "GAAF fitted"
PORT: Final = "GAAF port"
CONDITIONS: Final = (NO_DROPOUT, DROPOUT, GAAF_CONDITION, FITTED)
"""What is trained unless conditions are named; `PORT` and those of `SURROGATES` have to be named."""
KNOWN: Final = (*CONDITIONS, PORT, *SURROGATES)
OF_RELU: Final = (PORT, *(name for name in SURROGATES if name != STRAIGHT_THROUGH))
"""Conditions whose derivative is made for ReLU."""
ACTIVATIONS: Final[dict[str, type[nn.Module]]] = {"tanh": nn.Tanh, "relu": nn.ReLU}
WIDTHS: Final = (784, 512, 256, 256, 10)


def build(
    condition: str, seed: int, *, rate: float = 0.5, widths: tuple[int, ...] = WIDTHS, activation: str = "tanh"
) -> nn.Sequential:
    """Build the network in one condition.

    Parameters
    ----------
    condition : str
        One of `KNOWN`: the activation function alone; with dropout on the node values of every hidden layer;
        GAAF over it; the same, its shape to be fitted to the dropout rate while it trains; GAAF over ReLU with
        the shape of the public Keras port, sigmoid(x + 4); GAAF with a surrogate derivative.
    seed : int
        Seed of the initial weights, which are the same in every condition.
    rate : float, default 0.5
        Dropout rate, in [0, 1); used in the condition "Dropout" alone.
    widths : tuple of int
        Inputs, hidden layers, outputs.
    activation : {"tanh", "relu"}

    Returns
    -------
    nn.Sequential
        With modules ``layer1.linear``, ``layer1.activation``, ``layer1.dropout`` (in "Dropout" alone), ...,
        ``output``. The global random number generator is not touched.

    Raises
    ------
    ArgumentError
        For an unknown condition or activation function, a rate outside [0, 1), fewer than two widths, or the
        port's shape or SUGAR over another function than ReLU.
    """
    condition = condition_named(condition, KNOWN)
    check_activation(activation, condition)
    if not 0 <= rate < 1:
        raise ArgumentError(f"the dropout rate must be in [0, 1), got {rate!r}")
    if len(widths) < 2 or min(widths) < 1:
        raise ArgumentError(f"widths must be at least two positive numbers, inputs to outputs, got {widths!r}")
    generator = torch.Generator().manual_seed(seed)
    network: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, fan_out) in enumerate(pairwise(widths[:-1]), start=1):
        network[f"layer{i}"] = _hidden(condition, _linear(fan_in, fan_out, generator), rate, activation)
    network["output"] = _linear(widths[-2], widths[-1], generator)
    return nn.Sequential(network)


def check_activation(activation: str, condition: str) -> None:
    """Raise `ArgumentError` unless there is a network of this activation function in this condition."""
    if activation not in ACTIVATIONS:
        raise ArgumentError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if condition in OF_RELU and activation != "relu":
        why = " (for tanh the Keras port has the figure's shape)" if condition == PORT else ""
        raise ArgumentError(f"the condition {condition!r} is ReLU's{why}; pass activation relu")


def _hidden(condition: str, linear: nn.Linear, rate: float, activation: str) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(linear=linear)
    if condition in (GAAF_CONDITION, FITTED):
        parts["activation"] = GAAF(activation)
    elif condition == PORT:
        parts["activation"] = GAAF(activation, shape=port_shape)
    elif condition in SURROGATES:
        parts["activation"] = GAAF(activation, surrogate=SURROGATES[condition])
    else:
        parts["activation"] = ACTIVATIONS[activation]()
    if condition == DROPOUT:
        parts["dropout"] = nn.Dropout(rate)
    return nn.Sequential(parts)


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    # skip_init: the usual constructor draws weights from the global generator, which must stay as it was.
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
    nn.init.xavier_uniform_(linear.weight, generator=generator)
    nn.init.zeros_(linear.bias)
    return linear
