"""What the page says about each figure and table of the MNIST analysis, beside what the paper reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import pandas as pd

from dropdiag.experiments import figures, paper, tables
from dropdiag.experiments.cells import (
    glance,
    glance_at_accuracies,
    glance_at_ratios,
    label,
    published_across,
    ratio,
    value,
)
from dropdiag.experiments.experiment import Layers, Section
from dropdiag.experiments.mnist.network import NO_DROPOUT
from dropdiag.store.reader import Runs


def _gradient_flow(runs: Runs, layers: Layers) -> pd.DataFrame:
    frame = tables.gradient_flow_table(runs, layers, NO_DROPOUT, over_shared_steps=True)
    published = {"gradient_flow": paper.GRADIENT_FLOW, "ratio": paper.GRADIENT_FLOW_RATIO}
    if NO_DROPOUT not in runs.conditions:
        del published["ratio"]  # it is over this condition, and these ratios are over another
    return tables.with_published(frame, layers.activations.values(), **published)


def _beside(
    table: Callable[[Runs, Layers], pd.DataFrame], **published: Mapping[str, Mapping[int, Any]]
) -> Callable[[Runs, Layers], pd.DataFrame]:
    """Return a table with the paper's numbers beside it; see `dropdiag.experiments.tables.with_published`."""
    return lambda runs, layers: tables.with_published(table(runs, layers), layers.weights.values(), **published)


def _learning(runs: Runs, _layers: Layers) -> pd.DataFrame:
    names = ("accuracy", "accuracy_sd", "epochs", "epochs_sd")
    published = {name: {c: getattr(row, name) for c, row in paper.MNIST_ACCURACY.items()} for name in names}
    return tables.with_published(tables.accuracy_table(runs), **published)


LAYER = (label("layer", "Layer"), label("condition", "Condition"))

GRADIENT_FLOW: Final = Section(
    name="gradient_flow",
    title="Does more gradient flow?",
    published=(f"Table 2, ratio to {NO_DROPOUT}:", *published_across(paper.GRADIENT_FLOW_RATIO, ".2f")),
    alt="Gradient flow of each layer over the steps of training on a logarithmic axis, one line a condition.",
    figure=figures.gradient_flow,
    table=_gradient_flow,
    columns=(
        *LAYER,
        value("gradient_flow", "Gradient flow (sd over seeds)", ".2e"),
        ratio("ratio", "Ratio to baseline [95 %]"),
        ratio("common_ratio", "Ratio, steps common to all [95 %]"),
        value("paper_gradient_flow", "Paper: flow", ".2e", published=True),
        value("paper_ratio", "Paper: ratio", ".2f", published=True),
    ),
    at_a_glance=glance_at_ratios,
)

WEIGHTS: Final = Section(
    name="weights",
    title="What do the weights look like?",
    published=(
        "Figure 1, peak density, read off the plot:",
        *published_across(paper.WEIGHT_PEAK, ".1f"),
        "with dropout a bell, without a flat top",
    ),
    alt="Density of the weights of each hidden layer after training, conditions overlaid.",
    figure=figures.weights,
    table=_beside(tables.weights_table, peak_density=paper.WEIGHT_PEAK),
    columns=(
        *LAYER,
        value("sd", "Standard deviation (sd over seeds)", ".4f"),
        value("excess_kurtosis", "Excess kurtosis", ".2f"),
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".1f", published=True),
    ),
    at_a_glance=glance(("peak_density", "peak density", ".1f"), ("excess_kurtosis", "excess kurtosis", ".2f")),
)

CORRELATION: Final = Section(
    name="correlation",
    title="Does dropout lower node correlation?",
    published=(
        "Figure 2, peak density, read off the plot:",
        *published_across(paper.CORRELATION_PEAK, ".2f"),
        "dropout does not lower node correlation, its distributions are wider",
    ),
    alt="Density of the node correlations of each hidden layer on the test set, with the null.",
    figure=figures.correlation,
    table=_beside(partial(tables.correlation_table, peaks=True), peak_density=paper.CORRELATION_PEAK),
    columns=(
        *LAYER,
        value("mean_abs_r", "Mean |r| (sd over seeds)"),
        value("null_mean_abs_r", "Null: mean |r|"),
        value("sd_r", "Standard deviation of r"),
        value("constant_nodes", "Constant nodes", ".1f"),
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".2f", published=True),
    ),
    at_a_glance=glance(("peak_density", "peak density", ".2f"), ("mean_abs_r", "mean |r|", ".3f")),
)

SATURATION: Final = Section(
    name="saturation",
    title="Do net values climb into the saturation area?",
    published=(
        "Figure 5, modes of the net value, read off the plot:",
        *(f"{c} {' / '.join(modes.values())}" for c, modes in paper.NET_VALUE_MODES.items()),
        "dropout pushes net values into the saturation area, more so in higher layers",
    ),
    alt="Density of the net values of each hidden layer on the test set, the saturation area shaded.",
    figure=figures.saturation,
    table=_beside(tables.saturation_table, modes=paper.NET_VALUE_MODES),
    columns=(
        *LAYER,
        value("left", "Share left (sd over seeds)"),
        value("right", "Share right"),
        value("share", "Saturation share"),
        value("paper_modes", "Paper: modes at z =", published=True),
    ),
    at_a_glance=glance(("share", "saturation share", ".3f")),
)

LEARNING: Final = Section(
    name="learning",
    title="How well do the networks learn?",
    published=(
        "Figure 7, mean (sd) of five executions on all of MNIST:",
        *(f"{c} {a.accuracy:.2f} ({a.accuracy_sd:g}) %" for c, a in paper.MNIST_ACCURACY.items()),
    ),
    alt="Training loss and test accuracy over the steps of training, one line a condition.",
    figure=figures.learning,
    table=_learning,
    columns=(
        label("condition", "Condition"),
        value("final_accuracy", "Final accuracy, % (sd over seeds)", ".2f"),
        value("best_accuracy", "Best accuracy, %", ".2f"),
        value("best_epoch", "Epoch of the best", ".1f"),
        value("paper_accuracy", "Paper: accuracy, %", ".2f", sd_digits=".3f", published=True),
        value("paper_epochs", "Paper: epochs", ".1f", published=True),
    ),
    at_a_glance=glance_at_accuracies,
)

GAAF: Final = Section(
    name="gaaf",
    title="What GAAF adds",
    published=("Figure 6, shapes read off the plot:", "exp(−x²/3) for tanh", "sigmoid(6(x + 0.5)) for ReLU"),
    alt="The saw-tooth g, and for tanh and ReLU the function, its derivative and the shape function s.",
    figure=figures.gaaf,
)

NET_VARIANCE: Final = Section(
    name="net_variance",
    title="Does dropout's variance carry saturated nodes to where gradient is?",
    published=(
        "Figure 4 and Var(Σ w d x) > 0, in words:",
        "the variance of the net value lets saturated nodes see gradient",
    ),
    alt=(
        "Net variance of each layer, and for each layer |φ′| with the mean net values in the saturation area and "
        "where masks take them."
    ),
    figure=figures.net_variance,
    table=tables.net_variance_table,
    columns=(
        *LAYER,
        value("net_variance_mean", "Net variance (sd over seeds)", ".3f"),
        value("net_variance_closed_form_mean", "Closed form", ".3f"),
        value("saturated_mean_share", "Share of means saturated", ".3f"),
        value("gradient_probability", "Gradient probability", ".3f"),
        value("slope_at_mean", "|φ′| at the means", ".4f"),
        value("slope_over_masks", "Mean |φ′| over masks", ".4f"),
    ),
    at_a_glance=glance(
        ("net_variance_mean", "net variance", ".2f"), ("gradient_probability", "gradient probability", ".2f")
    ),
)

SECTIONS: Final = (GRADIENT_FLOW, WEIGHTS, CORRELATION, NET_VARIANCE, SATURATION, LEARNING, GAAF)
