"""What is compared: the measures that are taken of a quantity, on the scale that the quantity carries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from dropdiag.store.reader import Runs
from dropdiag.store.schema import (
    DIFFERENCE,
    DISTANCE,
    LOG_RATIO,
    QUANTITIES,
    UNCOMPARED,
    Quantity,
    at,
    base_and_x,
    quantity_of,
)

COUNTERS: Final = frozenset({"epoch", "epochs", "step", "global_step", "iteration"})
"""Scalars of the network that only count: no effect of them says anything."""
LESS_IS_BETTER: Final = ("loss", "error", "perplexity")
"""What a word of a scalar's name ends with where less of it is better: "loss", "logloss"."""
_LESS: Final = frozenset({"err", "errors", "losses", "ppl", "nll", "mse", "mae", "rmse"})
_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
W1: Final = "_w1"
"""Ending of the measure of a histogram quantity: the distance between the seeds' pooled distributions."""


FLOW_TERMS: Final = {
    "output error": "flow_output_error", "transport": "flow_transport", "other paths": "flow_other_paths",
    "mask": "flow_mask", "slope": "flow_slope", "total": "flow_total",
}  # fmt: skip
"""Term of the decomposed gradient flow -> the measure of it: all factors of that kind down to a layer."""


@dataclass(frozen=True)
class Measure:
    """What a measure is taken from, and on what scale its effect is.

    Attributes
    ----------
    name, quantity : str
    scale : {"log ratio", "difference", "distance"}
    unit : str
        Of the effect: ``"1"`` for a log ratio.
    """

    name: str
    quantity: str
    scale: str
    unit: str

    @property
    def logs(self) -> bool:
        """Whether the effect is taken on logarithms."""
        return self.scale == LOG_RATIO


SPECIAL: Final = {
    m.name: m
    for m in (
        Measure("gradient_flow", "net_grad_abs_mean", LOG_RATIO, "1"),
        Measure("saturation_share", "net_value", DIFFERENCE, "1"),
        Measure("abs_correlation", "node_correlation", DIFFERENCE, "1"),
        Measure("correlation_squared", "node_correlation", DIFFERENCE, "1"),
        Measure("correlation_sd", "node_correlation", DIFFERENCE, "1"),
        Measure("correlation_variance", "node_correlation", DIFFERENCE, "1"),
        Measure("weight_excess_kurtosis", "weight", DIFFERENCE, "1"),
        Measure("weight_ks_normal", "weight", DIFFERENCE, "1"),
        Measure("weight_shape_distance", "weight", DIFFERENCE, "standard deviations"),
        Measure("weight_scale_distance", "weight", DIFFERENCE, "1"),
        Measure("weight_w1_from_start", "weight", DIFFERENCE, "standard deviations at step 0"),
        Measure("excess_net_variance", "net_variance_mean", DIFFERENCE, "net-value units squared"),
        Measure("far_gradient_probability", "gradient_probability", DIFFERENCE, "1"),
        *(Measure(name, "net_grad_abs_mean", LOG_RATIO, "1") for name in FLOW_TERMS.values()),
        Measure("noisy_loss_rise", "noisy_loss", DIFFERENCE, "loss units"),
        *(
            Measure(f"ensemble_kl_{mean}_corrected", f"ensemble_kl_{mean}", DIFFERENCE, "nats")
            for mean in ("geometric", "arithmetic")
        ),
        Measure("ablation_dependence", "ablation_interaction", DIFFERENCE, "1"),
        Measure("ablation_dependence_squared", "ablation_interaction", DIFFERENCE, "1"),
    )
}
"""Measures that take more than a quantity's last value: over training, of two sides, of a histogram's shape."""
SAMPLED: Final = frozenset({
    "abs_correlation", "correlation_squared", "correlation_sd", "correlation_variance", "participation_ratio",
    "effective_rank",
})  # fmt: skip
"""Measures that depend on the number of samples they rest on."""
_IN_SPECIAL: Final = frozenset({"net_grad_abs_mean", "node_correlation", "weight_excess_kurtosis"})
# `weight_excess_kurtosis` of the moments probe is what the measure of that name takes from the histogram


OF_NETWORK: Final = frozenset({
    "relative_flatness", "loss_rise", "hessian_eigenvalue", "noisy_loss_rise", "ensemble_kl_geometric_corrected",
    "ensemble_kl_arithmetic_corrected", "gradient_direction_variance", "gradient_direction_error",
})  # fmt: skip
"""Measures, and families of them, that claims take of the network as a whole."""


def quantities_of_runs(runs: Runs) -> dict[str, Quantity]:
    """Return what is known of each quantity: as the runs' own probes say (the first run that does), else dropdiag."""
    found = dict(QUANTITIES)
    # last to first, so that the first run has the last word; built-in names count only where a run declares them
    for run in reversed(runs):
        found |= {
            name: quantity for name, quantity in run.quantities.items() if name in (run.meta.get("quantities") or ())
        }
    return found


def generic(quantities: Mapping[str, Quantity]) -> dict[str, Measure]:
    """Return the measures that follow from quantities alone: a scalar's own, a histogram's W1.

    Parameters
    ----------
    quantities : mapping of str to Quantity
        Those of scale "none" have no measure, nor have those that a measure of `SPECIAL` is the number of.

    Returns
    -------
    dict of str to Measure
        By the measure's name: the quantity's, of a histogram with "_w1" behind it.
    """
    found = {}
    for name, quantity in quantities.items():
        scale, unit = quantity.scale, quantity.unit
        if name in _IN_SPECIAL or scale == UNCOMPARED:
            continue
        if scale == DISTANCE:
            found[f"{name}{W1}"] = Measure(f"{name}{W1}", name, scale, unit)
        else:
            found[name] = Measure(name, name, scale, "1" if scale == LOG_RATIO else unit)
    return found


def measure_of(name: str, quantities: Mapping[str, Quantity] = QUANTITIES) -> Measure:
    """Return a measure by name, also of a scalar of the network ("final:loss", "epochs_to_best:accuracy").

    Parameters
    ----------
    name : str
    quantities : mapping of str to Quantity, optional
        Those of the runs; dropdiag's own by default.
    """
    if name in SPECIAL:
        return SPECIAL[name]
    kind, colon, scalar = name.partition(":")
    if colon and kind in ("final", "best", "epochs_to_best"):
        return Measure(name, scalar, DIFFERENCE, "evaluations" if kind == "epochs_to_best" else "as logged")
    found = generic(quantities).get(name) or _of_family(name, quantities)
    return found or Measure(name, name, DIFFERENCE, "as recorded")


def _of_family(name: str, quantities: Mapping[str, Quantity]) -> Measure | None:
    """Return the measure of one member of a family, "noisy_loss@0.1": that of all, under its name."""
    base, x = base_and_x(name)
    if x is not None and base in SPECIAL:
        return replace(SPECIAL[base], name=name, quantity=at(SPECIAL[base].quantity, x))
    one = quantity_of(name, quantities)
    return None if one is None else generic({name: one}).get(name)


def less_is_better(scalar: str) -> bool:
    """Whether a scalar's name says that less of it is better (a loss, an error, a perplexity)."""
    return any(word.endswith(LESS_IS_BETTER) or word in _LESS for word in words(scalar))


def is_accuracy(scalar: str) -> bool:
    """Whether a scalar's name says that it is an accuracy: "accuracy", "valAcc", "top1_acc"."""
    return any(word in ("acc", "accs") or word.startswith("accura") for word in words(scalar))


VALIDATION: Final = ("validation", "val", "valid", "dev")
"""Words by which names of scalars and phases say so, the usual one first."""


def is_validation(scalar: str) -> bool:
    """Whether a scalar's name says that it is of images that were held out to choose by, not of test images."""
    return not set(VALIDATION).isdisjoint(words(scalar))


def words(name: str) -> list[str]:
    """Return the words of a name, however they are set apart: "val_top1-acc", "valTop1Acc"."""
    return [word.lower() for word in _WORD.findall(name)]
