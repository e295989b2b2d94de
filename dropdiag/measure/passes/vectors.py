"""Vectors in the space of a model's parameters, one tensor a parameter: gradients, and random ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.measure.passes.leaves import gradients_kept

Floats: TypeAlias = NDArray[np.float64]
Vector: TypeAlias = Sequence[Tensor]


def by_backward(
    value: Tensor, parameters: Sequence[Tensor], others: Sequence[Tensor] = (), *, keep_graph: bool = False
) -> list[Tensor | None]:
    """Return the gradients of a number by a backward pass through everything; ``.grad`` of all stays as it was.

    Parameters
    ----------
    value : Tensor
    parameters : sequence of Tensor
    others : sequence of Tensor
        What else the number depends on; its graph may be that of somebody else, and is kept.
    keep_graph : bool
        Whether the graph is needed again.
    """
    with gradients_kept((*parameters, *others)):
        # not autograd.grad, which reentrant checkpoints refuse
        value.backward(retain_graph=keep_graph or bool(others))  # type: ignore[no-untyped-call]
        return [p.grad for p in parameters]


def filled(found: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """Return tensors without graphs, with zeros for those that there are none of."""
    return [torch.zeros_like(p) if x is None else _dense(x.detach()) for x, p in zip(found, like, strict=True)]


def _dense(x: Tensor) -> Tensor:
    return x.to_dense() if x.layout is not torch.strided else x


def wide(x: Tensor) -> Tensor:
    """Return a tensor in float64, on its own device where that has such numbers; complex numbers as two each."""
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x.to("cpu", torch.float64) if x.device.type == "mps" else x.to(torch.float64)


def dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """Return the inner product of two vectors that have one tensor a parameter, summed in float64."""
    return math.fsum(float((wide(x) * wide(y)).sum()) for x, y in zip(a, b, strict=True))


def norm(a: Sequence[Tensor]) -> float:
    """Return the Euclidean length of a vector that has one tensor a parameter."""
    return math.sqrt(dot(a, a))


def flat(vector: Sequence[Tensor]) -> Floats:
    """Return a vector's tensors in one row of float64."""
    return np.concatenate([x.detach().reshape(-1).to("cpu", torch.float64).numpy() for x in vector])


def parted(vector: Floats, like: Sequence[Tensor]) -> list[Tensor]:
    """Return a row of float64 as one tensor a parameter, of its shape, device and precision."""
    parts = torch.split(torch.from_numpy(np.ascontiguousarray(vector)), [p.numel() for p in like])
    return [x.view(p.shape).to(p.device, p.dtype) for x, p in zip(parts, like, strict=True)]


def signs(like: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """Draw a Rademacher vector: +1 or -1 for each parameter, with equal chances; the same on every device."""
    return [sign(p.shape, p, generator) for p in like]


def sign(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw +1 or -1 with equal chances, of a shape, with the device and precision of a tensor."""
    drawn = torch.empty(tuple(shape), dtype=torch.float32, device="cpu").bernoulli_(0.5, generator=generator)
    return drawn.mul_(2.0).sub_(1.0).to(like.device, like.dtype)


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers, of a shape, with the device and precision of a tensor; the same on every device."""
    # Neither a default device nor a default precision may change what is drawn.
    drawn = torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu")
    return drawn.to(like.device, like.dtype)


def generator_of(seed: int) -> torch.Generator:
    """Return a generator of random numbers, which the model's own know nothing of."""
    return torch.Generator(device="cpu").manual_seed(seed)
