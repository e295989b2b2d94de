"""The network of Figure 8 in its four conditions, and in those that have to be named.

The paper's summary says only that its convolutional networks have ReLU, with and without batch normalisation.
What stands here is inferred from what was usual: 3 x 3 convolutions in three blocks of two, each block ending in
max pooling (64, 64, 128, 128, 256, 256 channels), a hidden layer of 512 nodes, and the output; weights as He and
others draw them for ReLU (normal, variance 2/fan_in; 1/fan_in at the output), zero biases. No dropout: batch norm
and GAAF are all that differs. The condition "Dropout" has it where VGG has it, on the nodes of the hidden layer.

References: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
arXiv:1409.1556; He et al., "Delving Deep into Rectifiers", arXiv:1502.01852; Ioffe and Szegedy, "Batch
Normalization", arXiv:1502.03167.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from typing import Final, Literal, TypeAlias

import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.experiments.layers import Layers
from dropdiag.experiments.settings import condition_named
from dropdiag.experiments.surrogates import SURROGATES
from dropdiag.gaaf.activation import GAAF

BASE: Final = "Base"
BATCH_NORM: Final = "Batch norm"
WITH_GAAF: Final = "GAAF"
BATCH_NORM_GAAF: Final = "Batch norm + GAAF"
DROPOUT: Final = "Dropout"
CONDITIONS: Final = (BASE, BATCH_NORM, WITH_GAAF, BATCH_NORM_GAAF)
NAMED: Final = (DROPOUT, *SURROGATES)
KNOWN: Final = (*CONDITIONS, *NAMED, *(f"{BATCH_NORM} + {name}" for name in NAMED))
"""What can be trained: `CONDITIONS`, and what has to be named, `NAMED` with and without batch norm."""
WITHOUT_GAAF: Final = {WITH_GAAF: BASE, BATCH_NORM_GAAF: BATCH_NORM}
"""Condition with GAAF -> the same network without it."""

Follows: TypeAlias = Literal["relu", "linear"]
"""What follows a layer, which decides the variance of its initial weights."""

CONVOLUTIONS: Final = (64, 64, 128, 128, 256, 256)
HIDDEN: Final = 512
LAYERS: Final = len(CONVOLUTIONS) + 1


def scaled_widths(width: float) -> tuple[int, ...]:
    """Return channels of the convolutions and nodes of the hidden layer, times `width`, at least one each.

    Raises
    ------
    ArgumentError
        If `width` is not positive and finite.
    """
    if not (math.isfinite(width) and width > 0):
        raise ArgumentError(f"width must be positive and finite, got {width!r}")
    return tuple(max(1, round(width * n)) for n in (*CONVOLUTIONS, HIDDEN))


def layers() -> Layers:
    """Return the six convolutions and the hidden layer."""
    last = f"layer{LAYERS}"
    convolutions = {f"layer{i}": f"Conv {i}" for i in range(1, LAYERS)}
    return Layers(
        weights={**{f"{name}.conv": title for name, title in convolutions.items()}, f"{last}.linear": "Hidden"},
        activations={f"{name}.activation": title for name, title in {**convolutions, last: "Hidden"}.items()},
    )


def build(
    condition: str,
    classes: int,
    seed: int,
    *,
    width: float = 1.0,
    shape: tuple[int, int, int] = (3, 32, 32),
    rate: float = 0.5,
) -> nn.Sequential:
    """Build the network in one condition.

    Parameters
    ----------
    condition : str
        One of `KNOWN`. Batch norm stands between a layer's weights and its activation function.
    classes : int
    seed : int
        Seed of the initial weights, which are the same in every condition.
    width : float, default 1
        Factor of all widths.
    shape : tuple of int
        Channels, height and width of an image, at least 8 x 8: each of the three blocks halves the sides.
    rate : float, default 0.5
        Dropout rate, in [0, 1); used in the conditions with "Dropout" alone.

    Returns
    -------
    nn.Sequential
        Takes float32 of shape (n, *shape). Modules ``layer1.conv``, ``layer1.norm`` (with batch norm),
        ``layer1.activation``, ..., ``layer7.linear``, ..., ``output``. The global random number generator is
        not touched.

    Raises
    ------
    ArgumentError
        For an unknown condition, a `width` that is not positive, or images that are too small.
    """
    condition = condition_named(condition, KNOWN)
    dropout = {"dropout": nn.Dropout(rate)} if _bare_of_norm(condition) == DROPOUT else {}
    *channels, hidden = scaled_widths(width)
    generator = torch.Generator().manual_seed(seed)
    network: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (fan_in, out) in enumerate(pairwise((shape[0], *channels)), start=1):
        before: dict[str, nn.Module] = {"conv": _convolution(fan_in, out, generator)}
        after: dict[str, nn.Module] = {"pool": nn.MaxPool2d(2)} if i % 2 == 0 else {}
        network[f"layer{i}"] = _layer(condition, before, nn.BatchNorm2d(out), after)
    before = {"flatten": nn.Flatten(), "linear": _linear(channels[-1] * _positions(shape), hidden, generator)}
    network[f"layer{LAYERS}"] = _layer(condition, before, nn.BatchNorm1d(hidden), dropout)
    network["output"] = _linear(hidden, classes, generator, nonlinearity="linear")
    return nn.Sequential(network)


def _positions(shape: tuple[int, int, int]) -> int:
    """Positions of a channel that are left after the last pooling."""
    halved = 1 << len(CONVOLUTIONS) // 2  # each second convolution is followed by a pooling that halves the sides
    height, width = (side // halved for side in shape[1:])
    if not height * width:
        raise ArgumentError(f"images must be at least {halved} x {halved} for three blocks of max pooling, got {shape}")
    return height * width


def _layer(
    condition: str, before: Mapping[str, nn.Module], norm: nn.Module, after: Mapping[str, nn.Module]
) -> nn.Sequential:
    """Put a layer together: its weights, the norm where the condition has one, the activation function, the rest."""
    middle = {"norm": norm} if condition.startswith(BATCH_NORM) else {}
    activation = GAAF("relu") if condition in WITHOUT_GAAF else nn.ReLU()
    surrogate = SURROGATES.get(_bare_of_norm(condition))
    if surrogate is not None:
        activation = GAAF("relu", surrogate=surrogate)
    return nn.Sequential(OrderedDict({**before, **middle, "activation": activation, **after}))


def _bare_of_norm(condition: str) -> str:
    return condition.removeprefix(f"{BATCH_NORM} + ")


def _convolution(fan_in: int, out: int, generator: torch.Generator) -> nn.Conv2d:
    # skip_init: the usual constructor draws weights from the global generator, which must stay as it was.
    conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, fan_in, out, 3, padding=1)  # type: ignore[no-untyped-call]
    _initialise(conv, generator)
    return conv


def _linear(fan_in: int, fan_out: int, generator: torch.Generator, nonlinearity: Follows = "relu") -> nn.Linear:
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
    _initialise(linear, generator, nonlinearity)
    return linear


def _initialise(module: nn.Conv2d | nn.Linear, generator: torch.Generator, nonlinearity: Follows = "relu") -> None:
    nn.init.kaiming_normal_(module.weight, nonlinearity=nonlinearity, generator=generator)
    assert module.bias is not None  # noqa: S101 - they are made with one
    nn.init.zeros_(module.bias)
