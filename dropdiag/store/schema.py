"""The run folder's schema: its version, the quantities and their units; `dropdiag.store.tables` has the columns.

This module imports nothing of the package but its errors, so that the torch side (which writes) and the paper side
(which reads) agree on it without importing each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from dropdiag.errors import ArgumentError

FORMAT: Final = "dropdiag-run"
SCHEMA_VERSION: Final = 2
READABLE: Final = (1, 2)
"""Schema versions that can be read: runs of version 1 say neither an execution order nor former names."""

TRAIN: Final = "train"
EVAL: Final = "eval"


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


def _moments(of: str, unit: str, symbol: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{of}_mean", "scalar", unit, f"mean of {symbol}"),
        Quantity(f"{of}_sd", "scalar", unit, f"standard deviation of {symbol}"),
        Quantity(f"{of}_excess_kurtosis", "scalar", "1", f"excess kurtosis of {symbol}"),
        Quantity(f"{of}_abs_mean", "scalar", unit, f"mean of |{symbol}|"),
        Quantity(f"{of}_minimum", "scalar", unit, f"minimum of {symbol}", merge=MINIMUM),
        Quantity(f"{of}_maximum", "scalar", unit, f"maximum of {symbol}", merge=MAXIMUM),
    )


_PER_NET = "loss units per net-value unit"
_PER_WEIGHT = "loss units per weight unit"

QUANTITIES: Final = {
    q.name: q
    for q in (
        Quantity("weight", "histogram", "weight units", "weight $w$"),
        Quantity("weight_grad", "histogram", _PER_WEIGHT, r"weight gradient $\partial L/\partial w$"),
        Quantity("net_value", "histogram", "net-value units", "net value $z$"),
        Quantity("net_grad", "histogram", _PER_NET, r"net gradient $\partial L/\partial z$"),
        Quantity("node_value", "histogram", "node-value units", r"node value $h=\phi(z)$"),
        Quantity("node_correlation", "histogram", "1", "node correlation $r$"),
        Quantity("net_grad_abs_mean", "scalar", _PER_NET, r"gradient flow, mean $|\partial L/\partial z|$", LOG_RATIO),
        Quantity("weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$", LOG_RATIO),
        Quantity("raw_weight_grad_abs_mean", "scalar", _PER_WEIGHT,
                 r"mean $|\partial L/\partial w|$ before clipping", LOG_RATIO),
        Quantity("node_correlation_abs_mean", "scalar", "1", "mean $|r|$", UNCOMPARED),
        Quantity("participation_ratio", "scalar", "nodes", "participation ratio"),
        Quantity("effective_rank", "scalar", "nodes", "effective rank"),
        Quantity("node_correlation_samples", "scalar", "samples", "samples", UNCOMPARED, SUM),
        Quantity("node_correlation_items", "scalar", "items", "items that the samples are of", UNCOMPARED, SUM),
        Quantity("node_correlation_nodes", "scalar", "nodes", "nodes correlated", UNCOMPARED),
        Quantity("node_correlation_width", "scalar", "nodes", "nodes of the layer", UNCOMPARED),
        Quantity("constant_nodes", "scalar", "nodes", "constant nodes", UNCOMPARED),
        Quantity("saturation_share_left", "scalar", "1", "saturation share, left", UNCOMPARED),
        Quantity("saturation_share_right", "scalar", "1", "saturation share, right", UNCOMPARED),
        Quantity("net_variance", "histogram", "net-value units squared", "net variance", UNCOMPARED),
        Quantity("masked_net_mean", "histogram", "net-value units", "mean of $z$ over masks", UNCOMPARED),
        Quantity("wandering_net_value", "histogram", "net-value units", "net value $z$ under masks", UNCOMPARED),
        Quantity("saturated_net_mean", "histogram", "net-value units", "mean of $z$ over masks, saturated", UNCOMPARED),
        Quantity("gradient_net_mean", "histogram", "net-value units",
                 "mean of $z$ over masks, for each mask with gradient", UNCOMPARED),
        Quantity("net_variance_mean", "scalar", "net-value units squared", "mean net variance", LOG_RATIO),
        Quantity("net_variance_closed_form_mean", "scalar", "net-value units squared",
                 "net variance, closed form", LOG_RATIO),
        Quantity("saturated_mean_share", "scalar", "1", "share of saturated mean net values"),
        Quantity("gradient_probability", "scalar", "1", "gradient probability"),
        Quantity("slope_over_masks", "scalar", "1", r"mean $|\phi'(z)|$ over masks", LOG_RATIO),
        Quantity("slope_at_mean", "scalar", "1", r"$|\phi'|$ at the mean of $z$", LOG_RATIO),
        Quantity("dropout_masks", "scalar", "masks", "dropout masks", UNCOMPARED),
        Quantity("dropout_rate", "scalar", "1", "dropout rate", UNCOMPARED),
        Quantity("dropped_share", "scalar", "1", "dropped share"),
        Quantity("dropout_noise_to_signal", "scalar", "1", "noise-to-signal ratio of dropout", LOG_RATIO),
        Quantity("gaaf_height", "scalar", "1", "height of GAAF's shape", UNCOMPARED),
        Quantity("gaaf_width", "scalar", "net-value units", "width of GAAF's shape", UNCOMPARED),
        Quantity("net_value_stride", "scalar", "1", "one in so many net values counted", UNCOMPARED),
        Quantity("node_value_stride", "scalar", "1", "one in so many node values counted", UNCOMPARED),
        Quantity("net_grad_stride", "scalar", "1", "one in so many gradients counted", UNCOMPARED),
        Quantity("repeated_items", "scalar", "items", "items that ranks were given twice", UNCOMPARED),
        Quantity("evaluation_digest", "scalar", "1", "digest of an evaluation's histograms", UNCOMPARED),
        Quantity("step_skipped", "scalar", "1", "whether the loss scaler skipped the step", UNCOMPARED),
        Quantity("step_seconds", "scalar", "s", "time of a training step", UNCOMPARED),
        Quantity("evaluation_seconds", "scalar", "s", "time of an evaluation", UNCOMPARED),
        Quantity("recorder_seconds", "scalar", "s", "time in the recorder", UNCOMPARED),
        Quantity("schedule_thinned", "scalar", "1", "whether a scheduled step went without histograms", UNCOMPARED),
        Quantity("probes_rested", "scalar", "1", "whether a step was not recorded", UNCOMPARED),
        *_moments("weight", "weight units", "$w$"),
        *_moments("net_value", "net-value units", "$z$"),
    )
}  # fmt: skip
"""Quantities that dropdiag itself records; what ``step()`` is given is stored under its own name."""


def quantities(*names: str) -> tuple[Quantity, ...]:
    """Return quantities of dropdiag's own by name, for the probe that records them."""
    return tuple(QUANTITIES[name] for name in names)


def quantities_of(meta: Mapping[str, Any]) -> dict[str, Quantity]:
    """Return the quantities of a run by name.

    Parameters
    ----------
    meta : mapping
        Of ``run.json``. Its ``quantities`` (those of the run's probes) stand over `QUANTITIES`; runs that were
        recorded before they were written have none.
    """
    told = meta.get("quantities") or {}
    return {**QUANTITIES, **{name: Quantity(name, **described) for name, described in told.items()}}
