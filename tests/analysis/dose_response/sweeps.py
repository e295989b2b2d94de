"""Runs of a sweep over the rate, by the real writer: what they measured is known in closed form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.store.reader import Runs, load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter

STEPS = 20
Number = Callable[[float, int], float]


def accuracy(rate: float, seed: int) -> float:
    """Best at 0.3, with a part that the seed has at all rates."""
    return 0.9 - 0.4 * (rate - 0.3) ** 2 + 0.01 * seed + 0.002 * np.sin(37 * seed + 100 * rate)


def flow(rate: float, seed: int) -> float:
    """A factor of e a unit of the rate, and more or less of that by the seed."""
    return float(1e-3 * np.exp((1.0 + 0.05 * seed) * rate + 0.1 * seed))


def net_variance(rate: float, seed: int) -> float:
    return float(rate / (1.0 - rate) * (1.0 + 0.02 * np.sin(seed + 5.0 * rate)))


def sweep(
    folder: Path,
    rates: Sequence[float] = (0.0, 0.1, 0.3, 0.5),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    *,
    x: str = "rate",
    layers: int = 3,
    phases: Sequence[str] = ("eval",),
    score: Number = accuracy,
    held: Callable[[float, int, str], dict[str, float]] | None = None,
    gone: Sequence[tuple[float, int]] = (),
    names: Sequence[str] = (),
) -> Runs:
    """Write and load ``rate-R-sS`` of all rates and seeds, without those that are gone.

    ``held`` gives the held-out scalars of a rate, seed and phase, in place of the accuracy.
    """
    paths = []
    for rate in rates:
        for seed in seeds:
            if (rate, seed) in gone:
                continue
            paths.append(folder / f"{x}-{rate:g}-s{seed}")
            told = {"condition": f"{x}={rate:g}", "seed": seed, x: rate}
            known = [names[i] if names else f"layer{i + 1}.activation" for i in range(layers)]
            writer = RunWriter(paths[-1], _meta(told, known))
            writer.add_scalars(_rows(rate, seed, known, phases, held or (lambda r, s, _: {"accuracy": score(r, s)})))
            writer.close("completed")
    return load(paths)


def _meta(config: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    sites = [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "activation": "Tanh", "shape": [8]}
             for name in names]  # fmt: skip
    order = [[[name, 0]] for name in names]
    return {"config": config, "versions": {}, "steps": STEPS, "layers": sites, "order": order, "activations": {}}


def _rows(
    rate: float, seed: int, names: Sequence[str], phases: Sequence[str], held: Callable[..., dict[str, float]]
) -> list[ScalarRow]:
    rows = []
    for place, name in enumerate(names):
        value = flow(rate, seed) * (1 + place)
        rows += [ScalarRow(step, "train", name, 0, "net_grad_abs_mean", value) for step in range(1, STEPS + 1)]
        rows.append(ScalarRow(STEPS, "masks", name, 0, "net_variance_mean", net_variance(rate, seed) * (1 + place)))
    for phase in phases:
        for quantity, value in held(rate, seed, phase).items():
            rows += [ScalarRow(step, phase, None, 0, quantity, value * step / STEPS) for step in (STEPS // 2, STEPS)]
    return rows
