"""The diagnostics of a report: what each shows, how to read it, how it misleads, and its table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dropdiag import analysis
from dropdiag.report.cells import Cell, Table, integer, layer, number, text
from dropdiag.store.reader import Runs

Row = dict[Any, Any]
Column = tuple[str, Callable[[Row], Cell]]


@dataclass(frozen=True)
class Section:
    """One diagnostic.

    Attributes
    ----------
    name : str
        Its anchor and key.
    title, reading, misleading : str
    table : callable or None
        Runs -> frame.
    caption : str
    columns : sequence of (heading, row -> Cell)
    group : str
        Whose layers it shows: ``"weight"`` (weight matrices), ``"node"`` (activations), or ``""``.
    """

    name: str
    title: str
    reading: str
    misleading: str
    group: str = ""
    table: Callable[[Runs], pd.DataFrame] | None = None
    caption: str = ""
    columns: Sequence[Column] = ()


def table_of(section: Section, runs: Runs, keep: Callable[[str], bool]) -> Table:
    """Return a section's table for the layers that are wanted.

    Raises
    ------
    ArgumentError, NotRecordedError
        As the analysis does.
    """
    frame = section.table(runs) if section.table is not None else pd.DataFrame()
    if "layer" in frame:
        frame = frame[frame["layer"].map(keep).astype(bool)]
    rows = [[make(row) for _, make in section.columns] for row in frame.to_dict("records")]
    return Table(section.caption, [head for head, _ in section.columns], rows)


def _mean(name: str, digits: str = ".3f") -> Callable[[Row], Cell]:
    return lambda row: number(row.get(name), digits, row.get(f"{name}_sd"))


def _count(name: str) -> Callable[[Row], Cell]:
    return lambda row: integer(row.get(name))


CONDITION: Column = ("Condition", lambda row: text(row["condition"]))
SITE: tuple[Column, ...] = (CONDITION, ("Layer", layer))
SEEDS: Column = ("Seeds", _count("seeds"))


SECTIONS: tuple[Section, ...] = (
    Section(
        "learning", "Learning curves",
        "The loss and whatever else was given for the network as a whole, over training. Lines are means over seeds, "
        "bands one standard deviation over seeds.",
        "Dropout raises the training loss by its masks alone, so compare conditions on held-out data. The best of many "
        "evaluations on a test set is optimistic; the last one is not.",
    ),
    Section(
        "gradient_flow", "Gradient flow",
        "Mean |∂L/∂z| over the samples and nodes of a layer, step by step, in loss units per net-value unit. The first "
        "chart has all layers at the chosen step, the others follow each layer through training. The table averages "
        "over training, as Table 2 of Hahn and Choi does: over the steps that it names, the same on both sides. Its "
        "ratios are those of the effects and of claim (c).",
        "It falls with the batch size where the loss is a mean over the batch. It falls as a network learns its data, "
        "so compare runs of one length. A gradient that never came is left out, never taken for zero.",
        "node",
    ),
    Section(
        "net_values", "Net values and saturation",
        "What enters each activation function. Grey marks the saturation area, where |φ′| is at most a tenth of its "
        "largest value; the saturation share is the share of net values there. For GAAF, φ is the base function.",
        "A share says nothing about what moved: look at the curve. The share is exact; the curve is re-binned from the "
        "recorded bins. ReLU-like functions are saturated on a whole half line by this definition. It is not the "
        "spectral “saturation” of Delve.",
        "node", analysis.saturation.table, "Saturation share at the last step, mean (sd over seeds)",
        (*SITE, ("Share", _mean("share")), ("Left", _mean("left")), ("Right", _mean("right")), SEEDS),
    ),
    Section(
        "weights", "Weights",
        "The entries of each weight matrix. A normal density has an excess kurtosis of 0, a uniform one of −1.2.",
        "A few outliers decide a kurtosis: look at the tails with the log scale. Weights of one network are no "
        "independent sample; the seeds are.",
        "weight", analysis.weights.table, "Weights at the last step, mean (sd over seeds)",
        (*SITE, ("Mean", _mean("mean", ".2g")), ("Standard deviation", _mean("sd", ".4f")),
         ("Excess kurtosis", _mean("excess_kurtosis", ".2f")), ("Peak density", _mean("peak_density", ".2f")), SEEDS,
         ("Weights", _count("weights"))),
    ),
    Section(
        "node_correlation", "Node correlation",
        "Pearson’s r of every pair of a layer’s nodes, on held-out data in evaluation mode, before the dropout mask. "
        "The dotted line in the first chart is what independent nodes show with so many samples.",
        "Finite data alone gives |r| > 0. A dropout mask itself lowers r, which is why it is taken before the mask. "
        "Pairs share nodes, so they are no independent replicates; and pairwise r says nothing about more than "
        "two nodes.",
        "node", analysis.correlation.table, "Node correlation at the last evaluation, mean (sd over seeds)",
        (*SITE, ("Mean |r|", _mean("mean_abs_r")), ("By chance", _mean("null_mean_abs_r")), ("sd of r", _mean("sd_r")),
         SEEDS, ("Samples", _count("samples")), ("Nodes", _count("nodes")),
         ("Constant nodes", _count("constant_nodes"))),
    ),
)  # fmt: skip
