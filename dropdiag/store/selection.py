"""Which rows of a table are wanted: what a reader pushes down to the files."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from dropdiag.errors import ArgumentError

if TYPE_CHECKING:
    import pyarrow as pa

Names: TypeAlias = str | Sequence[str] | None
NamesOrAll: TypeAlias = Sequence[str] | None
Layers: TypeAlias = str | Sequence[str | None] | None
Steps: TypeAlias = int | tuple[int | None, int | None] | None
NAMES: Final = ("quantity", "phase", "layer")
LARGEST: Final = 2**63 - 1
"""A step is a number of 64 bits in the files."""


@dataclass(frozen=True)
class Selection:
    """Rows of the given quantities, phases, layers and steps; None is all of them.

    Attributes
    ----------
    quantity, phase, layer : tuple of str or None
        Among the layers, None is the network as a whole.
    steps : (int or None, int or None)
        First and last step, both inclusive; None is an open end.
    without : tuple of str
        Quantities that are not wanted all the same.
    """

    quantity: tuple[str, ...] | None = None
    phase: tuple[str, ...] | None = None
    layer: tuple[str | None, ...] | None = None
    steps: tuple[int | None, int | None] = (None, None)
    without: tuple[str, ...] = ()

    @classmethod
    def of(cls, quantity: Names = None, phase: Names = None, layer: Layers = None, steps: Steps = None) -> Selection:
        """Make a selection of what a user gives: a name or several, a step or (first, last).

        Raises
        ------
        ArgumentError
            If a name is no text, a list of names is empty, or ``steps`` is neither.
        """
        layers = None if layer is None else _layers(layer)
        return cls(_names("quantity", quantity), _names("phase", phase), layers, _steps(steps))

    def until(self, step: int | None) -> Selection:
        """Return the same without the rows after a step."""
        first, last = self.steps
        if step is None:
            return self
        return replace(self, steps=(first, step if last is None else min(last, step)))

    def of_all_layers(self) -> Selection:
        """Return the same for rows of any layer."""
        return replace(self, layer=None)

    def mask(self, table: pa.Table) -> pa.ChunkedArray | None:
        """Whether each row is wanted; None where all are.

        Parameters
        ----------
        table : Table
            Its columns quantity, phase and layer are dictionaries.
        """
        import pyarrow.compute as pc  # noqa: PLC0415

        parts = [_among(table[kind], names) for kind in NAMES if (names := getattr(self, kind)) is not None]
        parts += [pc.invert(_among(table["quantity"], self.without))] if self.without else []
        first, last = self.steps
        parts += [pc.greater_equal(table["step"], _bounded(first))] if first is not None else []
        parts += [pc.less_equal(table["step"], _bounded(last))] if last is not None else []
        every = parts[0] if parts else None
        for part in parts[1:]:
            every = pc.and_(every, part)
        return every

    def apply(self, table: pa.Table) -> pa.Table:
        """Return the rows of a table that are wanted."""
        mask = self.mask(table)
        return table if mask is None else table.filter(mask)

    def may_hold(self, least: int, most: int) -> bool:
        """Whether rows of the steps between two may be wanted."""
        first, last = self.steps
        return (first is None or most >= first) and (last is None or least <= last)


def _bounded(step: int) -> int:
    """Return a step that Arrow can compare with: one beyond all that a run can have stays beyond them."""
    return max(-LARGEST, min(step, LARGEST))


def _among(column: pa.ChunkedArray, names: tuple[str | None, ...]) -> pa.ChunkedArray:
    """Whether each entry of a dictionary column is one of the names: looked up once a name, not once a row."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    wanted = pa.array([name for name in names if name is not None], pa.string())
    found = [pc.take(pc.is_in(chunk.dictionary, wanted), chunk.indices) for chunk in column.chunks]
    return pc.fill_null(pa.chunked_array(found, pa.bool_()), fill_value=None in names)


def _layers(given: Any) -> tuple[str | None, ...]:
    # in a list, None is a layer: the network as a whole; alone it is all of them, as for the other names
    several = not isinstance(given, str) and isinstance(given, Sequence)
    if several and None in given and not any(name is not None for name in given):
        return (None,)
    named = _names("layer", [name for name in given if name is not None] if several else given) or ()
    return (*named, None) if several and None in given else named


def _names(kind: str, given: Any) -> tuple[str, ...] | None:
    if given is None:
        return None
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, Sequence) else (given,)
    wrong = [name for name in names if not isinstance(name, str)]
    if not names:
        raise ArgumentError(f"{kind}= is empty; leave it out for all of them")
    if wrong:
        raise ArgumentError(f"{kind}= takes a name, a list of names or None for all, got {wrong[0]!r}")
    return names


def _steps(given: Any) -> tuple[int | None, int | None]:
    ends = given if isinstance(given, (tuple, list)) else (given, given)
    try:
        first, last = (None if end is None else operator.index(end) for end in ends)
    except (TypeError, ValueError):
        raise ArgumentError(f"steps= takes a step, (first, last) or None for all, got {given!r}") from None
    return first, last
