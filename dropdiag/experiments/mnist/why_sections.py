"""Sections of what is measured by passes of its own: why gradient flows, and what else dropout is said to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis import ablation, flow_decomposition, masks_by_weights, measured
from dropdiag.analysis.baseline import baseline_of
from dropdiag.experiments.cells import Column, across, glance, label, ratio, value
from dropdiag.experiments.experiment import Section
from dropdiag.experiments.layers import Layers
from dropdiag.experiments.mnist.network import NO_DROPOUT
from dropdiag.experiments.sections import LAYER
from dropdiag.experiments.tables import ordered
from dropdiag.plots import ablation as ablation_figure
from dropdiag.plots import ensemble, flatness, gradient_direction, gradient_flow, robustness
from dropdiag.plots import flow_decomposition as decomposition_figure
from dropdiag.plots import masks_by_weights as masks_figure
from dropdiag.store.reader import Runs

TERMS: Final = {
    "output error": "Output error", "transport": "Transport", "mask": "Mask", "slope": "Slope φ′", "total": "Together",
}  # fmt: skip
EFFECTS: Final = {"weights": "Weights", "masks": "Masks", "interaction": "Interaction", "together": "Together"}
ENDS: Final = {"low": "_low", "high": "_high"}
CONDITION: Final = label("condition", "Condition")


def _baseline(runs: Runs) -> str:
    return NO_DROPOUT if NO_DROPOUT in runs.conditions else baseline_of(runs)


def _factors(frame: pd.DataFrame, layers: Layers, kind: str, effect: str) -> pd.DataFrame:
    """Turn a frame of logarithms, a row a condition, layer and kind, into one of factors: a column a kind."""
    keys = ["condition", "baseline", "layer", "call"]
    rows = frame[frame["layer"].isin(layers.activations)]
    parts = [
        rows.pivot_table(index=keys, columns=kind, values=column, sort=False, dropna=False).add_suffix(end)
        for column, end in {effect: "", **ENDS}.items()
    ]
    made = pd.DataFrame(np.exp(pd.concat(parts, axis=1).astype(float))).reset_index()
    order = {name: i for i, name in enumerate(dict.fromkeys(rows["condition"]))}
    return ordered(made.sort_values("condition", key=lambda column: column.map(order)), layers.activations)


def decomposition_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Return what each condition's ratio of gradient flow is made of, as factors with their 95 % intervals."""
    return _factors(flow_decomposition.table(runs, baseline=_baseline(runs)), layers, "term", "effect")


def masks_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Return what weights and masks do to the gradient flow after training, as factors with 95 % intervals."""
    return _factors(masks_by_weights.table(runs, baseline=_baseline(runs)), layers, "effect", "value")


def co_adaptation_table(runs: Runs, layers: Layers) -> pd.DataFrame:
    """Return co-adaptation by each definition, with what there is without it: a row a layer and condition."""
    frame = ablation.table(runs, layers=list(layers.activations))
    keys = ["condition", "layer", "call"]
    wide = frame.pivot_table(
        index=keys, columns="definition", values=["value", "value_sd", "null"], sort=False, dropna=False
    )
    wide.columns = [
        f"{name.replace(' ', '_')}{number.removeprefix('value')}"
        if number != "null"
        else f"null_{name.replace(' ', '_')}"
        for number, name in map(tuple, wide.columns)
    ]
    order = {name: i for i, name in enumerate(dict.fromkeys(frame["condition"]))}
    made = wide.reset_index().sort_values("condition", key=lambda column: column.map(order))
    return ordered(made, layers.activations)


def of_the_network(measure: str, *quantities: str, step: Any = None) -> Callable[[Runs, Layers], pd.DataFrame]:
    """Return a table of numbers of a measurement that belong to the network as a whole, a row a condition."""

    def table(runs: Runs, _layers: Layers) -> pd.DataFrame:
        frame = measured.table(runs, measure, quantities=list(quantities), step=step)
        frame = frame[frame["layer"] == ""]
        parts = [
            frame.pivot_table(index="condition", columns="quantity", values=column, sort=False, dropna=False)
            for column in ("mean", "sd")
        ]
        wide = pd.concat([parts[0], parts[1].add_suffix("_sd")], axis=1)
        return wide.reindex(list(dict.fromkeys(frame["condition"]))).reset_index()

    return table


def _ratios(names: dict[str, str]) -> tuple[Column, ...]:
    return tuple(ratio(name, f"{heading} [95 %]") for name, heading in names.items())


def _glance(names: dict[str, str]) -> Callable[[pd.DataFrame], tuple[str, ...]]:
    return lambda frame: tuple(
        line for name, heading in names.items() if name in frame
        for line in (f"{heading.lower()}:", *across(frame, name, ".2f"))
    )  # fmt: skip


FLOW_DECOMPOSITION: Final = Section(
    name="flow_decomposition",
    title="Where does the gradient come from?",
    published=("in words:", "net variance carries saturated nodes back to where φ′ is"),
    alt=(
        "For each condition, bars by layer that add up factors of the ratio of gradient flow to no dropout: output "
        "error, transport through the weights, mask and slope; a mark at their product."
    ),
    figure=lambda runs, layers: decomposition_figure(runs, layers=layers.activations, baseline=_baseline(runs)),
    table=decomposition_table,
    columns=(*LAYER, *_ratios(TERMS)),
    at_a_glance=_glance(TERMS),
)

AT_EQUAL_LOSS: Final = Section(
    name="flow_at_equal_loss",
    title="Does more gradient flow at equal loss?",
    alt="Gradient flow of each layer against the training loss, falling from left to right, one line a condition.",
    figure=lambda runs, layers: gradient_flow(runs, layers=layers.activations, against="loss"),
)

MASKS_BY_WEIGHTS: Final = Section(
    name="masks_by_weights",
    title="Is it the masks, or the weights that they led to?",
    alt=(
        "Factors by which the weights of each condition, and masks on beside off, change the gradient flow of the same "
        "images, by layer and over training."
    ),
    figure=lambda runs, layers: masks_figure(runs, layers=layers.activations, baseline=_baseline(runs)),
    table=masks_table,
    columns=(*LAYER, *_ratios(EFFECTS)),
    at_a_glance=_glance(EFFECTS),
)

CO_ADAPTATION: Final = Section(
    name="co_adaptation",
    title="Do nodes depend less on each other?",
    published=("in words:", "dropout does not avoid co-adaptation"),
    alt=(
        "Interaction of ablated partners, mean |r| and multiple correlation of each layer by condition, and accuracy "
        "by the share of nodes that is ablated."
    ),
    figure=lambda runs, layers: ablation_figure(runs, layers=layers.activations),
    table=co_adaptation_table,
    columns=(
        *LAYER,
        value("interaction", "Interaction (sd over seeds)", ".2f"),
        value("null_interaction", "By lot", ".2f"),
        value("correlation", "Mean |r|"),
        value("multiple_correlation", "Multiple R²"),
    ),
    at_a_glance=glance(("interaction", "interaction", ".2f"), ("multiple_correlation", "multiple R²", ".2f")),
)

ENSEMBLE: Final = Section(
    name="ensemble",
    title="Is weight scaling the geometric mean of the thinned networks?",
    published=("in words:", "the geometric mean of 2^N networks"),
    alt="Loss, accuracy and calibration of weight scaling and of means over masks, and what masks add to the loss.",
    figure=lambda runs, _layers: ensemble(runs),
    table=of_the_network(
        "ensemble", "ensemble_kl_geometric", "nll_weight_scaled", "nll_geometric", "nll_arithmetic", "regulariser"
    ),
    columns=(
        CONDITION,
        value("ensemble_kl_geometric", "KL to the geometric mean, nats (sd over seeds)", ".4f"),
        value("nll_weight_scaled", "NLL, weight scaling", ".4f"),
        value("nll_geometric", "NLL, geometric mean", ".4f"),
        value("nll_arithmetic", "NLL, arithmetic mean", ".4f"),
        value("regulariser", "Regulariser E L − L", ".3f"),
    ),
    at_a_glance=glance(("ensemble_kl_geometric", "KL in nats", ".4f")),
)

FLATNESS: Final = Section(
    name="flatness",
    title="Is the minimum flatter?",
    alt="Rise of the loss along random directions, and eigenvalue, trace and relative flatness by condition.",
    figure=lambda runs, _layers: flatness(runs),
    table=of_the_network("flatness", "hessian_eigenvalue", "hessian_trace", "relative_flatness", "loss_rise"),
    columns=(
        CONDITION,
        value("hessian_eigenvalue@1", "Largest eigenvalue (sd over seeds)", ".2f"),
        value("hessian_trace", "Trace", ".1f"),
        value("relative_flatness", "Relative flatness", ".2f"),
        value("loss_rise@0.5", "Rise of the loss at 0.5", ".4f"),
    ),
    at_a_glance=glance(("relative_flatness", "relative flatness", ".2f"), ("loss_rise@0.5", "loss rise", ".3f")),
)

ROBUSTNESS: Final = Section(
    name="robustness",
    title="Is the network more robust to noise?",
    alt="Loss and accuracy on the test set by the size of the noise on the inputs, one line a condition.",
    figure=lambda runs, _layers: robustness(runs),
    table=of_the_network("robustness", "noisy_loss", "noisy_accuracy"),
    columns=(
        CONDITION,
        value("noisy_loss@0", "Loss, no noise (sd over seeds)"),
        value("noisy_loss@0.5", "Loss, noise 0.5 sd"),
        value("noisy_accuracy@0", "Accuracy, no noise"),
        value("noisy_accuracy@0.5", "Accuracy, noise 0.5 sd"),
    ),
    at_a_glance=glance(("noisy_accuracy@0.5", "accuracy under noise", ".3f")),
)

GRADIENT_DIRECTION: Final = Section(
    name="gradient_direction",
    title="Do mini-batches agree more on the direction?",
    alt="Variance and error of the gradient's direction and noise scale over training, masks on and off, by condition.",
    figure=lambda runs, _layers: gradient_direction(runs),
)

WHY: Final = (
    FLOW_DECOMPOSITION, AT_EQUAL_LOSS, MASKS_BY_WEIGHTS, CO_ADAPTATION, ENSEMBLE, FLATNESS, ROBUSTNESS,
    GRADIENT_DIRECTION,
)  # fmt: skip
