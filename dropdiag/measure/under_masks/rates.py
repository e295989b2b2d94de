"""Set a rate in every dropout of a model, and judge by what then happens whether it reached all of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.tensors import close, tensors_in
from dropdiag.model.dropouts import kind_of, settable_rates

LEVEL: Final = 1e-9
"""A dropout whose share of dropped units would be met no more often than this, if it had the rate, is refused."""
ENOUGH: Final = 16
"""In so many passes the dropped units are counted."""
MOST: Final = 1000
"""In so many passes a dropout that may drop everything at once is given a chance to do so."""

_ALPHA: Final = -1.7580993408473766
"""What alpha dropout puts in the place of a unit, before it rescales: the limit of SELU at minus infinity."""


@dataclass(frozen=True)
class RateSite:
    """A module whose rate is set.

    Attributes
    ----------
    name : str
    module : nn.Module
    attribute : str
        Holds the rate.
    more : bool
        Whether it does more than dropout (attention, recurrent layers).
    """

    name: str
    module: nn.Module
    attribute: str
    more: bool

    def __str__(self) -> str:
        return f"{self.name} (a {type(self.module).__name__})"

    def set(self, rate: float) -> None:
        """Set its rate."""
        old = getattr(self.module, self.attribute)
        try:
            setattr(self.module, self.attribute, torch.full_like(old, rate) if isinstance(old, Tensor) else rate)
        except (AttributeError, TypeError) as error:
            raise ArgumentError(f"p= cannot be set in {self}: {error}") from error


class Rates:
    """The dropouts that a rate is set in.

    Parameters
    ----------
    modules : dict of str -> nn.Module
        All modules of a model.

    Attributes
    ----------
    sites : list of RateSite
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        attributes = {id(module): name for module, name in settable_rates(nn.ModuleList(modules.values()))}
        found = (
            (name, module, attributes.get(id(module)) or _unknown_rate(module)) for name, module in modules.items()
        )
        self.sites = [
            RateSite(name, module, attribute, (kind := kind_of(module)) is not None and kind.inside_layer)
            for name, module, attribute in found
            if attribute is not None
        ]

    def set(self, rate: float) -> None:
        """Set the rate in all of them."""
        for site in self.sites:
            site.set(rate)

    def switch_off_inside_layers(self, _hooks: ExitStack) -> None:
        """Put layers that have a dropout inside in evaluation mode."""
        for site in self.sites:
            for part in site.module.modules() if site.more else ():
                part.training = False


def _unknown_rate(module: nn.Module) -> str | None:
    """Return where a module that is a dropout by its name alone, of its own making, has a number for a rate."""
    kind = kind_of(module)
    if kind is None or kind.grain != "unknown" or kind.settable or [*module.children(), *module.parameters()]:
        return None
    numbers = (name for name in kind.rates if type(getattr(module, name, None)) in (int, float))
    return next(numbers, None)


class Unmasked:
    """What dropouts do at rate 0: whether each gives what it takes.

    Attributes
    ----------
    changed : list of RateSite
        Those that do not.
    """

    def __init__(self, rates: Rates) -> None:
        self.changed: list[RateSite] = []
        self._sites = [site for site in rates.sites if not site.more]

    def watch(self, hooks: ExitStack) -> None:
        """Put hooks on the dropouts for one pass."""
        for site in self._sites:
            _watch(site, partial(self._compare, site), hooks)

    def _compare(self, site: RateSite, before: list[Tensor], after: list[Tensor]) -> None:
        same = len(before) == len(after) and all(map(close, before, after))
        if not same and site not in self.changed:
            self.changed.append(site)


@dataclass
class _Tally:
    """Dropped units of one call of a dropout, over passes.

    The mask's grain is taken from what is seen: units are joined along the dimensions along which no pass has shown
    both a unit that was dropped and one that was not. Passes count from the second on, from the last change of that.
    """

    ndim: int | None = None
    joined: set[int] = field(default_factory=set)
    counts: list[tuple[int, int]] = field(default_factory=list)

    def add(self, dropped: Tensor, kept: Tensor) -> None:
        """Take in which units of a pass were dropped and which kept; neither: already equal to the replacement."""
        varies = {d for d in range(dropped.ndim) if bool((dropped.any(d) & kept.any(d)).any())}
        if self.ndim != dropped.ndim or varies & self.joined:
            self.joined = (self.joined if self.ndim == dropped.ndim else set(range(dropped.ndim))) - varies
            self.ndim, self.counts = dropped.ndim, []
            return
        for d in sorted(self.joined):
            dropped, kept = dropped.any(d, keepdim=True), kept.any(d, keepdim=True)
        self.counts.append((int(dropped.sum()), int((dropped | kept).sum())))

    @property
    def dropped(self) -> int:
        return sum(dropped for dropped, _ in self.counts)

    @property
    def units(self) -> int:
        return sum(units for _, units in self.counts)

    def fits(self, p: float) -> bool:
        """Whether the share of dropped units is what a rate gives, at `LEVEL` (two-sided, binomial)."""
        from scipy.special import bdtr, bdtrc  # noqa: PLC0415 - who only records need not wait for scipy

        together = self._correlation(p)
        n, k = math.ceil(self.units / together), round(self.dropped / together)
        if n == 0:
            return True
        return bool(2 * min(bdtr(k, n, p), bdtrc(k - 1, n, p) if k else 1.0) >= LEVEL)

    def _correlation(self, p: float) -> float:
        """Return how many units act as one, where masks are drawn in blocks: from the spread of passes' shares."""
        shares = torch.tensor([k / n for k, n in self.counts if n], dtype=torch.float64)
        if len(shares) < ENOUGH // 2 or not self.units:
            return 1.0
        spread = float(shares.var()) / (p * (1 - p) / (self.units / len(shares)))
        return 1.0 if spread <= 2 else 2 * spread  # twice: the spread of so few passes is not known well


class DroppedShares:
    """The shares of units that dropouts in training mode drop, over passes at a rate.

    Parameters
    ----------
    rates : Rates
    p : float
        In (0, 1).
    """

    def __init__(self, rates: Rates, p: float) -> None:
        self._p = p
        self._sites = [site for site in rates.sites if not site.more]
        self._tallies: dict[tuple[RateSite, int], _Tally] = defaultdict(_Tally)
        self._passes = 0

    def watch(self, hooks: ExitStack) -> None:
        """Put hooks on the dropouts for one pass, in the first passes."""
        self._passes += 1
        if self._passes > ENOUGH and not self.is_open:
            return
        for site in self._sites:
            if site.module.training:  # one in evaluation mode is to drop nothing
                _watch(site, partial(self._count, site, calls=[]), hooks)

    @property
    def is_open(self) -> bool:
        """Whether more passes are needed: few so far, or nothing was dropped that might have been by chance."""
        if self._passes < ENOUGH and self._tallies:
            return True
        return self._passes < MOST and any(
            not t.dropped and t.units and t.fits(self._p) for t in self._tallies.values()
        )

    def check(self) -> None:
        """Raise `ArgumentError` for a dropout whose share is not that of the rate."""
        for (site, _), tally in self._tallies.items():
            if not tally.fits(self._p):
                raise ArgumentError(
                    f"p={self._p:g} does not reach {site}: of {tally.units} units that could be dropped "
                    f"{tally.dropped} were, a share of {tally.dropped / tally.units:.3g}; leave p= out to measure at "
                    "the model's own rates"
                )

    def _count(self, site: RateSite, before: list[Tensor], after: list[Tensor], *, calls: list[None]) -> None:
        taken, given = _replacement(site.module, self._p)
        for x, y in zip(before, after, strict=False):
            calls.append(None)
            if x.shape != y.shape or not x.is_floating_point():
                continue
            can_be = x.isfinite() & ~(x == taken if taken == 0 else torch.isclose(x, x.new_tensor(taken), rtol=1e-3))
            was = y == given if given == 0 else torch.isclose(y, y.new_tensor(given), rtol=1e-3)
            self._tallies[site, len(calls)].add(can_be & was, can_be & ~was)


def _replacement(module: nn.Module, p: float) -> tuple[float, float]:
    """Return what a unit that is dropped is replaced by, before and after the dropout rescales."""
    if not isinstance(module, (nn.AlphaDropout, nn.FeatureAlphaDropout)):
        return 0.0, 0.0
    scale = 1 / math.sqrt((1 - p) * (1 + p * _ALPHA**2))
    return _ALPHA, scale * _ALPHA * (1 - p)


def _watch(site: RateSite, see: Any, hooks: ExitStack) -> None:
    """Call ``see(before, after)`` with the tensors that a module takes and gives, at each of its calls."""
    taken: list[list[Tensor]] = []

    def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        taken.append([t.clone() for t in tensors_in((*args, *kwargs.values()))])  # it may work in place

    def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        see(taken.pop(), list(tensors_in(output)))

    hooks.enter_context(site.module.register_forward_pre_hook(before, with_kwargs=True))
    hooks.enter_context(site.module.register_forward_hook(after))
