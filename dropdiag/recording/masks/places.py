"""Between which layers each dropout stands, as the passes that are followed show it."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from torch import Tensor

from dropdiag.functional.producers import Producers

UNKNOWN: Final = ""


class MaskPlaces:
    """Notes whose outputs dropouts are applied to, and which weights take what they give.

    A dropout that stands in several places, with other layers before or behind it, has no single answer there.
    """

    def __init__(self) -> None:
        self._applied_to: defaultdict[str, set[str]] = defaultdict(set)
        self._feeds: defaultdict[str, set[str]] = defaultdict(set)
        self._given: dict[int, tuple[weakref.ref[Tensor], str]] = {}
        self._unused: dict[int, tuple[weakref.ref[Tensor], str]] = {}

    def takes(self, layer: str, x: Tensor, producers: Producers) -> None:
        """Note what a dropout is applied to."""
        trail = producers.trail(x)
        made = None if trail is None or trail.of_weight else trail.layer
        self._applied_to[layer].add(UNKNOWN if made is None else producers.layers.weight(made) or made.name)

    def gives(self, layer: str, y: object) -> None:
        """Keep in mind, while it lives, what a dropout gave in this pass."""
        if isinstance(y, Tensor):
            gone = self._unused.get(id(y))
            if gone is not None and gone[0]() is not y:  # no layer has taken it, and y has its number by now
                self._feeds[gone[1]].add(UNKNOWN)
            self._unused[id(y)] = self._given[id(y)] = weakref.ref(y), layer

    def used(self, values: Iterable[object], weights: Sequence[str]) -> None:
        """Note that a function applies weights to some of these values."""
        for value in values if self._given and weights else ():
            known = self._given.get(id(value))
            if known is not None and known[0]() is value:
                self._unused.pop(id(value), None)
                self._feeds[known[1]].add(weights[0])

    def clear(self) -> None:
        """Forget all tensors: a forward pass is over."""
        for _, layer in self._unused.values():
            self._feeds[layer].add(UNKNOWN)
        self._given.clear()
        self._unused.clear()

    def of(self, layer: str) -> dict[str, str | None]:
        """Return between which layers a dropout stands; None where that is not known, or not a single one."""
        return {"applied_to": _only(self._applied_to.get(layer)), "feeds": _only(self._feeds.get(layer))}


def _only(names: set[str] | None) -> str | None:
    return next(iter(names)) or None if names is not None and len(names) == 1 else None
