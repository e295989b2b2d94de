"""The chain of a run: the tensors whose gradients were read, and which leads to which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain as joined
from typing import Any, Final, NamedTuple, TypeAlias

from dropdiag.store.order import Site

NET: Final = "net"
NODE: Final = "node"
MASK_INPUT: Final = "mask_input"
MASK_OUTPUT: Final = "mask_output"
OUTPUT: Final = "output"
OUTPUT_NAME: Final = "(output)"

WHOLE: Final = {kind: f"{kind}_grad_abs_mean" for kind in (NET, NODE, MASK_INPUT, MASK_OUTPUT, OUTPUT)}
"""Kind of a tensor -> the quantity that its gradient is recorded as."""
PARTS: Final = {NODE: "path_grad_abs_mean", MASK_OUTPUT: "path_grad_abs_mean", OUTPUT: "path_grad_abs_mean",
                NET: "input_path_grad_abs_mean", MASK_INPUT: "input_path_grad_abs_mean"}  # fmt: skip
"""Kind of a tensor -> the part of its gradient that came by the chain, written where it branches."""
NET_GRAD: Final = WHOLE[NET]
RECORDED: Final = (*dict.fromkeys(PARTS.values()), *(name for name in WHOLE.values() if name != NET_GRAD))
"""What the decomposition alone records, on its schedule."""
QUANTITIES: Final = (*RECORDED, NET_GRAD)


class Reading(NamedTuple):
    """A mean absolute gradient at a place."""

    quantity: str
    layer: str
    call: int


class Place(NamedTuple):
    """A tensor of the chain.

    Attributes
    ----------
    kind : {"net", "node", "mask_input", "mask_output", "output"}
    layer : str
    call : int
    between : str
        What lies between it and the tensor that it leads to, as in ``"fc2, batch norm"``.
    why : str
        Why it leads nowhere, or why it is not known which part of its gradient came by the chain.
    """

    kind: str
    layer: str
    call: int
    between: str = ""
    why: str = ""

    @property
    def site(self) -> Site:
        """Layer and call."""
        return self.layer, self.call

    @property
    def whole(self) -> Reading:
        """Its gradient, all paths together."""
        return Reading(WHOLE[self.kind], *self.site)

    @property
    def part(self) -> Reading:
        """The part of it that came by the chain."""
        return Reading(PARTS[self.kind], *self.site)


Path: TypeAlias = tuple[Place, ...]
"""From a net value up to the network's output, or as far as it leads."""
Chain: TypeAlias = Mapping[Site, Path]
"""The path of each activation, in order of execution."""


def chain_of(meta: Mapping[str, Any]) -> Chain:
    """Return the chain that ``run.json`` describes; nothing of a run that has none."""
    rows = list(meta.get("chain") or ())
    places = [
        Place(str(row["kind"]), str(row["layer"]), int(row["call"]), str(row["between"] or ""), str(row["why"] or ""))
        for row in rows
    ]
    after = [row["next"] for row in rows]
    return {one.site: tuple(_up(places, after, at)) for at, one in enumerate(places) if one.kind == NET}


def _up(places: list[Place], after: list[int | None], at: int | None) -> Iterator[Place]:
    seen = set[int]()
    while at is not None and at not in seen:  # a file that was written by hand may go in circles
        seen.add(at)
        yield places[at]
        at = after[at]


def parts_of_wholes(chain: Chain) -> dict[Reading, Reading]:
    """Return the reading of the part by the chain -> that of the whole gradient, of each tensor of the chain."""
    return {place.part: place.whole for place in _places(chain)}


def readings(chain: Chain) -> list[Reading]:
    """Return every reading that the chain may have, each once."""
    return list(dict.fromkeys(one for place in _places(chain) for one in (place.whole, place.part)))


def _places(chain: Chain) -> dict[Place, None]:
    """Return every tensor once: those that are near to the output are on the paths of all others."""
    return dict.fromkeys(joined.from_iterable(chain.values()))
