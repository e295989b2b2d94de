"""What sites are called where runs of several versions are read together: under the names that the newest one gives.

Runs of schema 1 named the call of a function by its module (``(model):relu``, call 2); those of schema 2 name it by the
layer whose output it takes (``fc1:relu``), and say what it was called formerly.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from dropdiag.errors import DropdiagWarning
from dropdiag.store.order import Places, Site

if TYPE_CHECKING:
    import pyarrow as pa

    from dropdiag.store.selection import Layers


def former(meta: Mapping[str, Any]) -> dict[Site, Site]:
    """Return what sites were called in schema 1: former layer and call -> today's."""
    found: dict[Site, Site] = {}
    for row in meta["layers"]:
        told = row.get("formerly") or ()
        # one entry for each call; of a row that is itself that of a later call, its own alone
        first = int(row["call"]) if len(told) == 1 else 0
        for call, site in enumerate(told, first):
            if site is not None:  # a call that was counted and never recorded had no name
                found.setdefault((str(site[0]), int(site[1])), (str(row["layer"]), call))
    return found


def layers_formerly(metas: Iterable[Mapping[str, Any]]) -> dict[str, list[Site]]:
    """Return which sites were formerly calls of which layer, in the order of those calls."""
    found: dict[str, dict[Site, None]] = {}
    before: Any = None
    for meta in metas:
        if meta["layers"] != before:  # of thousands of runs most have the same
            before = meta["layers"]
            for (layer, _), site in sorted(former(meta).items()):
                found.setdefault(layer, {}).setdefault(site)
    return {layer: list(sites) for layer, sites in found.items()}


class Guide(NamedTuple):
    """What a run of today says of names.

    Attributes
    ----------
    sites : dict of (str, int) to (str, int)
        Former site -> today's.
    aliases : dict of str to str
        Another name of the same layer -> its name.
    weights : frozenset of str
        Names of its weights: runs that have the same are of one network.
    """

    sites: dict[Site, Site]
    aliases: dict[str, str]
    weights: frozenset[str]


@dataclass(frozen=True, eq=False)
class Names:
    """What the sites of a run are called in place of what it calls them itself.

    Attributes
    ----------
    sites : mapping of (str, int) to (str, int)
        Own layer and call -> today's.
    """

    sites: Mapping[Site, Site]
    _last: list[tuple[pa.Table | None, pa.Table]] = field(default_factory=lambda: [(None, None)], repr=False)

    def __bool__(self) -> bool:
        return bool(self.sites)

    def meta(self, meta: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``run.json`` says, with today's names."""
        calls = {(str(row["layer"]), int(row["call"])) for row in meta.get("coverage", ())}
        layers = [renamed for row in meta["layers"] for renamed in self._rows(row, calls)]
        changed = {"layers": layers}
        if "coverage" in meta:
            changed["coverage"] = [self._row(row) for row in meta["coverage"]]
        return {**meta, **changed}

    def _row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        layer, call = self.sites.get((str(row["layer"]), int(row["call"])), (row["layer"], row["call"]))
        return {**row, "layer": layer, "call": call}

    def _rows(self, row: Mapping[str, Any], calls: set[Site]) -> Iterator[dict[str, Any]]:
        """Yield the row of a layer, and one for each further call of it that has another name today."""
        yield self._row(row)
        for site in sorted(self.sites):
            # such a list was made before the first pass and knew of no further calls
            later = site[0] == row["layer"] and site[1] > int(row["call"])
            if later and (site in calls or not calls):
                yield self._row({**row, "call": site[1]})

    def rows(self, table: pa.Table) -> pa.Table:
        """Return a table of scalars or histograms with today's names.

        Parameters
        ----------
        table : Table
            Its column layer is a dictionary.
        """
        import pyarrow as pa  # noqa: PLC0415

        column = table["layer"].unify_dictionaries().combine_chunks()
        words = list(column.dictionary.to_pylist())
        codes, calls = column.indices.fill_null(-1).to_numpy(), table["call"].to_numpy()
        most = int(calls.max(initial=0)) + 1
        # looked up once a site, not once a row; the last row is that of the network, which has no layer
        layer_of = np.repeat([*range(len(words)), -1], most).reshape(-1, most)
        call_of = np.tile(np.arange(most), (len(words) + 1, 1))
        place = {word: i for i, word in enumerate(words)}
        for (layer, call), (name, its) in self.sites.items():
            if layer in place and call < most:
                at = place[layer], call
                layer_of[at], call_of[at] = place.setdefault(name, len(place)), its
        made = layer_of[codes, calls]
        names = pa.array(list(place), pa.string())
        layers = pa.DictionaryArray.from_arrays(pa.array(made, pa.int32(), mask=made < 0), names)
        table = table.set_column(table.schema.get_field_index("layer"), table.schema.field("layer"), layers)
        at = table.schema.get_field_index("call")
        return table.set_column(at, table.schema.field("call"), pa.array(call_of[codes, calls], table["call"].type))

    def keys(self, keys: pa.Table) -> pa.Table:
        """Return the keys of scalars with today's names: one object of one that runs share."""
        before, made = self._last[0]
        if keys is not before:
            made = self.rows(keys)
            self._last[0] = keys, made  # at once: threads may share them
        return made

    def wanted(self, keep: Callable[[str], bool]) -> Callable[[str], bool]:
        """Whether a layer, as the run calls it itself, may hold rows of one that is wanted under its name of today."""
        images: dict[str, list[str]] = {}
        for (layer, _), (name, _) in self.sites.items():
            images.setdefault(layer, []).append(name)
        return lambda layer: keep(layer) or any(map(keep, images.get(layer, ())))


NO_NAMES: Final = Names({})


def guides(metas: Iterable[Mapping[str, Any]]) -> list[Guide]:
    """Return what runs of today say of names, each thing once."""
    found: dict[tuple[Any, ...], Guide] = {}
    before: Any = None
    for meta in metas:
        if meta["layers"] != before:  # of thousands of runs most have the same
            before = meta["layers"]
            sites, aliases = former(meta), _aliases(meta)
            key = tuple(sites.items()), tuple(aliases.items()), _weights(meta)
            found.setdefault(key, Guide(sites, aliases, _weights(meta)))
    return list(found.values())


def names_beside(meta: Mapping[str, Any], known: Sequence[Guide]) -> Names:
    """Return what a run of schema 1 calls its sites beside runs of today.

    Parameters
    ----------
    meta : mapping
        Of its ``run.json``.
    known : sequence of Guide
        Where they do not agree, one of the same weights goes before the others, then the first.
    """
    own = {(str(row["layer"]), int(row["call"])) for row in (*meta["layers"], *meta.get("coverage", ()))}
    layers = {layer for layer, _ in own}
    weights = _weights(meta)
    found: dict[Site, Site] = {}
    for guide in sorted(known, key=lambda guide: guide.weights != weights):
        new = {site: name for site, name in guide.sites.items() if site[0] in layers}
        new |= {(layer, call): (guide.aliases[layer], call) for layer, call in own
                if layer in guide.aliases and guide.aliases[layer] not in layers}  # fmt: skip
        taken = set(found.values())
        found |= {site: name for site, name in new.items() if site not in found and name not in taken}
    while clashing := [site for site, name in found.items() if name in own - found.keys()]:
        for site in clashing:  # no site takes a name that another one of the run keeps
            del found[site]
    return Names({site: name for site, name in found.items() if name != site})


def _aliases(meta: Mapping[str, Any]) -> dict[str, str]:
    return {str(alias): str(row["layer"]) for row in meta["layers"] for alias in row.get("aliases") or ()}


def _weights(meta: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(str(row["layer"]) for row in meta["layers"] if row["kind"] == "weight")


def today(layers: Layers, places: Places, metas: Iterable[Mapping[str, Any]]) -> Layers:
    """Return layers that were asked for under their names of today.

    Parameters
    ----------
    layers : str, sequence of str or None, optional
        As of `Run.select`. What no run has is left as it is.
    places : Places
        Of the sites of all runs.
    metas : iterable of mapping
        ``run.json`` of each.

    Warns
    -----
    DropdiagWarning
        If a layer is asked for by a name that it had in schema 1: all of its calls are taken, under their names of
        today.
    """
    several = [layers] if isinstance(layers, str) else layers
    if not isinstance(several, Sequence):
        return layers
    asked = [name for name in several if isinstance(name, str) and not places.has(name)]
    told = layers_formerly(metas) if asked else {}
    instead = {name: list(dict.fromkeys(layer for layer, _ in told[name])) for name in asked if name in told}
    for name, new in instead.items():
        message = f"{name!r} is the name that an earlier version gave to {', '.join(map(repr, new))}: taken as these"
        warnings.warn(message, DropdiagWarning, stacklevel=4)
    return [one for name in several for one in instead.get(name or "", [name])] if instead else layers


def site_today(layer: str, call: int, places: Places, meta: Mapping[str, Any]) -> Site:
    """Return a site of a run under its name of today, with a warning where it is asked for by a former one."""
    site = (layer, call) if places.has(layer) else former(meta).get((layer, call), (layer, call))
    if site != (layer, call):
        message = (
            f"{layer!r}, call {call}, is what an earlier version called {site[0]!r}, call {site[1]}: taken as this"
        )
        warnings.warn(message, DropdiagWarning, stacklevel=3)
    return site
