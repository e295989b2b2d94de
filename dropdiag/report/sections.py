"""The diagnostics of a report in words: what each shows, how to read it, how it misleads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dropdiag.formatting import words
from dropdiag.store.schema import Quantity


@dataclass(frozen=True)
class Section:
    """One diagnostic.

    Attributes
    ----------
    name : str
        Its anchor and key.
    title, reading, misleading : str
    group : str
        Sections of one group show the same layers: ``"weight"`` (weight matrices), ``"node"`` (activations).
    """

    name: str
    title: str
    reading: str
    misleading: str
    group: str = ""


LEARNING: Final = Section(
    "learning", "Learning curves",
    "The loss and whatever else was given for the network as a whole, over training. Lines are means over seeds, "
    "bands one standard deviation over seeds.",
    "Dropout raises the training loss by its masks alone, so compare conditions on held-out data. The best of many "
    "evaluations on a test set is optimistic; the last one is not.",
)  # fmt: skip
GRADIENT_FLOW: Final = Section(
    "gradient_flow", "Gradient flow",
    "Mean |∂L/∂z| over the samples and nodes of a layer, step by step, in loss units per net-value unit. The first "
    "chart has all layers at the chosen step, the others follow each layer through training. The table averages "
    "over training, as Table 2 of Hahn and Choi does: over the steps that it names, the same on both sides. Its "
    "ratios are those of the effects and of claim (c).",
    "It falls with the batch size where the loss is a mean over the batch. It falls as a network learns its data, "
    "so compare runs of one length. A gradient that never came is left out, never taken for zero.",
    "node",
)  # fmt: skip
NET_VALUES: Final = Section(
    "net_values", "Net values and saturation",
    "What enters each activation function. Grey marks the saturation area, where |φ′| is at most a tenth of its "
    "largest value; the saturation share is the share of net values there. For GAAF, φ is the base function.",
    "A share says nothing about what moved: look at the curve. The share is exact; the curve is re-binned from the "
    "recorded bins. ReLU-like functions are saturated on a whole half line by this definition. It is not the "
    "spectral “saturation” of Delve.",
    "node",
)  # fmt: skip
WEIGHTS: Final = Section(
    "weights", "Weights",
    "The entries of each weight matrix. A normal density has an excess kurtosis of 0, a uniform one of −1.2.",
    "A few outliers decide a kurtosis: look at the tails with the log scale. Weights of one network are no "
    "independent sample; the seeds are.",
    "weight",
)  # fmt: skip
NODE_CORRELATION: Final = Section(
    "node_correlation", "Node correlation",
    "Pearson’s r of every pair of a layer’s nodes, on held-out data in evaluation mode, before the dropout mask. "
    "The dotted line in the first chart is what independent nodes show with so many samples.",
    "Finite data alone gives |r| > 0. A dropout mask itself lowers r, which is why it is taken before the mask. "
    "Pairs share nodes, so they are no independent replicates; and pairwise r says nothing about more than "
    "two nodes.",
    "node",
)  # fmt: skip
OTHER_SCALARS: Final = Section(
    "other_scalars", "Other measures of layers",
    "Every other number that the runs’ probes recorded of layers, over training. Lines are means over seeds (of "
    "what is compared by its ratio the geometric mean), bands one standard deviation over seeds. The table has each "
    "run’s last value, averaged over seeds.",
    "A number means what its probe says. What was recorded in several phases, in training and on held-out data, has "
    "a chart and rows for each: they are different numbers.",
    "other",
)  # fmt: skip


def of_quantity(quantity: Quantity) -> Section:
    """Return the section of a distribution that no section of its own describes, as a user's own probe records it."""
    title = words(quantity.label)
    unit = "" if quantity.unit == "1" else f", in {quantity.unit}"
    return Section(
        "distribution-" + re.sub(r"[^\w-]", "-", quantity.name), title[:1].upper() + title[1:],
        f"The distribution of “{title}” in each layer{unit}, as the probe that records “{quantity.name}” has it.",
        "Distributions are re-binned from the recorded bins. Their values come from one network and are no independent "
        "sample; the seeds are.",
        quantity.name,
    )  # fmt: skip
