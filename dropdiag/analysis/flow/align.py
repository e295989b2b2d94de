"""The terms of two conditions side by side: which term of one stands beside which of the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from dropdiag.analysis.flow.chain import NET, OUTPUT_NAME, Path
from dropdiag.analysis.flow.readings import Floats, Means
from dropdiag.analysis.flow.terms import ERROR, KINDS, PATHS, TRANSPORT, Term, flow_of, terms_of
from dropdiag.store.order import Site


class Key(NamedTuple):
    """What a term is, in whichever run.

    Attributes
    ----------
    segment : int
        Number of the activation, from the output down, that the term is above of, or the slope of.
    rank : int
        Place of the kind in `KINDS`.
    site : (str, int)
        As the baseline calls it.
    owner : str
        The condition, of a site that has none beside it; else empty.
    """

    segment: int
    rank: int
    site: Site
    owner: str = ""

    @property
    def kind(self) -> str:
        """The kind in words."""
        return KINDS[self.rank]


@dataclass
class Aligned:
    """Terms of one activation of the runs of two conditions.

    Attributes
    ----------
    values : dict of str to dict of Key to ndarray of float64, shape (bins,)
        Run -> logarithm of each of its terms. A key that a run does not have is a term that its chain lacks, such as
        the mask of a network without dropout: a factor of 1.
    totals : dict of str to ndarray
        Run -> logarithm of the gradient flow.
    every_step : dict of str to float
        The same over all recorded steps, those between the schedule's among them.
    names : dict of Key to str
    why : dict of Key to str
        Why a term is missing, as the first run says for which it is.
    problem : str
        Why the runs cannot be set side by side; empty where they can.
    """

    values: dict[str, dict[Key, Floats]] = field(default_factory=dict)
    totals: dict[str, Floats] = field(default_factory=dict)
    every_step: dict[str, float] = field(default_factory=dict)
    names: dict[Key, str] = field(default_factory=dict)
    why: dict[Key, str] = field(default_factory=dict)
    problem: str = ""

    @property
    def keys(self) -> list[Key]:
        """The terms, from the output down."""
        return sorted(self.names)

    def value(self, run: str, keys: Sequence[Key], bin_: int) -> float:
        """Return the sum of some terms of a run in a bin; NaN where one of them is missing."""
        return float(sum(_at(self.values[run][key], bin_) for key in keys if key in self.values[run]))

    def total(self, run: str, bin_: int) -> float:
        """Return the logarithm of a run's gradient flow in a bin."""
        return _at(self.totals[run], bin_)


def _at(values: Floats, bin_: int) -> float:
    return float(values[bin_ if values.size > 1 else 0])


class Names:
    """What the baseline calls the sites of a run.

    Parameters
    ----------
    called : mapping of str to str or None
        Layer -> its name in the baseline; None: the run is of the baseline.
    """

    def __init__(self, called: Mapping[str, str] | None) -> None:
        self.called = called

    def has(self, site: Site) -> bool:
        """Whether the baseline has a site beside it."""
        return self.called is None or site[0] in self.called

    def of(self, site: Site) -> Site:
        """Return the site as the baseline calls it; one that stands beside none as it is."""
        layer, call = site
        return (layer if self.called is None else self.called.get(layer, layer)), call

    def path(self, one: Means, site: Site) -> Path:
        """Return a run's path from an activation that the baseline calls so; empty where it has none."""
        return next((path for own, path in one.chain.items() if self.has(own) and self.of(own) == site), ())

    def passed(self, path: Path) -> list[Site]:
        """Return the activations on a path that may be in the baseline too, from the output down."""
        return [self.of(place.site) for place in path[::-1] if place.kind == NET and self.has(place.site)]


def align(found: Sequence[Means], baseline: str, called: Mapping[str, str], site: Site) -> Aligned:
    """Set the terms of an activation side by side.

    Parameters
    ----------
    found : sequence of Means
        Of the runs of two conditions.
    baseline : str
    called : mapping of str to str
        Layer of the other condition -> what the baseline calls the layer beside it.
    site : (str, int)
        The activation, as the baseline calls it.
    """
    names = [Names(None if one.condition == baseline else called) for one in found]
    paths = [name.path(one, site) for one, name in zip(found, names, strict=True)]
    if not all(paths):
        return Aligned(problem=f"not every run of both conditions has {site[0]!r} in its chain")
    shared = set.intersection(*({name.of(own) for own in one.chain if name.has(own)}
                                for one, name in zip(found, names, strict=True)))  # fmt: skip
    passed = [name.passed(path) for name, path in zip(names, paths, strict=True)]
    orders = {tuple(one for one in chain if one in shared) for chain in passed}
    if len(orders) != 1:
        return Aligned(problem="the runs executed their layers in different orders")
    made, order = Aligned(), orders.pop()
    for one, name, path in zip(found, names, paths, strict=True):
        _add(made, one, name, path, order)
    return made


def _add(made: Aligned, one: Means, names: Names, path: Path, order: Sequence[Site]) -> None:
    segments = _segments(path, names, order)
    values = made.values.setdefault(one.run, {})
    parts: dict[Key, list[str]] = {}
    for term in terms_of(one, path):
        segment = segments.get((term.place.kind, term.place.site), 0)
        key = _key(segment, order, term, names, one.condition)
        values[key] = values[key] + term.logs if key in values else term.logs
        parts.setdefault(key, []).append(term.name)
        if term.why:
            made.why.setdefault(key, term.why)
    for key, told in parts.items():
        name = ", ".join(dict.fromkeys(filter(None, told)))
        # of two sides the one that has more in between tells
        if key not in made.names or len(name) > len(made.names[key]):
            made.names[key] = name
    made.totals[one.run] = flow_of(one, path[0].site)
    made.every_step[one.run] = one.every_step.get(path[0].site, float("nan"))


def _segments(path: Path, names: Names, order: Sequence[Site]) -> dict[tuple[str, Site], int]:
    """Return for each tensor the number of the activation that it leads up from."""
    number = {site: i for i, site in enumerate(order)}
    segment, found = len(order) - 1, {}
    for place in path:
        if place.kind == NET and names.has(place.site):
            segment = number.get(names.of(place.site), segment)
        found[place.kind, place.site] = segment
    return found


def _key(segment: int, order: Sequence[Site], term: Term, names: Names, condition: str) -> Key:
    rank = KINDS.index(term.kind)
    if term.kind == ERROR:
        return Key(0, rank, (OUTPUT_NAME, 0))
    if term.kind in (TRANSPORT, PATHS):  # where one side lacks a dropout, what lies around it is one way
        return Key(segment, rank, order[segment])
    site = term.place.site
    return Key(segment, rank, names.of(site), "" if names.has(site) else condition)
