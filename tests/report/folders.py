"""Run folders for the page's tests: a transformer of many layers, and a run that is still being written."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter
from tests.synthetic import AREAS, BORDER, DERIVATIVES, EFFECT


def transformer(folder: Path, *, layers: int = 50, steps: int = 100, seeds: int = 2, size: int = 600) -> Runs:
    """Write runs of three conditions with weights, net values and gradients of every layer at every step."""
    paths: dict[str, list[Path]] = {}
    for condition in EFFECT:
        for seed in range(seeds):
            path = folder / f"{condition.lower().replace(' ', '-')}-s{seed}"
            paths.setdefault(condition, []).append(path)
            writer = RunWriter(path, meta(condition, seed, layers))
            record(writer, condition, seed, layers, range(1, steps + 1), size)
            writer.close("completed")
    return load(paths)


def meta(condition: str, seed: int, layers: int) -> dict[str, object]:
    """What ``run.json`` says."""
    sites = []
    for i in range(layers):
        base = {
            "layer": f"encoder.layers.{i}.mlp.fc",
            "call": 0,
            "kind": "weight",
            "type": "Linear",
            "activation": None,
            "shape": [8, 8],
        }
        act = {
            "layer": f"encoder.layers.{i}.mlp.act",
            "call": 0,
            "kind": "activation",
            "type": "Tanh",
            "activation": "Tanh",
            "shape": [],
        }
        sites += [base, act]
    known = {"Tanh": {"sup": 1.0, "eps": 0.1, **AREAS["Tanh"]}}
    return {"config": {"condition": condition, "seed": seed}, "versions": {}, "layers": sites, "activations": known}


def record(writer: RunWriter, condition: str, seed: int, layers: int, steps: range, size: int = 600) -> None:
    """Write some steps."""
    rng, effect = np.random.default_rng([seed, len(condition), steps.start]), EFFECT[condition]
    if steps.start == 1:
        writer.add_derivatives({"Tanh": DERIVATIVES["Tanh"](line_centres())})
    for step in steps:
        rows, scalars = [], [ScalarRow(step, "train", None, 0, "loss", 2.0 / (1 + step) + 0.1 * effect)]
        for i in range(layers):
            w = rng.normal(0, 0.03 + 0.0004 * step * effect, size).astype(np.float32)
            z = (rng.normal(0, 0.7 + 0.01 * step * (1 + effect), size) + 0.01 * i).astype(np.float32)
            rows.append(_row(step, f"encoder.layers.{i}.mlp.fc", "weight", w))
            act = f"encoder.layers.{i}.mlp.act"
            rows.append(_row(step, act, "net_value", z))
            scalars.append(
                ScalarRow(
                    step,
                    "train",
                    act,
                    0,
                    "net_grad_abs_mean",
                    float(2e-4 * (1 + 3 * effect) / (1 + 0.03 * i + 0.02 * step) * rng.lognormal(0, 0.2)),
                )
            )
            scalars.append(ScalarRow(step, "train", act, 0, "saturation_share_left", float((z <= -BORDER).mean())))
            scalars.append(ScalarRow(step, "train", act, 0, "saturation_share_right", float((z >= BORDER).mean())))
        writer.add_histograms(rows)
        writer.add_scalars(scalars)


def _row(step: int, layer: str, quantity: str, values: np.ndarray) -> HistogramRow:
    histogram = Histogram.from_values(values)
    return HistogramRow(step, "train", layer, 0, quantity, histogram.bins, histogram.counts)


def own(folder: Path) -> Runs:
    """Write two conditions with two seeds of quantities that a user's own probe declares, and no others of layers."""
    told = {
        "curvature": {
            "kind": "scalar",
            "unit": "1/net-value unit",
            "label": r"curvature of $\phi$",
            "scale": "log ratio",
        },
        "own values": {"kind": "histogram", "unit": "1", "label": "value $|v|$", "scale": "distance"},
    }
    sites = [{"layer": f"fc{i}", "call": 0, "kind": "weight", "type": "Linear", "activation": None, "shape": [8, 8]}
             for i in (1, 2)]  # fmt: skip
    paths: dict[str, list[Path]] = {}
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            path = folder / f"{condition}-s{seed}"
            paths.setdefault(condition, []).append(path)
            config = {"condition": condition, "seed": seed}
            head = {"config": config, "versions": {}, "layers": sites, "activations": {}, "quantities": told}
            writer = RunWriter(path, head)
            rng = np.random.default_rng([seed, len(condition)])
            for step in range(1, 6):
                writer.add_scalars([ScalarRow(step, "train", None, 0, "loss", 1.0 / step)])
                writer.add_scalars(
                    [ScalarRow(step, "train", f"fc{i}", 0, "curvature", float(rng.lognormal())) for i in (1, 2)]
                )
                if step in (1, 5):
                    writer.add_histograms(
                        [_row(step, f"fc{i}", "own values", np.abs(rng.normal(size=50))) for i in (1, 2)]
                    )
            writer.close("completed")
    return load(paths)
