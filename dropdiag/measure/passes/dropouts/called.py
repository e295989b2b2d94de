"""Switch the dropouts that forward methods call as functions, in the calls themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import reduce
from typing import Any, NamedTuple, cast

from torch import nn
from torch.overrides import TorchFunctionMode

from dropdiag.errors import ArgumentError
from dropdiag.interventions.code import FUNCTIONS, KEYWORDS, called_dropouts
from dropdiag.interventions.sites import DropoutSite
from dropdiag.measure.passes.dropouts.kinds import is_called
from dropdiag.measure.passes.net_values import Calls, in_backward
from dropdiag.model.dropouts import DropoutKind, kind_of
from dropdiag.model.rates import plain_rate


class CalledDropouts:
    """The dropouts of a model that are calls of functions.

    Parameters
    ----------
    sites : sequence of DropoutSite
        All that may draw; functions may also take their rates from those that are modules.
    on : mapping of str to bool
    begin : callable
        Begins the random numbers of a site's next call.
    model : nn.Module
    """

    def __init__(
        self,
        sites: Sequence[DropoutSite],
        on: Mapping[str, bool],
        begin: Callable[[str, Calls], None],
        model: nn.Module,
    ) -> None:
        self._on, self._begin, self._model = on, begin, model
        self._running: list[nn.Module] = []
        self._in_evaluation: set[int] = set()
        self._sites: dict[int, list[_Called]] = {}
        for site in sites:
            if is_called(site):
                self._sites.setdefault(id(site.module), []).append(_Called(site, _functions_of(site)))
        self._add_borrowed(sites)

    def _add_borrowed(self, sites: Sequence[DropoutSite]) -> None:
        """Add the calls that take their rate from a dropout module: ``dropout_p=self.drop.p``."""
        of_module = {id(site.module): site for site in sites if not is_called(site)}
        for module in self._model.modules():
            for called in called_dropouts(type(module)):
                *parts, _ = called.attribute.split(".")
                owner = reduce(lambda whole, part: getattr(whole, part, None), parts, cast(Any, module))
                if parts and id(owner) in of_module:
                    borrowed = _Called(of_module[id(owner)], frozenset({called.function}))
                    self._sites.setdefault(id(module), []).append(borrowed)

    @property
    def any(self) -> bool:
        """Whether there are calls to be switched."""
        return bool(self._sites)

    def guarded(self, drawn: set[str]) -> list[str]:
        """Return dropouts that are on, and that their modules did not call in evaluation mode, though they ran."""
        ran = (one.site for module, known in self._sites.items() if module in self._in_evaluation for one in known)
        return [site.name for site in ran if is_called(site) and self._on[site.name] and site.name not in drawn]

    def watch(self, hooks: ExitStack, calls: Calls) -> None:
        """Follow which module runs, and intercept its calls, for one pass."""
        self._calls, self._running = calls, []
        for module in self._model.modules():
            hooks.enter_context(module.register_forward_pre_hook(self._enter))
            hooks.enter_context(module.register_forward_hook(self._leave, always_call=True))
        for known in self._sites.values():
            self._set_what_compares(one.site for one in known)
            for site in (one.site for one in known if not self._on[one.site.name] and _holds(one.site)):
                setattr(site.module, site.attribute, 0.0)  # also for what a checkpoint runs again

    def intercepting(self) -> TorchFunctionMode:
        """Return the context in which calls of functions are switched."""
        return _Intercepted(self._call)

    def _enter(self, module: nn.Module, _args: Any) -> None:
        for site, _ in self._sites.get(id(module), ()) if in_backward() else ():
            if self._on[site.name] or not _holds(site):
                raise ArgumentError(
                    f"{site.name} is called inside torch.utils.checkpoint, where a function cannot be switched: switch "
                    "checkpointing off for the measurement"
                )
        self._running.append(module)
        if not module.training:
            self._in_evaluation.add(id(module))
        for site, _ in self._sites.get(id(module), ()):
            if site.grain == "block" and is_called(site) and self._on[site.name]:  # no function of its own is called
                self._begin(site.name, self._calls)

    def _leave(self, _module: nn.Module, _args: Any, _output: Any) -> None:
        if self._running:  # not after an error in the hook before
            self._running.pop()

    def _set_what_compares(self, sites: Iterable[DropoutSite]) -> None:
        """Switch what is compared with a random number, and called by no function: a layer's being left out."""
        for site in sites:
            if site.grain != "block":
                continue
            if not site.attribute or "." in site.attribute:
                raise ArgumentError(f"the dropout {site.name} (a {site.type}) cannot be switched: {site.why_not}")
            if self._on[site.name]:
                site.module.training = True
                if _holds(site):
                    setattr(site.module, site.attribute, site.rate)
            else:
                setattr(site.module, site.attribute, 0.0)

    def _call(self, function: Any, args: Any, kwargs: Any) -> Any:
        """Make a call of a dropout's function as it is switched."""
        module = self._running[-1] if self._running else self._model
        name, kind = FUNCTIONS[id(function)]
        if _is_its_own(module, kind):
            return function(*args, **kwargs)
        known = [one for one in self._sites.get(id(module), ()) if one.site.grain != "block"]
        given = plain_rate(_argument(args, kwargs, *kind.argument))
        site = self._site(known, module, name, given)
        if site is None:
            return function(*args, **kwargs)
        if not self._on[site.name]:
            args, kwargs = _with(args, kwargs, kind, 0.0, draws=False)
            return function(*args, **kwargs)
        if given == 0 and not site.attribute and not module.training:
            raise ArgumentError(
                f"{site.name} hands over the rate 0 in evaluation mode, and what it is in training its source does not "
                "say: keep the rate in an attribute of the module (self.p), or make it a dropout module"
            )
        self._begin(site.name, self._calls)
        held = plain_rate(vars(site.module).get(site.attribute))
        # In evaluation mode methods hand over 0; and a rate may be asked for that is not the one held.
        rate = site.rate if (given == 0 or site.rate != held) and site.attribute else None
        args, kwargs = _with(args, kwargs, kind, rate, draws=True)
        return function(*args, **kwargs)

    def _site(self, known: list[_Called], module: nn.Module, function: str, rate: Any) -> DropoutSite | None:
        """Return the site that a call is of; None where it draws nothing and none is known."""
        same = [one.site for one in known if function in one.functions]
        # what other libraries' functions do with a rate that they are given is not known
        same = same or [one.site for one in known if not one.functions.isdisjoint(KEYWORDS)]
        fitting = [site for site in same if site.rate == rate] or same
        if not fitting:
            if rate == 0:
                return None
            raise ArgumentError(
                f"a call of {function} in the forward method of a {type(module).__name__} cannot be switched, as its "
                "source does not show it: make it a dropout module"
            )
        if len({self._on[site.name] for site in fitting}) > 1:
            names = ", ".join(site.name for site in fitting)
            raise ArgumentError(f"{names} cannot be told apart, so not one of them can be switched alone")
        return fitting[0]


class _Intercepted(TorchFunctionMode):
    """Hands over the calls of dropouts' functions."""

    def __init__(self, call: Callable[[Any, Any, Any], Any]) -> None:
        super().__init__()
        self._hand_over = call

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if id(func) in FUNCTIONS:
            return self._hand_over(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _is_its_own(module: nn.Module, kind: DropoutKind) -> bool:
    """Whether a call is how a dropout module, or a layer with a dropout inside, draws its own mask."""
    own = kind_of(module)
    return own is not None and (own.grain == kind.grain or not own.inside_layer)


class _Called(NamedTuple):
    """A site, and the functions that a module calls for it."""

    site: DropoutSite
    functions: frozenset[str]


def _holds(site: DropoutSite) -> bool:
    """Whether a rate is a number that its module holds."""
    return isinstance(vars(site.module).get(site.attribute), (int, float))


def _functions_of(site: DropoutSite) -> frozenset[str]:
    """Return the functions that a site is a call of."""
    if not site.attribute:
        return frozenset({site.name.rpartition(":")[2].partition("#")[0]})
    called = called_dropouts(type(site.module))
    return frozenset(one.function for one in called if one.attribute == site.attribute)


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, keyword: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(keyword, default)


def _with(
    args: Sequence[Any], kwargs: Mapping[str, Any], kind: DropoutKind, rate: float | None, *, draws: bool
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return a call's arguments with another rate, and with its draws on or off."""
    position, keyword, _ = kind.argument
    changed = list(args), dict(kwargs)
    if rate is not None:
        _put(changed, position, keyword, rate)
    if kind.training is not None:
        position, keywords, _ = kind.training
        _put(changed, position, next((name for name in keywords if name in kwargs), keywords[0]), draws)
    return tuple(changed[0]), changed[1]


def _put(call: tuple[list[Any], dict[str, Any]], position: int, keyword: str, value: Any) -> None:
    if len(call[0]) > position:
        call[0][position] = value
    else:
        call[1][keyword] = value
