"""What a quantity is: its kind, unit, label and scale; and the names of those that are families over a parameter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dropdiag.errors import ArgumentError

LOG_RATIO: Final = "log ratio"
DIFFERENCE: Final = "difference"
DISTANCE: Final = "distance"
UNCOMPARED: Final = "none"
SCALES: Final = (LOG_RATIO, DIFFERENCE, DISTANCE, UNCOMPARED)
KINDS: Final = ("scalar", "histogram")
MEAN: Final = "mean"
SUM: Final = "sum"
MINIMUM: Final = "minimum"
MAXIMUM: Final = "maximum"
MERGES: Final = (MEAN, SUM, MINIMUM, MAXIMUM)


@dataclass(frozen=True)
class Quantity:
    """What a quantity is called, how it is stored, its unit, and how two conditions are set side by side in it.

    Parameters
    ----------
    name : str
        Name in the ``quantity`` column.
    kind : {"scalar", "histogram"}
    unit : str
        Unit in words; ``"1"`` for a pure number.
    label : str
        Axis label (matplotlib mathtext).
    scale : {"difference", "log ratio", "distance", "none"}, optional
        Of an effect between two conditions. ``"log ratio"`` is for positive scalars of which factors are meant,
        ``"distance"`` (Wasserstein-1, in the quantity's unit) for histograms and their default, ``"none"`` for what
        only counts or times. Default of scalars: ``"difference"``.
    merge : {"mean", "sum", "minimum", "maximum"}, optional
        What several ranks' values of a scalar make together: their mean, weighted by how many values each is made of
        (the default), or one of the others. Histograms always add up.

    Raises
    ------
    ArgumentError
        For an unknown kind, scale or merge, a name or label that is empty, a histogram with a scalar's scale or merge.
    """

    name: str
    kind: str
    unit: str
    label: str
    scale: str = ""
    merge: str = MEAN

    def __post_init__(self) -> None:
        histogram = self.kind == "histogram"
        if not self.scale:
            object.__setattr__(self, "scale", DISTANCE if histogram else DIFFERENCE)
        if self.kind not in KINDS or self.scale not in SCALES:
            raise ArgumentError(
                f"quantity {self.name!r}: kind is one of {', '.join(KINDS)} and scale one of {', '.join(SCALES)}, "
                f"got {self.kind!r} and {self.scale!r}"
            )
        if self.scale != UNCOMPARED and (self.scale == DISTANCE) != histogram:
            raise ArgumentError(f"quantity {self.name!r}: a {self.kind} is not compared on the scale {self.scale!r}")
        if self.merge not in MERGES:
            raise ArgumentError(f"quantity {self.name!r}: merge is one of {', '.join(MERGES)}, got {self.merge!r}")
        if histogram and self.merge != MEAN:
            raise ArgumentError(
                f"quantity {self.name!r}: histograms of several ranks always add up; leave out merge={self.merge!r}"
            )
        if not all(isinstance(text, str) and text for text in (self.name, self.unit, self.label)):
            raise ArgumentError(f"a quantity's name, unit and label must be words, got {self!r}")

    def described(self) -> dict[str, str]:
        """Return what ``run.json`` says of the quantity under its name."""
        told = {"kind": self.kind, "unit": self.unit, "label": self.label, "scale": self.scale}
        return told if self.merge == MEAN else {**told, "merge": self.merge}


def at(base: str, x: float) -> str:
    """Return the name of a quantity at a value of its parameter: ``noisy_loss@0.1``."""
    return f"{base}@{x:g}"


def base_and_x(name: str) -> tuple[str, float | None]:
    """Return what `at` was given for a name; for one of another form, the name itself and None."""
    base, sign, x = name.rpartition("@")
    try:
        return (base, float(x)) if sign and base else (name, None)
    except ValueError:
        return name, None
