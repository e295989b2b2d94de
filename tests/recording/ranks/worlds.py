"""One training on different numbers of ranks: how far its numbers are apart."""

from __future__ import annotations

import numpy as np

import dropdiag as dd
from tests.recording.ranks.checks import Numbers
from tests.recording.ranks.saved import flow, load, passes
from tests.recording.ranks.trainings import TRAININGS

WORLDS = 1, 2, 4
COMPARED = (
    "net_grad_abs_mean", "weight_grad_abs_mean", "raw_weight_grad_abs_mean", "saturation_share_left",
    "saturation_share_right", "net_value_mean", "net_value_sd", "net_value_excess_kurtosis", "net_value_abs_mean",
    "net_value_minimum", "net_value_maximum", "weight_mean", "weight_sd",
    "dead_share", "always_saturated_share", "update_to_weight", "distance_from_start",
    "node_grad_abs_mean", "output_grad_abs_mean",
)  # fmt: skip


def recorded(folder, name, steps):
    """Return the numbers that a run has of each quantity, in one order."""
    rows = Numbers(dd.load(folder / name)).rows
    rows = rows[(rows.phase == "train") & rows.step.isin(list(steps)) & rows.quantity.isin(COMPARED)]
    return rows.sort_values(["quantity", "layer", "step"]).set_index(["quantity", "layer", "step"])["value"]


def apart(one, other):
    """Return the largest difference of two lists of numbers, relative to the larger of each pair."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    scale = np.maximum(np.maximum(np.abs(one), np.abs(other)), 1e-5)
    return float((np.abs(one - other) / scale).max())


def bare_flow(folder, name, world):
    """Return the gradient flow of the training without a Recorder, by step and layer."""
    ranks = load(folder, name, "bare", world)
    found = []
    for step in range(TRAININGS[name].n_steps):
        layers = passes(ranks, step)
        found += [flow(layers[layer], world) for layer in sorted(layers)]
    return found


def recorded_flow(folder, name):
    """Return the gradient flow of the run, by step and layer."""
    rows = dd.load(folder / name).select("net_grad_abs_mean")
    return rows.sort_values(["step", "layer"])["value"].tolist()
