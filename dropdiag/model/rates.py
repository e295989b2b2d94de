"""Dropout rates as numbers."""

from __future__ import annotations

import functools
import math
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def plain_rate(rate: Any) -> float | Tensor | None:
    """Return a rate as a number; None where it is none.

    Parameters
    ----------
    rate : object
        A Python or numpy number, or a tensor of one element.

    Returns
    -------
    float, or Tensor of float64, shape ()
        A tensor where the rate is on an accelerator, as reading it would make the host wait. Otherwise the shortest
        decimal number that is `rate` in its own precision, or in single precision: ``numpy.float32(0.3)`` is 0.3 and
        not 0.30000001192092896.
    """
    if isinstance(rate, Tensor):
        if rate.numel() != 1 or rate.is_complex():
            return None
        rate = rate.detach().reshape(())
        return shortest(float(rate), rate.dtype) if rate.is_cpu else rate.double()
    if isinstance(rate, (bool, np.bool_)) or not isinstance(rate, (Real, np.number)):
        return None
    return shortest(float(rate), torch.float16 if isinstance(rate, np.float16) else torch.float64)


@functools.lru_cache(maxsize=1024)
def shortest(rate: float, dtype: torch.dtype = torch.float64) -> float:
    """Return the shortest decimal number that a floating-point number stands for, if it is one of `dtype`."""
    if not math.isfinite(rate):
        return rate
    for known in (dtype, torch.float32):  # rates that were made by torch.linspace(...).tolist() are single ones
        if not known.is_floating_point or known == torch.float64:
            continue
        for digits in range(1, 10):
            rounded = float(f"{rate:.{digits}g}")
            if torch.tensor(rounded, dtype=known).item() == rate:
                return rounded
    return rate


def may_draw(rate: float | Tensor | None) -> bool:
    """Whether a dropout at a rate that `plain_rate` gave draws, as far as the host knows."""
    return not (isinstance(rate, float) and rate == 0)
