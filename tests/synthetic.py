"""Small run folders of known content, written by the real writer: what the paper side's tests read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter

BORDER = float(np.arctanh(np.sqrt(0.9)))  # tanh' = 0.1
EFFECT = {"No dropout": 0.0, "Dropout": 1.0, "GAAF": 0.5}
SAMPLES = 2000
AREAS: dict[str, dict[str, Any]] = {
    "Tanh": {"left": [[None, -BORDER]], "right": [[BORDER, None]]},
    "ReLU": {"left": [[None, 0.0]], "right": []},
}
DERIVATIVES = {"Tanh": lambda z: 1.0 - np.tanh(z) ** 2, "ReLU": lambda z: (z > 2.0**-132).astype(np.float64)}


@dataclass
class Content:
    """Raw arrays that a synthetic run is made of, by layer."""

    weight: dict[str, np.ndarray] = field(default_factory=dict)
    net_value: dict[str, np.ndarray] = field(default_factory=dict)
    node_correlation: dict[str, np.ndarray] = field(default_factory=dict)
    gradient_flow: dict[str, np.ndarray] = field(default_factory=dict)
    loss: np.ndarray = field(default_factory=lambda: np.zeros(0))
    accuracy: np.ndarray = field(default_factory=lambda: np.zeros(0))
    validation_accuracy: np.ndarray = field(default_factory=lambda: np.zeros(0))


def content(condition: str, seed: int, layers: int = 3, steps: int = 200, size: int = 4000) -> Content:
    """Return random content that looks as the paper's does."""
    rng = np.random.default_rng([seed, len(condition)])
    effect, made = EFFECT.get(condition, 0.3), Content()
    for i in range(layers):
        name = f"layer{i + 1}"
        mixed = rng.uniform(-0.08, 0.08, size) + effect * rng.normal(0, 0.035, size) + rng.normal(0, 0.012, size)
        made.weight[f"{name}.linear"] = mixed.astype(np.float32)
        mode = (0.2 + effect * 0.9 * i) * rng.choice([-1.0, 1.0], size)
        made.net_value[f"{name}.activation"] = rng.normal(mode, 1.1 + 0.3 * i).astype(np.float32)
        spread = rng.normal(0, 0.24 + 0.1 * effect + 0.02 * i, size)
        made.node_correlation[f"{name}.activation"] = np.tanh(spread).astype(np.float32)
        decay = np.exp(-np.arange(steps) / (0.4 * steps)) + 0.08
        noise = rng.lognormal(0, 0.25, steps)
        made.gradient_flow[f"{name}.activation"] = 2e-4 * (1 + 3 * effect) / (1 + 0.3 * i) * decay * noise
    decay = np.exp(-np.arange(steps) / (0.25 * steps))
    made.loss = (2.2 * decay + 0.02 + 0.2 * effect) * rng.lognormal(0, 0.1, steps)
    made.accuracy = 0.98 - 0.3 * np.exp(-np.arange(1, 11) / 2) + rng.normal(0, 0.002, 10)
    return made


def write(
    path: Path,
    made: Content,
    condition: str,
    seed: int | None,
    activation: str = "Tanh",
    phase: str = "eval",
    also: dict[str, Content] | None = None,
    correlated: int | None = None,
) -> Path:
    """Write a run folder.

    ``phase`` is that of all but weights, loss and gradients; ``also`` adds net values and correlations of other
    phases. ``correlated`` is the step of the last histograms of correlations, where it is not that of the last
    evaluation. ``activation`` may be "Tanh", "ReLU", or any other name, whose derivative is then not known.
    """
    writer = RunWriter(path, _meta(made, condition, seed, activation))
    steps = len(made.loss)
    for layer, values in made.weight.items():
        writer.add_histograms([_histogram(steps, "train", layer, "weight", values)])
    for name, part in {phase: made, **(also or {})}.items():
        for quantity in ("net_value", "node_correlation"):
            for layer, values in getattr(part, quantity).items():
                step = correlated if correlated and quantity == "node_correlation" else steps
                writer.add_histograms([_histogram(step, name, layer, quantity, values)])
        writer.add_scalars(list(_held_out(part, steps, name, shares=activation in AREAS)))
    writer.add_scalars(list(_scalars(made, phase)))
    if activation in AREAS:
        writer.add_derivatives({activation: DERIVATIVES[activation](line_centres())})
    writer.close("completed")
    return path


def _histogram(step: int, phase: str, layer: str, quantity: str, values: np.ndarray) -> HistogramRow:
    histogram = Histogram.from_values(values)
    return HistogramRow(step, phase, layer, 0, quantity, histogram.bins, histogram.counts)


def write_runs(
    folder: Path, conditions: Sequence[str] = tuple(EFFECT), seeds: Sequence[int] = (0, 1, 2), **options: Any
) -> Runs:
    """Write runs, conditions times seeds, and load them."""
    paths: dict[str, list[Path]] = {}
    for condition in conditions:
        for seed in seeds:
            path = folder / f"{condition.lower().replace(' ', '-')}-s{seed}"
            paths.setdefault(condition, []).append(write(path, content(condition, seed, **options), condition, seed))
    return load(paths)


def _meta(made: Content, condition: str, seed: int | None, activation: str) -> dict[str, Any]:
    layers: list[dict[str, Any]] = []
    for weight, site in zip(made.weight, made.net_value, strict=True):
        layers += [
            {
                "layer": weight,
                "call": 0,
                "kind": "weight",
                "type": "Linear",
                "activation": None,
                "shape": [8, 8],
            },
            {
                "layer": site,
                "call": 0,
                "kind": "activation",
                "type": activation,
                "activation": activation,
                "shape": [],
            },
        ]
    known = {activation: {"sup": 1.0, "eps": 0.1, **AREAS[activation]}} if activation in AREAS else {}
    config = {"condition": condition} | ({} if seed is None else {"seed": seed})
    order = [[[site["layer"], site["call"]]] for site in layers]
    return {"config": config, "versions": {}, "layers": layers, "order": order, "activations": known}


def _scalars(made: Content, phase: str) -> list[ScalarRow]:
    steps, rows = len(made.loss), []
    for i, loss in enumerate(made.loss):
        rows.append(ScalarRow(i + 1, "train", None, 0, "loss", float(loss)))
    for name in ("accuracy", "validation_accuracy"):
        values = getattr(made, name)
        for i, value in enumerate(values):
            rows.append(ScalarRow((i + 1) * steps // len(values), phase, None, 0, name, float(value)))
    for layer, values in made.gradient_flow.items():
        for i, value in enumerate(values):
            rows.append(ScalarRow(i + 1, "train", layer, 0, "net_grad_abs_mean", float(value)))
    return rows


def _held_out(made: Content, steps: int, phase: str, *, shares: bool) -> list[ScalarRow]:
    rows = []
    for layer, values in made.net_value.items() if shares else ():
        z = values.astype(np.float64)
        if not z.size:  # a layer that the run did not record
            continue
        rows.append(ScalarRow(steps, phase, layer, 0, "saturation_share_left", float((z <= -BORDER).mean())))
        rows.append(ScalarRow(steps, phase, layer, 0, "saturation_share_right", float((z >= BORDER).mean())))
    for layer, r in made.node_correlation.items():
        ratio = 90 / (1 + 89 * np.square(r.astype(np.float64)).sum() / max(r.size, 1))
        for quantity, value in (
            ("participation_ratio", ratio),
            ("effective_rank", (90 + ratio) / 2),
            ("node_correlation_samples", SAMPLES),
            ("node_correlation_items", SAMPLES),
            ("node_correlation_nodes", 90),
            ("constant_nodes", 2),
        ):
            rows.append(ScalarRow(steps, phase, layer, 0, quantity, float(value)))
    return rows


def write_measured(
    folder: Path, conditions: Mapping[str, Mapping[int, Mapping[int, Mapping[str, Mapping[str, float | None]]]]]
) -> Runs:
    """Write runs of active measurements alone: condition -> seed -> step -> phase -> quantity -> value."""
    paths: dict[str, list[Path]] = {}
    for condition, seeds in conditions.items():
        for seed, steps in seeds.items():
            path = folder / f"{condition.lower().replace(' ', '-')}-s{seed}"
            writer = RunWriter(path, _meta(Content(), condition, seed, "Tanh"))
            writer.add_scalars(
                [
                    ScalarRow(step, phase, None, 0, quantity, value)
                    for step, phases in steps.items()
                    for phase, values in phases.items()
                    for quantity, value in values.items()
                ]
            )
            writer.close("completed")
            paths.setdefault(condition, []).append(path)
    return load(paths)
