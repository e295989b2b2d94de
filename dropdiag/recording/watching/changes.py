"""Which modules and parameters a model has, looked at again and again: what came, and what is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import is_
from typing import Final, NamedTuple, TypeAlias

from torch import Tensor, nn

from dropdiag.model.hook_base import why_unhookable
from dropdiag.model.inserted import inserted_in
from dropdiag.model.names import named_modules
from dropdiag.model.sites import WEIGHT, Site, survey

NAMED: Final = 5
"""Sites of a kind of change that are named."""

Structure: TypeAlias = list[tuple[str, nn.Module, list[str]]]
"""Name, module, and the names of its own parameters."""


@dataclass(frozen=True)
class Change:
    """What differs between the sites before and now: each is in one of the lists.

    Attributes
    ----------
    kept, came, gone : list of Site
        Sites that are recorded, or would be if they were not left out; what stays is the same object as before.
    """

    kept: list[Site]
    came: list[Site]
    gone: list[Site]

    def __bool__(self) -> bool:
        return bool(self.came or self.gone)

    def __str__(self) -> str:
        came, gone = _names(self.came), _names(self.gone)
        parts = {
            "exchanged": [name for name in came if name in gone],
            "new": [name for name in came if name not in gone],
            "gone": [name for name in gone if name not in came],
        }
        return "; ".join(f"{what}: {_listed(names)}" for what, names in parts.items() if names)


class ModuleWatch:
    """Remembers the modules of a model.

    Parameters
    ----------
    model : nn.Module
    why_not : callable
        Layer name -> why it is left out, or None.
    """

    def __init__(self, model: nn.Module, why_not: Callable[[str], str | None]) -> None:
        self._model, self._why_not = model, why_not
        self._known = _structure(model)
        self._parts = [_Parts.of(module) for module in model.modules()]

    def changed(self) -> bool:
        """Whether modules or parameters came or went since the last time that this was asked."""
        if all(map(_Parts.stand, self._parts)):  # as in nearly every step, and quickly known
            return False
        self._parts = [_Parts.of(module) for module in self._model.modules()]
        now = _structure(self._model)
        # The modules themselves are held and compared, not their ids, which new modules are given again.
        if len(now) == len(self._known) and all(map(_same, now, self._known)):
            return False
        self._known = now
        return True

    def change(self, before: Sequence[Site]) -> Change:
        """Survey the model again, and compare it with the sites of before."""
        known = {_key(site): site for site in before}
        named = named_modules(self._model)  # as in Site.path, without what wrappers add
        refused = {name: reason for name, module in named if (reason := why_unhookable(module))}
        now = [self._as_known(site, known, refused) for site in survey(self._model)]
        keys, modules = {_key(site) for site in now}, {id(module) for _, module, _ in self._known}
        rest = [site for site in before if _key(site) not in keys and id(site.module) in modules]
        now += [site for site in rest if _is_computed(site)]
        same = set(map(id, now))
        return Change(
            kept=[site for site in now if known.get(_key(site)) is site],
            came=[site for site in now if known.get(_key(site)) is not site],
            gone=[site for site in before if id(site) not in same],
        )

    def _as_known(self, site: Site, known: dict[tuple[object, ...], Site], refused: dict[str, str]) -> Site:
        """Return the site as it was before, or chosen if it is new or takes no hooks any more."""
        inside = next((why for name, why in refused.items() if f"{site.path}.".startswith(f"{name}.")), None)
        if inside is None and _key(site) in known:
            return known[_key(site)]
        reason = None if inside is None else f"it {inside}"
        return replace(site, skipped=site.skipped or self._why_not(site.layer) or reason)


class _Parts(NamedTuple):
    """What a module had when it was last looked at: its own modules, parameters with values, and inserted dropouts."""

    module: nn.Module
    names: list[str]
    modules: list[nn.Module | None]
    parameters: list[str]
    inserted: list[nn.Module]

    @classmethod
    def of(cls, module: nn.Module) -> _Parts:
        inside = module._modules
        return cls(module, list(inside), list(inside.values()), _with_values(module), _inserted(module))

    def stand(self) -> bool:
        """Whether it still has these and no others."""
        now = _Parts.of(self.module)
        alike = now.names == self.names and now.parameters == self.parameters
        as_many = len(now.inserted) == len(self.inserted)
        # a module may mean anything by ==
        return alike and as_many and all(map(is_, (*now.modules, *now.inserted), (*self.modules, *self.inserted)))


def _with_values(module: nn.Module) -> list[str]:
    # A parameter may be None and get a value later. The table is private; named_parameters() takes three times as long.
    return [key for key, value in module._parameters.items() if value is not None]


def _inserted(module: nn.Module) -> list[nn.Module]:
    return [hook.dropout for hook in inserted_in(module)] if module._forward_hooks else []


def _structure(model: nn.Module) -> Structure:
    found = []
    for name, module in model.named_modules():
        found.append((name, module, _with_values(module)))
        found += [(f"{name}:{hook.name}", hook.dropout, []) for hook in inserted_in(module)]
    return found


def _same(a: tuple[str, nn.Module, list[str]], b: tuple[str, nn.Module, list[str]]) -> bool:
    return a[1] is b[1] and a[0] == b[0] and a[2] == b[2]


def _key(site: Site) -> tuple[object, ...]:
    return site.layer, site.kind, site.parameter, site.axis_rule, id(site.module)


def _is_computed(site: Site) -> bool:
    """Whether a weight is no parameter any more, but still what its layer uses."""
    # prune and spectral norm put a tensor that they compute in its place, FSDP does so for the time of a pass.
    is_parameter = site.kind != WEIGHT or site.parameter in site.module._parameters
    return not is_parameter and isinstance(site.module.__dict__.get(site.parameter), Tensor)


def _names(sites: Sequence[Site]) -> dict[str, None]:
    # What an intervention put in or took out is told in run.json.
    return dict.fromkeys(site.layer for site in sites if site.recordable and not site.inserted)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
