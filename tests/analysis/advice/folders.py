"""Small sweeps of known content, written by the real writer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter

SD = 0.004
"""Standard deviation of what a run has of its own."""
STEPS = 120


def write_sweep(
    folder: Path,
    means: Mapping[float | str, float],
    seeds: Sequence[int] = range(5),
    *,
    phases: Sequence[str] = ("validation", "test"),
    training: str = "train",
    gap: float = 0.2,
    rise: float = 0.0,
    steps: Mapping[float | str, int] | None = None,
    diverged: Collection[tuple[float | str, int]] = (),
    evaluations: int = 12,
    layers: Sequence[str] = ("conv1", "conv2"),
) -> Path:
    """Write a run for each rate, or name, and seed: accuracy and loss, and a few numbers of layers."""
    rng = np.random.default_rng(7)
    of_seed = {seed: float(rng.normal(0.0, SD)) for seed in seeds}
    for rate, mean in means.items():
        for seed in seeds:
            length = (steps or {}).get(rate, STEPS)
            config: dict[str, Any] = {"seed": seed}
            config |= {"condition": rate} if isinstance(rate, str) else {"condition": f"rate={rate}", "rate": rate}
            writer = RunWriter(
                folder / f"{config['condition']}-s{seed}".replace("=", "-"), _meta(config, layers, rate, length)
            )
            last = mean + of_seed[seed] + float(rng.normal(0.0, SD))
            apart = gap + float(rng.normal(0.0, SD))
            rows = _training(training, length, 1.0 - last - apart, (rate, seed) in diverged)
            for i in range(1, evaluations + 1):
                at, late = i * length // evaluations, i / evaluations
                value = last + rise * (late - 1.0) * 3.0 - 0.3 * np.exp(-10.0 * late)
                for phase in phases:
                    lower = 0.01 if phase == "test" else 0.0
                    rows += [ScalarRow(at, phase, None, 0, "accuracy", float(value - lower)),
                             ScalarRow(at, phase, None, 0, "loss", float(1.0 - value))]  # fmt: skip
            rows += _of_layers(rate, layers, length, phases, rng)
            writer.add_scalars(rows)
            writer.close("completed")
    return folder


def _training(phase: str, length: int, loss: float, diverged: bool) -> list[ScalarRow]:
    at = range(10, length + 1, 10) if phase == "train" else [length]
    return [ScalarRow(step, phase, None, 0, "loss", float("nan") if diverged else loss) for step in at]


def _of_layers(
    rate: float | str, layers: Sequence[str], length: int, phases: Sequence[str], rng: np.random.Generator
) -> list[ScalarRow]:
    p, rows = 0.0 if isinstance(rate, str) else rate, []
    for i, layer in enumerate(layers):
        for step in range(10, length + 1, 10):
            flow = 1e-3 * (1.0 + p * (i + 1)) * rng.lognormal(0.0, 0.02)
            rows.append(ScalarRow(step, "train", f"{layer}.relu", 0, "net_grad_abs_mean", float(flow)))
        for name, value in (
            ("saturation_share_left", 0.4 + 0.1 * i),
            ("saturation_share_right", 0.0),
            ("dead_share", p * i),
        ):
            rows += [ScalarRow(length, phase, f"{layer}.relu", 0, name, value) for phase in phases[:1]]
        if p:
            rows.append(ScalarRow(length, "train", f"{layer}.drop", 0, "dropout_noise_to_signal", p / (1.0 - p)))
            rows.append(ScalarRow(length, "ensemble", f"{layer}.drop", 0, "regulariser", p * 0.1 * (i + 1)))
    return rows


def _meta(config: dict[str, Any], layers: Sequence[str], rate: float | str, length: int) -> dict[str, Any]:
    sites: list[dict[str, Any]] = []
    for layer in layers:
        p = 0.0 if isinstance(rate, str) else rate
        kinds = (("relu", "activation", "ReLU", {"activation": "ReLU"}), ("drop", "dropout", "Dropout", {"rate": p}))
        sites += [
            {"layer": f"{layer}.{name}", "call": 0, "kind": kind, "type": type_, "activation": None, "shape": None}
            | more
            for name, kind, type_, more in kinds
        ]
    area = {"ReLU": {"sup": 1.0, "eps": 0.1, "left": [[None, 0.0]], "right": []}}
    order = [[[site["layer"], 0]] for site in sites]
    return {
        "config": config, "versions": {}, "layers": sites, "order": order, "activations": area, "steps": length,
        "finite_shares": True,
    }  # fmt: skip
