"""What the page says about each figure and table: the question, how to read it, what the paper reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

import pandas as pd

from dropdiag.experiments import paper
from dropdiag.experiments.cells import Column, label, number, ratio, value
from dropdiag.experiments.mnist.network import DROPOUT, FITTED, GAAF_CONDITION, NO_DROPOUT, PORT
from dropdiag.experiments.tables import (
    accuracy_table,
    correlation_table,
    gradient_flow_table,
    net_variance_table,
    saturation_table,
    weights_table,
)
from dropdiag.store.reader import Runs

Lines: TypeAlias = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """One question of the paper.

    Attributes
    ----------
    name : str
        Of the figure and of the table's file.
    title : str
    reading : str
        How to read figure and table, and how they can mislead.
    published : tuple of str
        What the paper reports, in words and numbers, line by line.
    alt : str
        The figure in words, for who does not see it.
    table : callable or None
        Runs and number of hidden layers -> frame.
    columns : tuple of Column
    at_a_glance : callable or None
        Frame -> what was measured, in a few lines.
    """

    name: str
    title: str
    reading: str
    published: Lines
    alt: str
    table: Callable[[Runs, int], pd.DataFrame] | None = None
    columns: tuple[Column, ...] = ()
    at_a_glance: Callable[[pd.DataFrame], Lines] | None = None


def across(frame: pd.DataFrame, column: str, digits: str) -> Lines:
    """One line a condition: its numbers from the first layer to the last; conditions without are left out."""
    return tuple(
        _line(str(condition), rows[column], digits)
        for condition, rows in frame.groupby("condition", sort=False)
        if rows[column].notna().any()
    )


def _line(condition: str, numbers: Iterable[float], digits: str) -> str:
    return f"{condition} " + "\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}".join(number(x, digits) for x in numbers)


def _published(values: dict[str, dict[int, float]], digits: str) -> Lines:
    return tuple(_line(condition, by_layer.values(), digits) for condition, by_layer in values.items())


def _ratios(frame: pd.DataFrame) -> Lines:
    others = frame[frame["condition"] != frame["baseline"]]
    return (f"ratio to {frame['baseline'].iloc[0]}:", *across(others, "ratio", ".2f"))


def _accuracies(frame: pd.DataFrame) -> Lines:
    rows = zip(frame["condition"], frame["final_accuracy"], strict=True)
    return ("final accuracy:", *(f"{condition} {number(share, '.2f')} %" for condition, share in rows))


LAYER = (label("layer", "Layer"), label("condition", "Condition"))

GRADIENT_FLOW: Final = Section(
    name="gradient_flow",
    title="Does more gradient flow?",
    reading=(
        "Gradient flow is the mean over samples and nodes of |∂L/∂z|, z being the net value (the "
        "input of the activation function), measured at every training step. The table averages it "
        "over all steps of a run, then over seeds; the ratio is the geometric mean over seeds that "
        "share weights and batches, with its 95 % interval. The absolute numbers depend on the batch "
        "size, the optimiser and how long training lasts, so only runs of one setting compare, and "
        "only the ratios compare with the paper."
    ),
    published=(f"Table 2, ratio to {NO_DROPOUT}:", *_published(paper.GRADIENT_FLOW_RATIO, ".2f")),
    alt="Gradient flow of each layer over the steps of training on a logarithmic axis, one line a condition.",
    table=gradient_flow_table,
    columns=(
        *LAYER,
        value("gradient_flow", "Gradient flow (sd over seeds)", ".2e"),
        ratio("ratio", "Ratio to baseline [95 %]"),
        ratio("common_ratio", "Ratio, steps common to all [95 %]"),
        value("paper_gradient_flow", "Paper: flow", ".2e", published=True),
        value("paper_ratio", "Paper: ratio", ".2f", published=True),
    ),
    at_a_glance=_ratios,
)

WEIGHTS: Final = Section(
    name="weights",
    title="What do the weights look like?",
    reading=(
        "Distribution of a layer's weights after the last step, seeds pooled: bars and a kernel "
        "density. A layer that training has hardly moved keeps the plateau of its Glorot-uniform "
        "start (excess kurtosis −1.2); a normal distribution has 0. Numbers in the table are taken "
        "run by run."
    ),
    published=(
        "Figure 1, peak density, read off the plot:",
        *_published(paper.WEIGHT_PEAK, ".1f"),
        "with dropout a bell, without a flat top",
    ),
    alt="Density of the weights of each hidden layer after training, conditions overlaid.",
    table=weights_table,
    columns=(
        *LAYER,
        value("sd", "Standard deviation (sd over seeds)", ".4f"),
        value("excess_kurtosis", "Excess kurtosis", ".2f"),
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".1f", published=True),
    ),
    at_a_glance=lambda frame: (
        "peak density:",
        *across(frame, "peak_density", ".1f"),
        "excess kurtosis:",
        *across(frame, "excess_kurtosis", ".2f"),
    ),
)

CORRELATION: Final = Section(
    name="correlation",
    title="Does dropout lower node correlation?",
    reading=(
        "Pearson's r of every pair of a layer's node values on the test set, in evaluation mode: no "
        "dropout mask is drawn, for a mask alone would lower r. Nodes that never change have no r and"
        " are left out. The null is what independent nodes would give with as many samples. Pairs "
        "share nodes: they are no replicates."
    ),
    published=(
        "Figure 2, peak density, read off the plot:",
        *_published(paper.CORRELATION_PEAK, ".2f"),
        "dropout does not lower node correlation, its distributions are wider",
    ),
    alt="Density of the node correlations of each hidden layer on the test set, with the null.",
    table=correlation_table,
    columns=(
        *LAYER,
        value("mean_abs_r", "Mean |r| (sd over seeds)"),
        value("null_mean_abs_r", "Null: mean |r|"),
        value("sd_r", "Standard deviation of r"),
        value("constant_nodes", "Constant nodes", ".1f"),
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".2f", published=True),
    ),
    at_a_glance=lambda frame: (
        "peak density:",
        *across(frame, "peak_density", ".2f"),
        "mean |r|:",
        *across(frame, "mean_abs_r", ".3f"),
    ),
)

SATURATION: Final = Section(
    name="saturation",
    title="Do net values climb into the saturation area?",
    reading=(
        "Net values on the test set after training. The shaded saturation area is where the "
        "derivative of the activation function is at most a tenth of its greatest value, for tanh |z|"
        " > 1.818; for GAAF it is that of its base function. The saturation share is the share of net"
        " values there. (Delve's “saturation” is something else.)"
    ),
    published=(
        "Figure 5, modes of the net value, read off the plot:",
        *(f"{c} {' / '.join(modes.values())}" for c, modes in paper.NET_VALUE_MODES.items()),
        "dropout pushes net values into the saturation area, more so in higher layers",
    ),
    alt="Density of the net values of each hidden layer on the test set, the saturation area shaded.",
    table=saturation_table,
    columns=(
        *LAYER,
        value("left", "Share left (sd over seeds)"),
        value("right", "Share right"),
        value("share", "Saturation share"),
        value("paper_modes", "Paper: modes at z =", published=True),
    ),
    at_a_glance=lambda frame: ("saturation share:", *across(frame, "share", ".3f")),
)

LEARNING: Final = Section(
    name="learning",
    title="How well do the networks learn?",
    reading=(
        "Loss and accuracy over training, mean over seeds. The training loss with dropout is that of "
        "the thinned networks, so that it lies higher; test loss and accuracy are in evaluation mode."
        " With early stopping, the epoch is that of the best accuracy on validation images, and the "
        "best accuracy is the test accuracy there. Without it, both are those of the best test accuracy: "
        "the best of many evaluations on one test set is optimistic about another; the final accuracy is "
        "not. The paper does not state when its training stopped, so that its epochs and "
        "the epoch of the best accuracy here are not the same quantity."
    ),
    published=(
        "Figure 7, mean (sd) of five executions on all of MNIST:",
        *(f"{c} {a.accuracy:.2f} ({a.accuracy_sd:g}) %" for c, a in paper.MNIST_ACCURACY.items()),
    ),
    alt="Training loss and test accuracy over the steps of training, one line a condition.",
    table=lambda runs, _layers: accuracy_table(runs),
    columns=(
        label("condition", "Condition"),
        value("final_accuracy", "Final accuracy, % (sd over seeds)", ".2f"),
        value("best_accuracy", "Best accuracy, %", ".2f"),
        value("best_epoch", "Epoch of the best", ".1f"),
        value("paper_accuracy", "Paper: accuracy, %", ".2f", sd_digits=".3f", published=True),
        value("paper_epochs", "Paper: epochs", ".1f", published=True),
    ),
    at_a_glance=_accuracies,
)

GAAF: Final = Section(
    name="gaaf",
    title="What GAAF adds",
    reading=(
        "GAAF is φ(x) + g(x)·s(x): g is a saw-tooth 1/K high with slope 1, s a shape function. The "
        "node value hardly changes; the derivative grows by s(x). Both shapes are as drawn in the "
        "paper's Figure 6."
    ),
    published=("Figure 6, shapes read off the plot:", "exp(−x²/3) for tanh", "sigmoid(6(x + 0.5)) for ReLU"),
    alt="The saw-tooth g, and for tanh and ReLU the function, its derivative and the shape function s.",
)

NET_VARIANCE: Final = Section(
    name="net_variance",
    title="Does dropout's variance carry saturated nodes to where gradient is?",
    reading=(
        "A dropout mask makes the net value of a node random. Measured after training on 256 test images under "
        "64 masks, at the dropout rate of the settings in every condition (networks without dropout get one "
        "for the while). Grey: net values whose mean over masks lies in the saturation area. Coloured: where "
        "masks take the same nodes. The gradient probability is the share of masks in which they leave it. The "
        "closed form counts the masks right before a layer alone; those of earlier layers add to it. Layer 1 "
        "has no dropout before it."
    ),
    published=(
        "Figure 4 and Var(Σ w d x) > 0, in words:",
        "the variance of the net value lets saturated nodes see gradient",
    ),
    alt=(
        "Net variance of each layer, and for each layer |φ′| with the mean net values in the saturation area and "
        "where masks take them."
    ),
    table=net_variance_table,
    columns=(
        *LAYER,
        value("net_variance_mean", "Net variance (sd over seeds)", ".3f"),
        value("net_variance_closed_form_mean", "Closed form", ".3f"),
        value("saturated_mean_share", "Share of means saturated", ".3f"),
        value("gradient_probability", "Gradient probability", ".3f"),
        value("slope_at_mean", "|φ′| at the means", ".4f"),
        value("slope_over_masks", "Mean |φ′| over masks", ".4f"),
    ),
    at_a_glance=lambda frame: (
        "net variance:",
        *across(frame, "net_variance_mean", ".2f"),
        "gradient probability:",
        *across(frame, "gradient_probability", ".2f"),
    ),
)

SECTIONS: Final = (GRADIENT_FLOW, WEIGHTS, CORRELATION, NET_VARIANCE, SATURATION, LEARNING, GAAF)
CONDITIONS_IN_WORDS: Final = {
    NO_DROPOUT: "the activation function alone",
    DROPOUT: "dropout on the node values of every hidden layer",
    GAAF_CONDITION: "GAAF over it, no dropout",
    FITTED: "GAAF over it, height and width of its shape fitted to the dropout rate before every epoch; no dropout",
    PORT: "GAAF over ReLU with the shape of the public Keras port, sigmoid(x + 4); no dropout",
}
