"""What a measurement gives: plain numbers, which both a table and a run take."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dropdiag.formatting import plain, words
from dropdiag.printable import printable
from dropdiag.store.schema import quantity_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Cost:
    """How many passes a measurement made.

    Attributes
    ----------
    forward, backward : int
        A pass that is differentiated twice has two backward passes.

    Examples
    --------
    >>> dd.measure.Cost(forward=3, backward=1)
    Cost(forward=3, backward=1)
    """

    forward: int
    backward: int = 0

    def __str__(self) -> str:
        return f"{self.forward} forward and {self.backward} backward passes"

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.forward + other.forward, self.backward + other.backward)


@dataclass(frozen=True)
class Value:
    """One number of a measurement.

    Attributes
    ----------
    quantity : str
    value : float or None
        None where there is none, for the reason `why`.
    layer : str or None
        The site that it belongs to; None: the network.
    call : int
        Call index of the site.
    n : float or None
        Of how many values it is made, by which several ranks' are merged.
    why : str or None
        Why it is missing.

    Examples
    --------
    >>> dd.measure.Value("noisy_loss@0.1", None, why="the loss is not finite")
    Value(quantity='noisy_loss@0.1', value=None, layer=None, call=0, n=None, why='the loss is not finite')
    """

    quantity: str
    value: float | None
    layer: str | None = None
    call: int = 0
    n: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Result(ABC):
    """What a measurement gives: its values, what it cost, and its seed.

    Attributes
    ----------
    cost : Cost
    seed : int

    Examples
    --------
    >>> found = dd.measure.robustness(model, x, F.cross_entropy, y, draws=2)
    >>> isinstance(found, dd.measure.Result), found.cost
    (True, Cost(forward=7, backward=0))
    >>> next(iter(found.values())).quantity
    'noisy_loss@0'
    """

    name: ClassVar[str]
    """Of the measurement; the phase of its rows, where none is given."""
    cost: Cost
    seed: int

    @abstractmethod
    def values(self) -> Iterator[Value]:
        """Give all numbers, in the order of the table."""

    @property
    def table(self) -> pd.DataFrame:
        """One row a number: quantity, layer, call, value, unit, label, and why it is missing where it is.

        Examples
        --------
        >>> found = dd.measure.robustness(model, x, F.cross_entropy, y, draws=2)
        >>> list(found.table.columns)
        ['quantity', 'layer', 'call', 'value', 'unit', 'label', 'why']
        """
        import pandas as pd  # noqa: PLC0415 - measuring needs no pandas

        columns = ["quantity", "layer", "call", "value", "unit", "label", "why"]
        frame = pd.DataFrame([_row(value) for value in self.values()], columns=columns)
        return frame.astype({"value": float})

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}: {self.cost}, seed {self.seed}"]
        for value in self.values():
            where = "" if value.layer is None else f" {value.layer}" + (f" (call {value.call})" if value.call else "")
            told = plain(value.value, ".4g") if value.value is not None else f"missing: {value.why}"
            lines.append(printable(f"  {value.quantity}{where}: {told}"))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f"<p>{html.escape(str(self).splitlines()[0])}</p>{self.table.to_html(index=False, na_rep='')}"


def _row(value: Value) -> dict[str, object]:
    known = quantity_of(value.quantity)
    unit, label = ("", value.quantity) if known is None else (known.unit, words(known.label))
    told = {"quantity": value.quantity, "layer": value.layer, "call": value.call, "value": value.value}
    return {**told, "unit": unit, "label": label, "why": value.why or ""}
