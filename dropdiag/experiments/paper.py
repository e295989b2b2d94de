"""The paper's published numbers; every comparison with it reads them from here.

Hahn and Choi, "Gradient Acceleration in Activation Functions", arXiv:1806.09783. Numbers of tables are
as printed; the others were read off a plot and are good to about two digits. Layers are numbered from 1,
the first hidden layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# The paper's names, which are those of the conditions; an experiment imports this file, not the other way round.
NO_DROPOUT, DROPOUT, GAAF = "No dropout", "Dropout", "GAAF"

CITATION: Final = 'Hahn and Choi, "Gradient Acceleration in Activation Functions", arXiv:1806.09783'

GRADIENT_FLOW: Final = {
    NO_DROPOUT: {1: 1.07e-04, 2: 1.40e-04, 3: 9.35e-05},
    DROPOUT: {1: 5.93e-04, 2: 6.52e-04, 3: 5.83e-04},
}
"""Table 2: mean |gradient| over the nodes of a layer, averaged over all iterations of training."""

GRADIENT_FLOW_RATIO: Final = {DROPOUT: {1: 5.54, 2: 4.66, 3: 6.24}}
"""Table 2: with dropout over without."""

WEIGHT_PEAK: Final = {NO_DROPOUT: {1: 7.4, 2: 5.6, 3: 4.4}, DROPOUT: {1: 7.2, 2: 6.5, 3: 5.6}}
"""Figure 1: greatest density of the weights (read off the plot)."""

CORRELATION_PEAK: Final = {NO_DROPOUT: {1: 1.57, 2: 1.52, 3: 1.10}, DROPOUT: {1: 1.53, 2: 1.07, 3: 1.01}}
"""Figure 2: greatest density of the node correlations (read off the plot): the lower, the wider."""

NET_VALUE_MODES: Final = {NO_DROPOUT: {1: "0", 2: "0", 3: "±0.8"}, DROPOUT: {1: "0", 2: "±2.4", 3: "−2.6, +2.75"}}
"""Figure 5: where the density of the net values on test data has its modes (read off the plot)."""

MNIST_ACCURACY: Final[Mapping[str, Mapping[str, float]]] = {
    "accuracy": {NO_DROPOUT: 98.23, DROPOUT: 98.40, GAAF: 98.35},
    "accuracy_sd": {NO_DROPOUT: 0.075, DROPOUT: 0.034, GAAF: 0.059},
    "epochs": {NO_DROPOUT: 82, DROPOUT: 169, GAAF: 114},
    "epochs_sd": {NO_DROPOUT: 16.6, DROPOUT: 9.7, GAAF: 24.8},
}
"""Figure 7: mean and standard deviation, over five executions, of the test accuracy in per cent and of the epochs of
training; the stopping rule is not stated."""

IMAGE_ACCURACY: Final = {
    "cifar100": {"Base": 59.63, "Batch norm": 67.48, "GAAF": 61.29, "Batch norm + GAAF": 69.36},
    "cifar10": {"Base": 89.55, "Batch norm": 91.10, "GAAF": 90.16, "Batch norm + GAAF": 91.92},
    "svhn": {"Base": 92.03, "Batch norm": 93.80, "GAAF": 92.19, "Batch norm + GAAF": 94.16},
}
"""Figure 8: top-1 test accuracy in per cent, by data set and condition; how many executions is not stated."""

IMAGE_GAIN: Final = {
    "cifar100": {"GAAF": 1.66, "Batch norm + GAAF": 1.88},
    "cifar10": {"GAAF": 0.61, "Batch norm + GAAF": 0.82},
    "svhn": {"GAAF": 0.16, "Batch norm + GAAF": 0.36},
}
"""Figure 8: what GAAF adds to the same network without it, in percentage points, as printed."""
