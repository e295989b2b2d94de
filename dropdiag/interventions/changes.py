"""Set the rates of a built model's dropouts, switch them off, put dropouts where there are none."""

from __future__ import annotations

import fnmatch
import warnings
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from torch import nn

from dropdiag.errors import ArgumentError, DropdiagWarning
from dropdiag.formatting import some
from dropdiag.interventions.registry import Intervention
from dropdiag.interventions.sites import DropoutSite, list_dropouts, plain_name, unwrapped
from dropdiag.interventions.slots import put, take_off
from dropdiag.model.inserted import InsertedDropout

_CONTAINERS: Final = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_SEVERAL_OUTPUTS: Final = (nn.RNNBase, nn.MultiheadAttention)


class RateChange(Intervention):
    """Rates that `set` or `off` gave.

    Examples
    --------
    >>> dd.interventions.set(model, {"*": 0.1}).what
    'set'
    """

    def __init__(self, what: str, model: nn.Module, rates: Mapping[str, float]) -> None:
        chosen, left = choose(list_dropouts(model), tuple(rates))
        self.what = what
        super().__init__(tuple(rates), [site.name for site in chosen], left)
        self._rates = [rates[pattern] for pattern in chosen.values()]
        self._places = [(site.name, weakref.ref(site.module), site.attribute) for site in chosen]
        for site, rate in zip(chosen, self._rates, strict=True):
            put(site.module, site.attribute, self, rate)
        self._enter_into_force(unwrapped(model))

    def _take_back(self) -> None:
        take_back(self, self._places)

    def touches(self, modules: set[int]) -> bool:
        """Whether it set a rate in one of the modules with these ids."""
        return any(id(place()) in modules for _, place, _ in self._places)

    def values(self) -> dict[str, Any]:
        """Return the rates, in the order of the sites."""
        return {"rates": list(self._rates)}


class Insertion(Intervention):
    """Dropouts that `insert` put behind modules.

    Attributes
    ----------
    modules : dict
        Name of the module before it -> the dropout.

    Examples
    --------
    >>> inserted = dd.interventions.insert(model, "output", p=0.1)
    >>> inserted.modules
    {'output': Dropout(p=0.1, inplace=False)}
    """

    what = "insert"

    def __init__(self, model: nn.Module, behind: Mapping[str, nn.Module], patterns: Sequence[str], p: float) -> None:
        self._behind = [weakref.ref(module) for module in behind.values()]
        self._hooks = [InsertedDropout(nn.Dropout(p), module) for module in behind.values()]
        super().__init__(patterns, [f"{path}:{hook.name}" for path, hook in zip(behind, self._hooks, strict=True)])
        self._p = p
        self.modules = {path: hook.dropout for path, hook in zip(behind, self._hooks, strict=True)}
        self._handles = [
            module.register_forward_hook(hook) for module, hook in zip(behind.values(), self._hooks, strict=True)
        ]
        self._enter_into_force(unwrapped(model))

    def _take_back(self) -> None:
        for hook, handle in zip(self._hooks, self._handles, strict=True):
            hook.closed = True
            handle.remove()

    def touches(self, modules: set[int]) -> bool:
        """Whether it put a dropout behind one of the modules with these ids."""
        return any(id(module()) in modules for module in self._behind)

    def values(self) -> dict[str, Any]:
        """Return the rates, in the order of the sites."""
        return {"rates": [self._p for _ in self.sites]}


def set_rates(model: nn.Module, rates: Mapping[str, float]) -> RateChange:
    """Set the rates of dropouts by the patterns that their names match.

    Parameters
    ----------
    model : nn.Module
        Its dropouts are changed in place; nothing else of it is, and no random number is drawn.
    rates : mapping of str to float
        Shell pattern for the names that `list` shows (``*`` also stands for dots) -> rate in [0, 1). Of several
        patterns that match one dropout the last one holds.

    Returns
    -------
    RateChange
        ``.undo()`` puts the old rates back; as a context manager it does so at its end.

    Raises
    ------
    ArgumentError
        For a rate outside [0, 1), a pattern that matches no dropout, or a dropout whose rate cannot be set. Nothing is
        changed then.

    Warns
    -----
    DropdiagWarning
        Where a pattern with a wildcard matches dropouts whose rate cannot be set, beside others: they are left as they
        are (``.left`` of what is returned).

    Notes
    -----
    A wildcard passes over the dropout of a layer that was built with rate 0 (attention, recurrent and other layers
    that drop inside), unless it matches nothing else; its own name reaches it. A model that `torch.compile` has
    compiled is compiled again for new rates.

    Examples
    --------
    >>> from torch import nn
    >>> import dropdiag as dd
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3))
    >>> with dd.interventions.set(model, {"*": 0.1}):
    ...     print(model[1].p)
    0.1
    >>> model[1].p
    0.3
    """
    if not isinstance(rates, Mapping) or not rates:
        raise ArgumentError(f"rates is a mapping of patterns to rates, as {{'blocks.*.drop': 0.1}}; got {rates!r}")
    return RateChange("set", model, {pattern: checked_rate(rate, pattern) for pattern, rate in rates.items()})


def off(model: nn.Module, patterns: str | Sequence[str] = "*") -> RateChange:
    """Switch dropouts off: set their rate to 0.

    Parameters
    ----------
    model : nn.Module
    patterns : str or sequence of str, default "*"
        As for `set`.

    Returns
    -------
    RateChange
        ``.undo()`` switches them on again.

    Raises
    ------
    ArgumentError
        As `set`.

    Warns
    -----
    DropdiagWarning
        Where dropouts stay on, as `set` does.

    Examples
    --------
    >>> from torch import nn
    >>> import dropdiag as dd
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.3))
    >>> without = dd.interventions.off(model)
    >>> model[1].p, without.sites
    (0.0, ('1',))
    """
    return RateChange("off", model, dict.fromkeys(as_patterns(patterns), 0.0))


def insert(model: nn.Module, after: str | Sequence[str], p: float) -> Insertion:
    """Put a dropout behind modules: what they give is dropped while they are in training mode.

    Parameters
    ----------
    model : nn.Module
        Gets a forward hook on each of these modules, and no new module: its ``state_dict`` stays what it was.
    after : str or sequence of str
        Shell patterns for names of modules that give one tensor. A module that is called in several places has the
        dropout behind each of its calls.
    p : float
        The rate, in [0, 1). Elements are dropped and the rest is scaled, as `torch.nn.Dropout` does.

    Returns
    -------
    Insertion
        ``.undo()`` takes them out again.

    Raises
    ------
    ArgumentError
        For a rate outside [0, 1), a pattern that matches no module, or a module behind which no dropout can stand: a
        list of modules, which is never called, or a layer with several outputs. Nothing is changed then. Where a
        module gives something else than a tensor, its first pass raises it.

    Notes
    -----
    Draws and losses are those of the same network with an `torch.nn.Dropout` there. `list` shows it as
    ``MODULE:dropout``, and `set`, `off` and `schedule` reach it by that name. A deep copy of the model has a dropout
    of its own there, which `undo` does not take out; so has a pickled model (``torch.save(model)``), which needs
    dropdiag where it is loaded. A ``state_dict`` knows nothing of it: insert it again after building the model anew.

    Examples
    --------
    >>> from torch import nn
    >>> import dropdiag as dd
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    >>> inserted = dd.interventions.insert(model, after="1", p=0.2)
    >>> dd.interventions.list(model)
    name       type     rate  grain    can be set
    ---------------------------------------------
    1:dropout  Dropout  0.2   element  yes
    """
    rate, patterns = checked_rate(p, "p"), as_patterns(after)
    inner = unwrapped(model)
    names = {plain_name(name): module for name, module in inner.named_modules() if name}
    behind = {name: module for pattern in patterns for name, module in _matching(names, pattern).items()}
    for name, module in behind.items():
        if isinstance(module, (*_CONTAINERS, *_SEVERAL_OUTPUTS)):
            what = "is never called" if isinstance(module, _CONTAINERS) else "gives more than one tensor"
            raise ArgumentError(f"no dropout can stand after {name}: a {type(module).__name__} {what}")
    return Insertion(inner, behind, patterns, rate)


def _matching(names: Mapping[str, nn.Module], pattern: str) -> dict[str, nn.Module]:
    found = {name: module for name, module in names.items() if fnmatch.fnmatchcase(name, pattern)}
    if not found:
        raise ArgumentError(f"after={pattern!r} matches no module; the modules are {some(list(names), most=40)}")
    return found


def as_patterns(patterns: str | Sequence[str]) -> tuple[str, ...]:
    """Return one pattern or several as a tuple."""
    found = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    if not found or not all(isinstance(pattern, str) for pattern in found):
        raise ArgumentError(f"a pattern for names is a string, as 'blocks.*.drop', or several; got {patterns!r}")
    return found


def checked_rate(rate: object, what: str) -> float:
    """Return a dropout rate; raise `ArgumentError` unless it is a number in [0, 1)."""
    if isinstance(rate, bool) or not isinstance(rate, (int, float, np.floating)) or not 0 <= rate < 1:
        raise ArgumentError(f"{what}: a dropout rate is a number in [0, 1), got {rate!r}")
    return float(rate)


def choose(sites: Sequence[DropoutSite], patterns: Sequence[str]) -> tuple[dict[DropoutSite, str], list[str]]:
    """Choose the dropouts whose rate is to be set.

    Returns
    -------
    chosen : dict
        Site -> the last pattern that matches it.
    left : list of str
        Names of those that a wildcard matches and that cannot be set, which is warned of.
    """
    chosen: dict[int, str] = {}
    refused: dict[str, str] = {}
    for pattern in patterns:
        matched = [site for site in sites if site.matches(pattern)]
        settable = [site for site in matched if site.why_not is None]
        cannot = {site.name: site.why_not for site in matched if site.why_not is not None}
        if not matched:
            names = ", ".join(site.name for site in sites) or "none (insert() puts them in)"
            raise ArgumentError(f"{pattern!r} matches no dropout; the dropouts are {names}")
        if cannot and not (settable and _is_wildcard(pattern)):
            raise ArgumentError(f"the rate cannot be set of {_reasons(cannot)}")
        refused |= cannot
        if _is_wildcard(pattern):
            settable = [site for site in settable if not site.dormant] or settable
        chosen |= {id(site): pattern for site in settable}
    if refused:
        warnings.warn(f"left as they are: {_reasons(refused)}", DropdiagWarning, stacklevel=4)
    return {site: chosen[id(site)] for site in sites if id(site) in chosen}, list(refused)


def _is_wildcard(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _reasons(cannot: Mapping[str, str]) -> str:
    return "; ".join(f"{name} ({why})" for name, why in cannot.items())


def take_back(
    owner: object, places: Sequence[tuple[str, weakref.ref[nn.Module], str]], known: Collection[str] = ()
) -> None:
    """Take off the rates that an owner gave; warn of those that something else has changed since, if not known."""
    kept = []
    for name, place, attribute in places:
        module = place()
        if module is not None and not take_off(module, attribute, owner) and name not in known:
            kept.append(f"{name} ({getattr(module, attribute, None)})")
    if kept:
        message = f"left at the rate that something else has set since: {', '.join(kept)}"
        warnings.warn(message, DropdiagWarning, stacklevel=4)
