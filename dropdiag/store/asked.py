"""Names that are asked for and that no run knows: an error with what was probably meant, in place of an empty frame."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.schema import QUANTITIES
from dropdiag.store.selection import NAMES, Selection

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN: Final = 8
"""Names that a message lists."""
_WORDS: Final = {"quantity": "scalar", "phase": "phase", "layer": "layer"}


class Asked:
    """Names of a selection that were not seen yet.

    Parameters
    ----------
    selection : Selection
    """

    def __init__(self, selection: Selection) -> None:
        # None among layers is the network as a whole, which needs no looking for
        self._order = {kind: [one for one in names if one is not None] for kind in NAMES
                       if (names := getattr(selection, kind)) is not None}  # fmt: skip
        self.unseen = {kind: set(names) for kind, names in self._order.items()}
        self._last: object = None

    def all_seen(self) -> bool:
        """Whether each name was seen."""
        return not any(self.unseen.values())

    def see(self, keys: pa.Table) -> None:
        """Take note of the names in a table with columns quantity, phase and layer."""
        if keys is self._last:  # the runs of a sweep share one
            return
        self._last = keys
        for kind, unseen in self.unseen.items():
            if unseen:
                unseen.difference_update(_names(keys, kind))

    def check(self, who: str, metas: Iterable[Mapping[str, Any]], everything: Iterable[pa.Table]) -> None:
        """Raise `NotRecordedError` if a name is none of the runs'.

        Parameters
        ----------
        who : str
            "no run holds", or "<Run ...> has no".
        metas : iterable of mapping
            Of each run's ``run.json``: layers that are listed and scalars that a probe declared are known, though they
            may have no row.
        everything : iterable of Table
            All keys of all runs: read only where something was not seen.
        """
        if self.all_seen():
            return
        declared = list(metas)
        known = _declared(declared)
        for kind, unseen in self.unseen.items():
            unseen.difference_update(known[kind])
        for keys in everything:
            if self.all_seen():
                return
            self.see(keys)
            for kind, names in known.items():
                names.update(dict.fromkeys(sorted(name for name in _names(keys, kind) if name is not None)))
        for kind, order in self._order.items():
            for name in (one for one in order if one in self.unseen[kind]):
                hint = "; it is recorded as histograms" if kind == "quantity" and _is_histogram(name, declared) else ""
                raise NotRecordedError(f"{who} {_WORDS[kind]} {name!r}{hint}{instead(name, known[kind])}")


def check_conditions(given: Sequence[str] | None, known: Sequence[str]) -> None:
    """Raise `ArgumentError` for a condition that there is not, and where none is given."""
    if given is None:
        return
    if not given:
        raise ArgumentError(f"condition= is empty; leave it out for all of {', '.join(map(repr, known))}")
    for name in given:
        if name not in known:
            raise ArgumentError(f"no condition {name!r}{instead(name, known)}")


def instead(name: object, known: Iterable[object]) -> str:
    """Return what was probably meant, and what there is: the end of a sentence that says what there is not.

    Parameters
    ----------
    name : str
    known : iterable of str
    """
    names = [one for one in dict.fromkeys(known) if isinstance(one, str)]
    if not names:
        return "; nothing is recorded"
    near, meant = close(name, names), did_you_mean(name, names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    # what is near comes first: of hundreds of names, few are listed
    listed = [*near, *(one for one in names if one not in near)][:SHOWN]
    return f"{meant} there are {', '.join(map(repr, listed))}{more}"


def did_you_mean(name: object, known: Sequence[str]) -> str:
    """Return the question for the names like one, after a semicolon: that alone where there is none, or it is there."""
    near = close(name, known)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near and name not in known else ";"


def close(name: object, names: Sequence[str]) -> list[str]:
    """Return names like one, the likeliest first: spelt alike, or one the beginning of a part of the other."""
    if not isinstance(name, str) or not name:
        return []
    lower: dict[str, str] = {}
    for one in names:
        lower.setdefault(one.lower(), one)
    own = name.lower()
    slips, spelt = (difflib.get_close_matches(own, lower, n=3, cutoff=cutoff) for cutoff in (0.8, 0.6))
    # "acc" is part of "accuracy", "fc1" of "fc1.relu"
    parts = sorted((one for one in lower if own in one or (len(one) >= 3 and one in own)), key=len)
    return [lower[one] for one in dict.fromkeys([*slips, *parts, *spelt])][:3]


def _names(keys: pa.Table, kind: str) -> set[str | None]:
    return set(keys[kind].unique().to_pylist())


def _declared(metas: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, None]]:
    """Return the names of each kind that runs declare, as ordered sets."""
    layers = dict.fromkeys(str(row["layer"]) for meta in metas for row in meta.get("layers") or ())
    scalars = dict.fromkeys(name for meta in metas for name, told in (meta.get("quantities") or {}).items()
                            if told.get("kind") == "scalar")  # fmt: skip
    return {"quantity": scalars, "phase": {}, "layer": layers}


def _is_histogram(name: str, metas: Sequence[Mapping[str, Any]]) -> bool:
    told = [known[name] for meta in metas if name in (known := meta.get("quantities") or {})]
    kinds = [one.get("kind") for one in told] or ([QUANTITIES[name].kind] if name in QUANTITIES else [])
    return "histogram" in kinds
