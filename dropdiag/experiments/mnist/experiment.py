"""The MNIST analysis of the paper, its Figures 1 to 7, as an experiment: what is trained, what its page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pandas as pd

from dropdiag.experiments import paper, sections, tables
from dropdiag.experiments.cells import glance, glance_at_accuracies, label, published_across, ratio, value
from dropdiag.experiments.data.datasets import MNIST as DATASET
from dropdiag.experiments.experiment import Experiment, Section
from dropdiag.experiments.layers import Layers
from dropdiag.experiments.mnist.network import CONDITIONS, DROPOUT, FITTED, GAAF_CONDITION, NO_DROPOUT, PORT
from dropdiag.experiments.mnist.train import MNIST_RECIPE, MnistSettings
from dropdiag.experiments.mnist.why_sections import WHY
from dropdiag.experiments.sections import CONSTANT_NODES, LAYER
from dropdiag.experiments.surrogates import IN_WORDS
from dropdiag.plots.net_variance import net_variance
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


GRADIENT_FLOW: Final = replace(
    sections.GRADIENT_FLOW,
    title="Does more gradient flow?",
    published=(f"Table 2, ratio to {NO_DROPOUT}:", *published_across(paper.GRADIENT_FLOW_RATIO, ".2f")),
    table=_gradient_flow,
    columns=(
        *sections.GRADIENT_FLOW.columns,
        ratio("common_ratio", "Ratio, steps common to all [95 %]"),
        value("paper_gradient_flow", "Paper: flow", ".2e", published=True),
        value("paper_ratio", "Paper: ratio", ".2f", published=True),
    ),
)

WEIGHTS: Final = replace(
    sections.WEIGHTS,
    published=(
        "Figure 1, peak density, read off the plot:",
        *published_across(paper.WEIGHT_PEAK, ".1f"),
        "with dropout a bell, without a flat top",
    ),
    table=_beside(tables.weights_table, peak_density=paper.WEIGHT_PEAK),
    columns=(
        *sections.WEIGHTS.columns,
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".1f", published=True),
    ),
    at_a_glance=glance(("peak_density", "peak density", ".1f"), ("excess_kurtosis", "excess kurtosis", ".2f")),
)

CORRELATION: Final = replace(
    sections.CORRELATION,
    title="Does dropout lower node correlation?",
    published=(
        "Figure 2, peak density, read off the plot:",
        *published_across(paper.CORRELATION_PEAK, ".2f"),
        "dropout does not lower node correlation, its distributions are wider",
    ),
    table=_beside(partial(tables.correlation_table, peaks=True), peak_density=paper.CORRELATION_PEAK),
    columns=(
        *LAYER,
        value("mean_abs_r", "Mean |r| (sd over seeds)"),
        value("null_mean_abs_r", "Null: mean |r|"),
        value("sd_r", "Standard deviation of r"),
        CONSTANT_NODES,
        value("peak_density", "Peak density", ".2f"),
        value("paper_peak_density", "Paper: peak", ".2f", published=True),
    ),
    at_a_glance=glance(("peak_density", "peak density", ".2f"), ("mean_abs_r", "mean |r|", ".3f")),
)

SATURATION: Final = replace(
    sections.SATURATION,
    title="Do net values climb into the saturation area?",
    published=(
        "Figure 5, modes of the net value, read off the plot:",
        *(f"{c} {' / '.join(modes.values())}" for c, modes in paper.NET_VALUE_MODES.items()),
        "dropout pushes net values into the saturation area, more so in higher layers",
    ),
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

LEARNING: Final = replace(
    sections.LEARNING,
    title="How well do the networks learn?",
    published=(
        "Figure 7, mean (sd) of five executions on all of MNIST:",
        *(
            f"{c} {mean:.2f} ({paper.MNIST_ACCURACY['accuracy_sd'][c]:g}) %"
            for c, mean in paper.MNIST_ACCURACY["accuracy"].items()
        ),
    ),
    alt="Training loss and test accuracy over the steps of training, one line a condition.",
    table=lambda runs, _layers: tables.with_published(tables.accuracy_table(runs), **paper.MNIST_ACCURACY),
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

GAAF: Final = replace(
    sections.GAAF,
    published=("Figure 6, shapes read off the plot:", "exp(−x²/3) for tanh", "sigmoid(6(x + 0.5)) for ReLU"),
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
    figure=lambda runs, layers: net_variance(runs, layers=layers.activations),
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


def layers(settings: MnistSettings) -> Layers:
    """Return the hidden layers of the network."""
    numbers = range(1, len(settings.widths) - 1)
    return Layers(
        weights={f"layer{i}.linear": f"Layer {i}" for i in numbers},
        activations={f"layer{i}.activation": f"Layer {i}" for i in numbers},
    )


MNIST: Final = Experiment(
    name=DATASET.key,
    conditions={
        NO_DROPOUT: "the activation function alone",
        DROPOUT: "dropout on the node values of every hidden layer",
        GAAF_CONDITION: "GAAF over it, no dropout",
        FITTED: "GAAF over it, height and width of its shape fitted to the dropout rate before every epoch; no dropout",
        PORT: "GAAF over ReLU with the shape of the public Keras port, sigmoid(x + 4); no dropout",
        **{name: f"{words}; no dropout" for name, words in IN_WORDS.items()},
    },
    default_conditions=CONDITIONS,
    seeds=5,
    recipe=MNIST_RECIPE,
    layers=layers,
    sections=(GRADIENT_FLOW, WEIGHTS, CORRELATION, NET_VARIANCE, SATURATION, *WHY, LEARNING, GAAF),
    words="mnist.j2",
    fixed={"device": "cpu"},  # `MnistTraining` moves nothing to another device
)
