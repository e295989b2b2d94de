"""How the chain is laid out: which tensor leads to which, and what lies between."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Key: TypeAlias = tuple[str, str, int]
"""Kind of a tensor, layer and call."""

CHANGES: Final = "it leads to another tensor in other passes"
NOWHERE: Final = "no tensor that is read lies between it and the network's output"


@dataclass
class Entry:
    """A tensor of the chain.

    Attributes
    ----------
    after : tuple or None
        The tensor that it leads to; None of an output, and where it leads to several in turn.
    between : str
        What lies between them.
    same : bool
        Whether both are one tensor.
    why : str or None
        Why it is not known what part of its gradient came by the chain, or why it leads nowhere.
    """

    after: Key | None = None
    between: str = ""
    same: bool = False
    why: str | None = None


class ChainLog:
    """The layout of the chain, as the passes of a run agree on it.

    Attributes
    ----------
    changed : bool
        Whether it is another one than when it was described last.
    """

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}
        self.changed = False

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Go on from the rows of an earlier session."""
        rows = list(rows)
        keys = [(str(row["kind"]), str(row["layer"]), int(row["call"])) for row in rows]
        for key, row in zip(keys, rows, strict=True):
            after = None if row["next"] is None else keys[int(row["next"])]
            self._entries[key] = Entry(after, row["between"], bool(row["same"]), row["why"])

    def passes(self, key: Key, before: Key | None) -> None:
        """Note that a tensor is read, after another one."""
        if key in self._entries:
            return
        self.changed = True
        if before not in self._entries or before == next(reversed(self._entries)):
            self._entries[key] = Entry()
            return
        keys = list(self._entries)
        keys.insert(keys.index(before) + 1, key)
        self._entries = {k: self._entries.get(k) or Entry() for k in keys}

    def knows(self, lower: Key, upper: Key) -> bool:
        """Whether it is known that one tensor leads to another, and by what."""
        return self._entries[lower].after == upper

    def leads(self, lower: Key, upper: Key, between: str, *, same: bool = False) -> None:
        """Note that one tensor leads to another."""
        entry = self._entries[lower]
        if entry.why == CHANGES:
            return
        if entry.after is None:
            entry.after, entry.between, entry.same = upper, between, same
            entry.why = None if entry.why == NOWHERE else entry.why
            self.changed = True
        elif entry.after != upper:
            entry.after, entry.between, entry.same, entry.why = None, "", False, CHANGES
            self.changed = True

    def fails(self, key: Key, why: str) -> None:
        """Note why something of a tensor is not known. The first reason stays."""
        entry = self._entries.get(key)
        if entry is not None and entry.why is None:
            entry.why = why
            self.changed = True

    def ends(self, key: Key) -> None:
        """Note that a pass is over and a tensor has led nowhere."""
        if self._entries[key].after is None:
            self.fails(key, NOWHERE)

    def describe(self) -> list[dict[str, Any]]:
        """Return the rows of ``run.json``, in order of execution."""
        self.changed = False
        number = {key: at for at, key in enumerate(self._entries)}
        return [
            {
                "kind": kind,
                "layer": layer,
                "call": call,
                "next": None if entry.after is None else number[entry.after],
                "between": entry.between,
                "same": entry.same,
                "why": entry.why,
            }
            for (kind, layer, call), entry in self._entries.items()
        ]

    def _all_missing(self) -> str | None:
        """Return why nothing leads to the output, where that is so."""
        entries = list(self._entries.values())
        return entries[0].why if len(entries) == 1 and entries[0].after is None else None

    def words(self, layer: str, call: int) -> str | None:
        """Return what lies between a site's output and the next tensor, or why that is not known, for coverage."""
        found = [self._entries[k, layer, call] for k in ("node", "mask_output") if (k, layer, call) in self._entries]
        if not found:
            return self._all_missing()
        entry = found[0]
        told = "" if entry.after is None else f"{entry.between or 'nothing'}, to {entry.after[1]}"
        return "; ".join(word for word in (told, entry.why or "") if word)
