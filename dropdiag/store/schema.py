"""The run folder's schema: its version, the quantities and their units, the columns of its tables.

This module imports nothing of the package, so that the torch side (which writes) and the paper side (which reads)
agree on it without importing each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FORMAT: Final = "dropdiag-run"
SCHEMA_VERSION: Final = 1

SCALAR_COLUMNS: Final = ("step", "phase", "layer", "call", "quantity", "value")
HISTOGRAM_COLUMNS: Final = ("step", "phase", "layer", "call", "quantity", "n", "bins", "counts")

TRAIN: Final = "train"
EVAL: Final = "eval"


@dataclass(frozen=True)
class Quantity:
    """What a quantity is called, how it is stored, and its unit.

    Attributes
    ----------
    name : str
        Name in the ``quantity`` column.
    kind : str
        ``"scalar"`` or ``"histogram"``.
    unit : str
        Unit in words; ``"1"`` for a pure number.
    label : str
        Axis label (matplotlib mathtext).
    """

    name: str
    kind: str
    unit: str
    label: str


def _moments(of: str, unit: str, symbol: str) -> tuple[Quantity, ...]:
    return (
        Quantity(f"{of}_mean", "scalar", unit, f"mean of {symbol}"),
        Quantity(f"{of}_sd", "scalar", unit, f"standard deviation of {symbol}"),
        Quantity(f"{of}_excess_kurtosis", "scalar", "1", f"excess kurtosis of {symbol}"),
        Quantity(f"{of}_abs_mean", "scalar", unit, f"mean of |{symbol}|"),
        Quantity(f"{of}_minimum", "scalar", unit, f"minimum of {symbol}"),
        Quantity(f"{of}_maximum", "scalar", unit, f"maximum of {symbol}"),
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
        Quantity("net_grad_abs_mean", "scalar", _PER_NET, r"gradient flow, mean $|\partial L/\partial z|$"),
        Quantity("weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$"),
        Quantity("raw_weight_grad_abs_mean", "scalar", _PER_WEIGHT, r"mean $|\partial L/\partial w|$ before clipping"),
        Quantity("node_correlation_abs_mean", "scalar", "1", "mean $|r|$"),
        Quantity("participation_ratio", "scalar", "nodes", "participation ratio"),
        Quantity("effective_rank", "scalar", "nodes", "effective rank"),
        Quantity("node_correlation_samples", "scalar", "samples", "samples"),
        Quantity("node_correlation_nodes", "scalar", "nodes", "nodes correlated"),
        Quantity("node_correlation_width", "scalar", "nodes", "nodes of the layer"),
        Quantity("constant_nodes", "scalar", "nodes", "constant nodes"),
        Quantity("saturation_share_left", "scalar", "1", "saturation share, left"),
        Quantity("saturation_share_right", "scalar", "1", "saturation share, right"),
        Quantity("net_variance", "histogram", "net-value units squared", "net variance"),
        Quantity("masked_net_mean", "histogram", "net-value units", "mean of $z$ over masks"),
        Quantity("wandering_net_value", "histogram", "net-value units", "net value $z$ under masks"),
        Quantity("net_variance_mean", "scalar", "net-value units squared", "mean net variance"),
        Quantity("net_variance_closed_form_mean", "scalar", "net-value units squared", "net variance, closed form"),
        Quantity("saturated_mean_share", "scalar", "1", "share of saturated mean net values"),
        Quantity("gradient_probability", "scalar", "1", "gradient probability"),
        Quantity("slope_over_masks", "scalar", "1", r"mean $|\phi'(z)|$ over masks"),
        Quantity("slope_at_mean", "scalar", "1", r"$|\phi'|$ at the mean of $z$"),
        Quantity("dropout_masks", "scalar", "masks", "dropout masks"),
        Quantity("dropout_rate", "scalar", "1", "dropout rate"),
        Quantity("gaaf_height", "scalar", "1", "height of GAAF's shape"),
        Quantity("gaaf_width", "scalar", "net-value units", "width of GAAF's shape"),
        Quantity("net_value_stride", "scalar", "1", "one in so many net values counted"),
        Quantity("node_value_stride", "scalar", "1", "one in so many node values counted"),
        Quantity("net_grad_stride", "scalar", "1", "one in so many gradients counted"),
        Quantity("step_skipped", "scalar", "1", "whether the loss scaler skipped the step"),
        Quantity("step_seconds", "scalar", "s", "time of a training step"),
        Quantity("evaluation_seconds", "scalar", "s", "time of an evaluation"),
        Quantity("recorder_seconds", "scalar", "s", "time in the recorder"),
        Quantity("schedule_thinned", "scalar", "1", "whether a scheduled step went without histograms"),
        Quantity("probes_rested", "scalar", "1", "whether a step was not recorded"),
        *_moments("weight", "weight units", "$w$"),
        *_moments("net_value", "net-value units", "$z$"),
    )
}
"""Quantities that dropdiag's own probes record; what ``step()`` is given is stored under its own name."""
