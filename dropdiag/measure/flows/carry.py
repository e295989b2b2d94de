"""Which masks a model draws in a measurement: its own, others' by name, or some that are put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.interventions.changes import checked_rate
from dropdiag.interventions.sites import DropoutSite
from dropdiag.measure.flows.placed import PlacedMask, PlacedMasks
from dropdiag.measure.passes.dropouts.kinds import is_module, may_mask
from dropdiag.measure.passes.passes import Passes


@dataclass(frozen=True)
class Plan:
    """What draws in a model when its masks are on; everything else of its dropouts is off.

    Attributes
    ----------
    own : mapping of str to bool or float
        Its own dropouts by name, at a rate of theirs or another one.
    placed : sequence of PlacedMask
    """

    own: Mapping[str, bool | float]
    placed: Sequence[PlacedMask] = field(default=())

    @contextmanager
    def drawing(self, passes: Passes) -> Iterator[Callable[[], set[str]]]:
        """Draw masks in the passes inside; the function that it gives returns the names of those that did."""
        placed = PlacedMasks(self.placed, passes.begin_site, passes.called)
        with passes.watched(placed.watch), passes.switched(self.own) as switches:
            yield lambda: placed.drawn | (switches.drawn if switches is not None else set())


def own_masks(passes: Passes) -> Plan:
    """Return the plan of a model that draws what its dropouts draw."""
    return Plan({site.name: True for site in passes.dropouts if may_mask(site)})


def masks_at(passes: Passes, rates: Mapping[str, float], what: str) -> Plan:
    """Return the plan of a model that draws at rates given by name: its dropouts, and some behind modules of a name."""
    modules, known = dict(passes.root.named_modules()), {site.name for site in passes.dropouts}
    own: dict[str, bool | float] = {}
    placed = []
    for name, given in rates.items():
        rate = checked_rate(given, f"{what} of {name}")
        if name in known:
            own[name] = rate
        elif name in modules and name:
            placed.append(PlacedMask(name, modules[name], nn.Dropout(rate)))
        else:
            raise ArgumentError(f"{what} names {name!r}, and the model has no dropout or module of that name")
    return Plan(own, placed)


def masks_behind_activations(passes: Passes, p: float) -> Plan:
    """Return the plan of a model without dropouts that has one behind each activation."""
    rate = checked_rate(p, "p")
    if any(may_mask(site) for site in passes.dropouts):
        names = ", ".join(site.name for site in passes.dropouts if may_mask(site))
        raise ArgumentError(f"p= is for a model without dropouts, and this one has {names}: leave p= out, or use like=")
    behind = (site.layer if site.functional else site.module for site in passes.activations)
    both = zip(passes.activations, behind, strict=True)
    return Plan({}, [PlacedMask(site.layer, where, nn.Dropout(rate)) for site, where in both])


def carried(source: Passes, target: Passes, sites: Mapping[str, str], conditions: tuple[str, str]) -> Plan:
    """Return the plan by which a model draws the masks of another one.

    Parameters
    ----------
    source, target : Passes
        The model whose masks they are, and the one that they are carried to.
    sites : mapping of str to str
        Name of a dropout of the source -> module of the target behind which its mask is put.
    conditions : (str, str)
        What both are called.

    Raises
    ------
    ArgumentError
        Where a mask has no place in the target.
    """
    own: dict[str, bool | float] = {}
    placed = []
    modules = dict(target.root.named_modules())
    theirs = {site.name: site for site in target.dropouts}
    dropouts = [site for site in source.dropouts if may_mask(site)]
    _check_sites(sites, [site.name for site in dropouts], modules, conditions)
    for site in dropouts:
        other = theirs.get(site.name)
        if site.name in sites:
            placed.append(_behind(site, modules[sites[site.name]], conditions))
        elif other is not None and _alike(site, other):
            own[site.name] = True if site.rate is None or site.rate == other.rate else site.rate
        elif (place := _place(site, source, modules)) is not None:
            placed.append(_behind(site, place, conditions))
        else:
            raise ArgumentError(_no_place(site, modules, conditions))
    return Plan(own, placed)


def _check_sites(
    sites: Mapping[str, str], dropouts: Sequence[str], modules: Mapping[str, nn.Module], conditions: tuple[str, str]
) -> None:
    for name, behind in sites.items():
        if name not in dropouts:
            raise ArgumentError(
                f"sites names {name!r}, and the dropouts of {conditions[0]!r} are {', '.join(dropouts)}"
            )
        if behind not in modules or not behind:
            raise ArgumentError(f"sites has {name!r} behind {behind!r}, and {conditions[1]!r} has no such module")


def _alike(site: DropoutSite, other: DropoutSite) -> bool:
    return site.type == other.type and site.grain == other.grain and (site.attribute == other.attribute)


def _place(site: DropoutSite, source: Passes, modules: Mapping[str, nn.Module]) -> nn.Module | None:
    """Return the module of another model behind which a mask belongs, where its name says so."""
    if not is_module(site):
        return None
    module = modules.get(site.name)
    if type(module) is nn.Identity:
        return module
    before, colon, _ = site.name.rpartition(":")  # inserted behind a module
    behind = modules.get(before) if colon else None
    same = behind is not None and type(behind) is type(dict(source.root.named_modules()).get(before))
    return behind if same else None


def _behind(site: DropoutSite, module: nn.Module, conditions: tuple[str, str]) -> PlacedMask:
    if not is_module(site):
        raise ArgumentError(
            f"the dropout {site.name} of {conditions[0]!r} is inside of a {site.type} and cannot be put behind a "
            f"module of {conditions[1]!r}: give both models the same {site.type}, with rate 0 in one"
        )
    return PlacedMask(site.name, module, site.module)


def _no_place(site: DropoutSite, modules: Mapping[str, nn.Module], conditions: tuple[str, str]) -> str:
    name = site.name.partition(":")[0]
    there = f"its {name} is a {type(modules[name]).__name__}" if name in modules else f"it has no module {name}"
    return (
        f"the mask of {site.name} (a {site.type}) of {conditions[0]!r} has no place in {conditions[1]!r}: {there}, and "
        "no dropout or nn.Identity of that name. Build that model with nn.Dropout(0) there, or say behind which of its "
        f"modules the mask is put: sites={{{site.name!r}: 'MODULE'}}"
    )
