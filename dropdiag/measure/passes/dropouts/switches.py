"""Switch dropouts on and off for a pass, and nothing else; give each random numbers of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.interventions.sites import DropoutSite
from dropdiag.measure.passes.dropouts.called import CalledDropouts
from dropdiag.measure.passes.dropouts.kinds import is_called, is_module, is_of_layer, may_mask
from dropdiag.measure.passes.net_values import Calls, tensor_argument
from dropdiag.model.dropouts import has_own_forward
from dropdiag.model.inserted import inserted_in

Masks: TypeAlias = Callable[[str, int, Tensor], Tensor]
"""(name, call, what a dropout is applied to) -> the factor in the place of a mask."""
BeginSite: TypeAlias = Callable[[str, int], object]


class Switches:
    """Which dropouts are on in a pass.

    Parameters
    ----------
    model : nn.Module
    dropouts : sequence of DropoutSite
    on : bool or mapping of str to bool or float
        All of them, or by name; those that a mapping does not name are off. A number is the rate to draw at.
    begin_site : callable
        Begins the random numbers of a dropout, by its name and call.
    masks : callable, optional
        Gives the factors of those that are on, which draw nothing then; for dropouts that are modules alone.

    Attributes
    ----------
    drawn : set of str
        Names of those that were on in a pass and called.
    """

    def __init__(
        self,
        model: nn.Module,
        dropouts: Sequence[DropoutSite],
        on: bool | Mapping[str, bool | float],
        begin_site: BeginSite,
        masks: Masks | None = None,
    ) -> None:
        self._model, self._begin_site, self._masks = model, begin_site, masks
        asked = _by_name(dropouts, on)
        self._on = {name: bool(value) for name, value in asked.items()}
        self._sites = [_at(site, asked[site.name]) for site in dropouts if may_mask(_at(site, asked[site.name]))]
        self.drawn: set[str] = set()
        for site in self._sites:
            _check(site, given=masks is not None and self._on[site.name])
        called = CalledDropouts(self._sites, self._on, self._begin, model)
        self._called = called if called.any else None

    def watch(self, hooks: ExitStack) -> None:
        """Set dropouts, and put hooks on them, for one pass."""
        calls = Calls()
        for module in self._model.modules():
            for hook in inserted_in(module):
                hook.follows = False  # a mode of its own
        for site in self._sites:
            if not is_called(site):
                self._switch(site, on=self._on[site.name], hooks=hooks, calls=calls)
        if self._called is not None:
            self._called.watch(hooks, calls)

    def intercepting(self) -> AbstractContextManager[Any]:
        """Return the context that switches calls of functions in the pass that `watch` was called for."""
        return nullcontext() if self._called is None else self._called.intercepting()

    def warn_of_guarded(self) -> None:
        """Say which masks are lacking, as a forward method calls the dropout in training mode alone."""
        if self._called is not None and (names := self._called.guarded(self.drawn)):
            warnings.warn(
                f"the masks of {', '.join(names)} are not in what was measured: the module ran in evaluation mode and "
                "did not call it, as behind an ``if self.training:``; let the function have training=self.training",
                DropdiagWarning,
                stacklevel=2,
            )

    def _switch(self, site: DropoutSite, *, on: bool, hooks: ExitStack, calls: Calls) -> None:
        module = site.module
        if on and self._masks is not None:
            _set_off(site)
            hooks.enter_context(module.register_forward_hook(partial(self._factor, site.name, calls)))
        elif on:
            module.training = True
            if _number_at(site):
                setattr(module, site.attribute, site.rate)
            begins = partial(self._begins, site.name, calls)
            hooks.enter_context(module.register_forward_pre_hook(begins))
        else:
            _set_off(site)

    def _begins(self, name: str, calls: Calls, _module: nn.Module, _args: Any) -> None:
        self._begin(name, calls)

    def _begin(self, name: str, calls: Calls) -> None:
        self.drawn.add(name)
        self._begin_site(name, calls.next(name)[0])

    def _factor(self, name: str, calls: Calls, _module: nn.Module, args: Any, output: Tensor) -> Tensor:
        """Forward hook of a dropout that is off: apply a given mask."""
        if self._masks is None or tensor_argument(args, {}) is None:
            return output
        self.drawn.add(name)
        return output * self._masks(name, calls.next(name)[0], output)


def _by_name(dropouts: Sequence[DropoutSite], on: bool | Mapping[str, bool | float]) -> dict[str, bool | float]:
    if isinstance(on, bool):
        return dict.fromkeys((site.name for site in dropouts), on)
    names = [site.name for site in dropouts]
    for name in on:
        if name not in names:
            raise ArgumentError(f"{name!r} is no dropout of the model; its dropouts are {', '.join(names) or 'none'}")
    return {name: on.get(name, False) for name in names}


def _at(site: DropoutSite, asked: bool | float) -> DropoutSite:
    """Return a site with the rate that it is to have."""
    if isinstance(asked, bool) or asked == site.rate or not asked:
        return site
    if not _number_at(site):
        why = site.why_not or "no attribute holds it as a number"
        raise ArgumentError(f"the rate of {site.name} (a {site.type}) cannot be set to {asked:g}: {why}")
    return replace(site, rate=float(asked))


def _check(site: DropoutSite, *, given: bool) -> None:
    """Refuse a dropout that cannot be switched, or whose masks cannot be given."""
    if given and (not is_module(site) or has_own_forward(site.module)):
        raise ArgumentError(f"masks cannot be given to {site.name}: it is no dropout module of torch's own")
    if is_of_layer(site) and not _number_at(site):
        why = site.why_not or "no attribute holds its rate as a number"
        raise ArgumentError(f"the dropout {site.name} (a {site.type}) cannot be switched: {why}")


def _number_at(site: DropoutSite) -> bool:
    """Whether the rate is a plain number that stands in an attribute of the module itself."""
    rate = vars(site.module).get(site.attribute)
    return isinstance(rate, (int, float)) and not isinstance(rate, bool)


def _set_off(site: DropoutSite) -> None:
    if is_module(site):
        site.module.training = False
    # The mode of a layer is also that of what else it does; some dropouts do not ask for their mode; and functions are
    # given the rate of a module.
    if _number_at(site):
        setattr(site.module, site.attribute, 0.0)
