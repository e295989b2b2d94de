"""Whether the phi of a GAAF is the function that it is to stand in for."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import torch
from torch import Tensor, nn

from dropdiag.gaaf.activation import GAAF

_PROBES: Final = (-20.0, -6.0, -3.0, -1.5, -1.0, -0.6, -0.2, 0.0, 0.2, 0.6, 1.0, 1.5, 3.0, 6.0, 20.0)


def is_over(gaaf: GAAF, function: Callable[[Tensor], Tensor]) -> bool:
    """Whether phi of a GAAF gives what a module or function gives (in evaluation mode, at a few points)."""
    # A forward pass may be under way, whose modes, autocast and default device all belong to its thread.
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(_same, function, gaaf.base).result()


def _same(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor]) -> bool:
    return torch.allclose(_values(one), _values(other), rtol=1e-4, atol=1e-5)


def _values(function: Callable[[Tensor], Tensor]) -> Tensor:
    if isinstance(function, nn.Module):
        function = copy.deepcopy(function).eval().to("cpu", torch.float32)
    with torch.no_grad():
        return function(torch.tensor(_PROBES, device="cpu")).detach().float()
