"""The sections that experiments have in common: figures of `dropdiag.plots` with the paper's names for the layers.

An experiment takes one as it is, or replaces its title, what the paper reports and the columns of its table.
"""

from __future__ import annotations

from typing import Final

from dropdiag.experiments import tables
from dropdiag.experiments.cells import glance, glance_at_ratios, label, ratio, value
from dropdiag.experiments.experiment import Section
from dropdiag.plots.correlation import correlation
from dropdiag.plots.distribution import weights
from dropdiag.plots.gaaf import gaaf
from dropdiag.plots.gradient_flow import gradient_flow
from dropdiag.plots.learning import learning
from dropdiag.plots.saturation import saturation

LAYER: Final = (label("layer", "Layer"), label("condition", "Condition"))
"""The first columns of every table by layer."""
CONSTANT_NODES: Final = value("constant_nodes", "Constant nodes", ".1f")

# The figures of learning and GAAF have no layers to name: their lambdas take them all the same, as every section does.
LEARNING: Final = Section(
    name="learning",
    title="How do the networks learn?",
    alt="Training loss, test loss and test accuracy over the steps of training, one line a condition.",
    figure=lambda runs, _layers: learning(runs),
)

GRADIENT_FLOW: Final = Section(
    name="gradient_flow",
    title="How much gradient flows?",
    alt="Gradient flow of each layer over the steps of training on a logarithmic axis, one line a condition.",
    figure=lambda runs, layers: gradient_flow(runs, layers=layers.activations),
    columns=(
        *LAYER,
        value("gradient_flow", "Gradient flow (sd over seeds)", ".2e"),
        ratio("ratio", "Ratio to baseline [95 %]"),
    ),
    at_a_glance=glance_at_ratios,
)

WEIGHTS: Final = Section(
    name="weights",
    title="What do the weights look like?",
    alt="Density of the weights of each hidden layer after training, conditions overlaid.",
    figure=lambda runs, layers: weights(runs, layers=layers.weights),
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
    alt="Density of the node correlations of each hidden layer on the test set, with the null.",
    figure=lambda runs, layers: correlation(runs, layers=layers.activations),
    table=tables.correlation_table,
    columns=(
        *LAYER,
        value("mean_abs_r", "Mean |r| (sd over seeds)"),
        value("null_mean_abs_r", "Null: mean |r|"),
        CONSTANT_NODES,
    ),
    at_a_glance=glance(("mean_abs_r", "mean |r|", ".2f")),
)

SATURATION: Final = Section(
    name="saturation",
    title="How many net values lie where ReLU is flat?",
    alt="Density of the net values of each hidden layer on the test set, the saturation area shaded.",
    figure=lambda runs, layers: saturation(runs, layers=layers.activations),
    table=tables.saturation_table,
    columns=(*LAYER, value("share", "Saturation share (sd over seeds)")),
    at_a_glance=glance(("share", "saturation share", ".2f")),
)

GAAF: Final = Section(
    name="gaaf",
    title="What GAAF adds",
    published=("Figure 6, shape read off the plot:", "sigmoid(6(x + 0.5)) for ReLU"),
    alt="The saw-tooth g, and for tanh and ReLU the function, its derivative and the shape function s.",
    figure=lambda _runs, _layers: gaaf(),
)
