"""All masks of a model's dropouts, where there are few enough to go through one by one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Final

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.interventions.sites import DropoutSite
from dropdiag.measure.passes.passes import Passes
from dropdiag.model.dropouts import mask_variance_of

MOST: Final = 12
"""Units of a sample that are dropped or kept: all masks are then 4,096."""


@dataclass(frozen=True)
class Units:
    """What one call of a dropout drops or keeps, of each sample.

    Attributes
    ----------
    name : str
    call : int
    shape : tuple of int
        Without the samples.
    rate : float
    """

    name: str
    call: int
    shape: tuple[int, ...]
    rate: float

    @property
    def number(self) -> int:
        """How many there are in a sample."""
        return prod(self.shape)


@dataclass(frozen=True)
class Pattern:
    """One mask of all units, the same for all samples.

    Attributes
    ----------
    probability : float
    kept : mapping of (str, int) to tuple of bool
        Dropout and call -> which of its units are kept.
    rates : mapping of str to float
    """

    probability: float
    kept: Mapping[tuple[str, int], tuple[bool, ...]]
    rates: Mapping[str, float]

    def factor(self, name: str, call: int, x: Tensor) -> Tensor:
        """Return what a dropout multiplies its input by."""
        kept = torch.tensor(self.kept[name, call], dtype=x.dtype, device=x.device)
        return kept.reshape(x.shape[1:]) / (1 - self.rates[name])


class Patterns:
    """All masks of some dropouts.

    Parameters
    ----------
    units : sequence of Units
    """

    def __init__(self, units: Sequence[Units]) -> None:
        self._units = units

    @classmethod
    def of(cls, passes: Passes, sites: Sequence[DropoutSite], samples: int) -> Patterns:
        """Find what a model's dropouts are applied to, by one pass.

        Raises
        ------
        ArgumentError
            For a dropout that does not drop elements one by one, whose input does not begin with the samples, or where
            there are too many units.
        """
        rates = _rates(sites)
        found: list[Units] = []

        def look(name: str, call: int, x: Tensor) -> Tensor:
            if not x.ndim or x.shape[0] != samples:
                raise ArgumentError(
                    f'masks="all" gives all samples the same mask, and the input of {name}, of shape {tuple(x.shape)}, '
                    f"does not begin with the {samples} samples: give a number of masks, which are drawn"
                )
            found.append(Units(name, call, tuple(x.shape[1:]), rates[name]))
            return torch.ones((), dtype=x.dtype, device=x.device)

        with passes.switched(True, look):
            passes.forward()
        _check_number(found)
        return cls(found)

    def __call__(self, names: Collection[str]) -> Iterator[Pattern]:
        """Give all masks of the dropouts that are named."""
        units = [one for one in self._units if one.name in names]
        rates = {one.name: one.rate for one in units}
        for bits in product((True, False), repeat=sum(one.number for one in units)):
            kept, at, probability = {}, 0, 1.0
            for one in units:
                mine = bits[at : at + one.number]
                kept[one.name, one.call], at = mine, at + one.number
                probability *= prod(1 - one.rate if bit else one.rate for bit in mine)
            yield Pattern(probability, kept, rates)


def _rates(sites: Sequence[DropoutSite]) -> dict[str, float]:
    """Return the rates of dropouts by name; refuse those that do not drop elements one by one."""
    rates: dict[str, float] = {}
    for site in sites:
        if mask_variance_of(site.module) is None or site.rate is None or not 0 < site.rate < 1:
            raise ArgumentError(
                f'masks="all" takes dropouts of torch.nn.Dropout, with rates in (0, 1), and {site.name} is a '
                f"{site.type} (rate {site.rate}): give a number of masks, which are drawn"
            )
        rates[site.name] = site.rate
    return rates


def _check_number(found: Sequence[Units]) -> None:
    total = sum(units.number for units in found)
    if total > MOST:
        told = ", ".join(f"{units.name} {units.number}" for units in found)
        raise ArgumentError(
            f'masks="all" would be 2^{total} masks, of {total} units ({told}); up to 2^{MOST} are gone through: '
            "give a number of masks, which are drawn"
        )
