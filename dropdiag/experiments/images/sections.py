"""What the page of Figure 8 says about each figure and table."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pandas as pd
from matplotlib.figure import Figure

from dropdiag.experiments import figures, paper, tables
from dropdiag.experiments.cells import (
    NOTHING,
    Column,
    Lines,
    by_gaaf,
    difference,
    glance,
    glance_at_accuracies,
    glance_at_ratios,
    label,
    ratio,
    signed,
    value,
)
from dropdiag.experiments.experiment import Layers, Section
from dropdiag.experiments.images.figures import accuracy
from dropdiag.experiments.images.network import BASE, CONDITIONS, WITHOUT_GAAF
from dropdiag.store.reader import Runs

NO_NUMBER: Final = ("no number for these networks",)
LAYER: Final = (label("layer", "Layer"), label("condition", "Condition"))


def sections(dataset: str) -> tuple[Section, ...]:
    """Return the sections of the page for the data set of this key.

    Where Figure 8 has no number for it, nothing is said of the paper, and columns for its numbers are left out.
    """
    shown = (_accuracy(dataset), LEARNING, GRADIENT_FLOW, SATURATION, WEIGHTS, CORRELATION, GAAF)
    if dataset in paper.IMAGE_ACCURACY:
        return shown
    return tuple(replace(section, published=()) if section.published == NO_NUMBER else section for section in shown)


def accuracies(runs: Runs, dataset: str) -> pd.DataFrame:
    """Test accuracy, its difference to "Base", and what GAAF adds, beside Figure 8.

    Parameters
    ----------
    runs : Runs
    dataset : str
        Key of the data set.

    Returns
    -------
    DataFrame
        `tables.accuracy_table` with difference (to "Base") and gain (to the same network without GAAF), in
        percentage points, each a mean over paired seeds with ``_low`` and ``_high`` (95 % t interval) and
        ``_pairs``; and where Figure 8 has the data set, paper_accuracy, paper_difference, paper_gain.
    """
    to_base = {name: BASE for name in CONDITIONS if name != BASE}
    frame = tables.with_differences(tables.accuracy_table(runs), runs, difference=to_base, gain=WITHOUT_GAAF)
    published = paper.IMAGE_ACCURACY.get(dataset)
    if published is None:
        return frame
    differences = {name: round(published[name] - published[BASE], 2) for name in to_base}
    return tables.with_published(frame, accuracy=published, difference=differences, gain=paper.IMAGE_GAIN[dataset])


def _accuracy(dataset: str) -> Section:
    published = paper.IMAGE_ACCURACY.get(dataset, {})

    def figure(runs: Runs, _layers: Layers) -> Figure:
        return accuracy(runs, published)

    def table(runs: Runs, _layers: Layers) -> pd.DataFrame:
        return accuracies(runs, dataset)

    return Section(
        name="accuracy",
        title="Does GAAF raise the test accuracy?",
        published=("Figure 8:", *_published(dataset)) if published else (),
        alt="Final test accuracy of every run, a column a condition, with its mean"
        + (" and the published number." if published else "."),
        figure=figure,
        table=table,
        columns=(*ACCURACY_COLUMNS, *(PAPER_COLUMNS if published else ())),
        at_a_glance=glance_at_accuracies,
    )


ACCURACY_COLUMNS: Final = (
    label("condition", "Condition"),
    value("final_accuracy", "Final accuracy, % (sd over seeds)", ".2f"),
    difference("difference", "Difference to Base, points [95 %]"),
    difference("gain", "Gain by GAAF, points [95 %]"),
    Column("Pairs", lambda row: str(int(max(row["difference_pairs"], row["gain_pairs"])) or NOTHING)),
    value("best_accuracy", "Best accuracy, %", ".2f"),
)
PAPER_COLUMNS: Final = (
    value("paper_accuracy", "Paper: accuracy, %", ".2f", published=True),
    Column("Paper: gain", lambda row: signed(row["paper_gain"]), published=True),
)


def _published(dataset: str) -> Lines:
    gains = paper.IMAGE_GAIN[dataset]
    return tuple(
        f"{name} {share:.2f} %{by_gaaf(gains.get(name))}" for name, share in paper.IMAGE_ACCURACY[dataset].items()
    )


LEARNING: Final = Section(
    name="learning",
    title="How do the networks learn?",
    published=NO_NUMBER,
    alt="Training loss, test loss and test accuracy over the steps of training, one line a condition.",
    figure=figures.learning,
)

GRADIENT_FLOW: Final = Section(
    name="gradient_flow",
    title="How much gradient flows?",
    published=NO_NUMBER,
    alt="Gradient flow of each layer over the steps of training on a logarithmic axis, one line a condition.",
    figure=figures.gradient_flow,
    table=lambda runs, layers: tables.gradient_flow_table(runs, layers, BASE),
    columns=(
        *LAYER,
        value("gradient_flow", "Gradient flow (sd over seeds)", ".2e"),
        ratio("ratio", "Ratio to baseline [95 %]"),
    ),
    at_a_glance=glance_at_ratios,
)

SATURATION: Final = Section(
    name="saturation",
    title="How many net values lie where ReLU is flat?",
    published=NO_NUMBER,
    alt="Density of the net values of each hidden layer on the test set, the saturation area shaded.",
    figure=figures.saturation,
    table=tables.saturation_table,
    columns=(*LAYER, value("share", "Saturation share (sd over seeds)")),
    at_a_glance=glance(("share", "saturation share", ".2f")),
)

WEIGHTS: Final = Section(
    name="weights",
    title="What do the weights look like?",
    published=NO_NUMBER,
    alt="Density of the weights of each hidden layer after training, conditions overlaid.",
    figure=figures.weights,
    table=tables.weights_table,
    columns=(
        *LAYER,
        value("sd", "Standard deviation (sd over seeds)", ".4f"),
        value("excess_kurtosis", "Excess kurtosis", ".2f"),
    ),
    at_a_glance=glance(("excess_kurtosis", "excess kurtosis", ".2f")),
)

CORRELATION: Final = Section(
    name="correlation",
    title="How correlated are the nodes?",
    published=NO_NUMBER,
    alt="Density of the node correlations of each hidden layer on the test set, with the null.",
    figure=figures.correlation,
    table=tables.correlation_table,
    columns=(
        *LAYER,
        value("mean_abs_r", "Mean |r| (sd over seeds)"),
        value("null_mean_abs_r", "Null: mean |r|"),
        value("constant_nodes", "Constant nodes", ".1f"),
    ),
    at_a_glance=glance(("mean_abs_r", "mean |r|", ".2f")),
)

GAAF: Final = Section(
    name="gaaf",
    title="What GAAF adds",
    published=("Figure 6, shape read off the plot:", "sigmoid(6(x + 0.5)) for ReLU"),
    alt="The saw-tooth g, and for tanh and ReLU the function, its derivative and the shape function s.",
    figure=figures.gaaf,
)
