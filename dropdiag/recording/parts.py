"""What a rank holds of a tensor that is spread over processes, read without any operation on the whole."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from torch import Tensor

from dropdiag.sketches.native import PLAIN

PARTIAL: Final = "its values on a rank are terms of sums that are not added up yet (Partial)"


class Part(NamedTuple):
    """What a rank holds of a tensor.

    Attributes
    ----------
    tensor : Tensor or None
        A plain one. None where this rank is to count nothing: another one counts it, or it cannot be read.
    sharded : bool
        Whether no other rank holds the same values.
    why : str or None
        Why it cannot be read.
    """

    tensor: Tensor | None
    sharded: bool = False
    why: str | None = None


def is_spread(tensor: object) -> bool:
    """Whether a tensor is a DTensor, or the result of a collective that may be on its way."""
    # By name: their classes are loaded by who makes them. No attribute is asked for, of whatever else this may be.
    kind = type(tensor)
    return kind not in PLAIN and kind.__name__ in _KINDS and kind.__module__.startswith("torch.distributed.")


def is_distributed(tensor: object) -> bool:
    """Whether a tensor is a DTensor."""
    return is_spread(tensor) and type(tensor).__name__ == "DTensor"


def part_of(tensor: Tensor) -> Part:
    """Return what this rank holds of a tensor that `is_spread`.

    Parameters
    ----------
    tensor : Tensor
        A DTensor: its local tensor, where the mesh shards it; where it is replicated, on the first of the ranks that
        hold it; none where it is partial. Or a result of a collective, that is waited for (all ranks have begun it).
    """
    return _KINDS[type(tensor).__name__](tensor)


def local(tensor: Tensor) -> Tensor | None:
    """Return what this rank is to count of a tensor, of whichever kind: a plain one is that itself."""
    return part_of(tensor).tensor if is_spread(tensor) else tensor


def _of_collective(tensor: Any) -> Part:
    return _plain(tensor.trigger_wait(), sharded=False)


def _of_distributed(tensor: Any) -> Part:
    spec = tensor._spec  # private, as the public attributes may run code of subclasses
    if any(placement.is_partial() for placement in spec.placements):
        return Part(None, why=PARTIAL)
    coordinate = spec.mesh.get_coordinate()
    if coordinate is None:  # this rank is not in the mesh
        return Part(None)
    replicated = [placement.is_replicate() for placement in spec.placements]
    if any(place for place, alike in zip(coordinate, replicated, strict=True) if alike):
        return Part(None, sharded=not all(replicated))
    local = tensor._local_tensor
    if type(local).__name__ in _KINDS and type(local) not in PLAIN:
        local = local.trigger_wait()
    return _plain(local, sharded=not all(replicated))


def _plain(tensor: Any, *, sharded: bool) -> Part:
    if type(tensor) in PLAIN:
        return Part(tensor.detach(), sharded=sharded)
    return Part(None, why=f"what a rank holds of it is a {type(tensor).__name__}")


_KINDS: Final = {"DTensor": _of_distributed, "AsyncCollectiveTensor": _of_collective}
