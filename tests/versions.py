"""One small network as a run of schema 1 and as one of schema 2 record it: the same numbers under other names."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.synthetic import AREAS, DERIVATIVES

WEIGHTS = ("c1", "c2", "fc1")
CALLED = "(model):relu"
STEPS = 20
Group = Sequence[tuple[str, int]]


def flow(place: int, step: int, level: float = 1.0) -> float:
    """Gradient flow that is recorded of the place-th layer."""
    return level * (place + 1) / step


def share(place: int, level: float = 1.0) -> float:
    """Saturation share of the place-th layer: higher layers have more, with a level above 1 more so."""
    return 0.1 * (place + 1) * level


def write_run(
    path: Path,
    *,
    schema: int = 2,
    condition: str = "A",
    seed: int = 0,
    level: float = 1.0,
    order: Sequence[Group] | None = None,
    declared: Sequence[str] = WEIGHTS,
    rows: Sequence[Mapping[str, Any]] = (),
    scalars: Sequence[ScalarRow] = (),
) -> Path:
    """Write a run: weights, gradient flow and saturation of ``c1``, ``c2`` and ``fc1`` in that order of execution.

    Parameters
    ----------
    schema : {1, 2}
        1: a ReLU is a call of ``(model):relu``, and no order is recorded. 2: it is ``c1:relu``, and so on.
    order : sequence of groups, optional
        Of schema 2, what is recorded in place of the order in which they come.
    declared : sequence of str
        Order of the weights in the list of layers.
    rows : sequence of mapping
        Further rows of that list.
    scalars : sequence of ScalarRow
        Further scalars.
    """
    meta: dict[str, Any] = {
        "config": {"condition": condition, "seed": seed}, "versions": {}, "steps": STEPS, "activations":
        {"ReLU": {"sup": 1.0, "eps": 0.1, **AREAS["ReLU"]}}, "layers": [*_layers(schema, declared), *rows],
    }  # fmt: skip
    if schema > 1:
        meta["order"] = (
            order if order is not None else [[site] for name in WEIGHTS for site in (site_of(name), act_of(name))]
        )
    writer = RunWriter(path, meta)
    rng = np.random.default_rng(seed)
    for place, name in enumerate(WEIGHTS):
        site = (CALLED, place) if schema == 1 else (f"{name}:relu", 0)
        _record(writer, name, site, place, level * (1.0 + 0.01 * rng.normal()), rng)
    writer.add_scalars(list(scalars))
    writer.add_derivatives({"ReLU": DERIVATIVES["ReLU"](line_centres())})
    coverage = [{"layer": CALLED, "call": place, "kind": "activation", "type": "Net", "functional": True, "expected": True,
                 "fired": STEPS, "sampled": None, "skipped": None} for place in range(3)]  # fmt: skip
    writer.save_meta(coverage=coverage if schema == 1 else [])
    writer.close("completed")
    told = json.loads((path / "run.json").read_text())
    write_meta((path / "run.json"), {**told, "schema": schema})
    return path


def site_of(name: str) -> tuple[str, int]:
    """Site of a weight."""
    return name, 0


def act_of(name: str) -> tuple[str, int]:
    """Site of the activation that follows."""
    return f"{name}:relu", 0


def _layers(schema: int, declared: Sequence[str]) -> list[dict[str, Any]]:
    weights = [_row(name, "weight") for name in declared]
    if schema == 1:
        return [*weights, _row(CALLED, "activation")]
    return [*weights, *(
        {**_row(f"{name}:relu", "activation"), "formerly": [[CALLED, WEIGHTS.index(name)]]} for name in declared
    )]  # fmt: skip


def _row(layer: str, kind: str) -> dict[str, Any]:
    activation = "ReLU" if kind == "activation" else None
    return {"layer": layer, "call": 0, "kind": kind, "type": "Net", "activation": activation, "shape": [4, 4] if
            kind == "weight" else None, "functional": kind == "activation", "aliases": [], "skipped": None}  # fmt: skip


def _record(
    writer: RunWriter, weight: str, site: tuple[str, int], place: int, level: float, rng: np.random.Generator
) -> None:
    found = {
        (weight, 0, "weight", "train"): rng.normal(0, 0.1, 400),
        (*site, "net_value", "eval"): rng.normal(place, 1, 400),
    }
    for (layer, call, quantity, phase), values in found.items():
        histogram = Histogram.from_values(values.astype(np.float32))
        writer.add_histograms([HistogramRow(STEPS, phase, layer, call, quantity, histogram.bins, histogram.counts)])
    rows = [
        ScalarRow(step, "train", *site, "net_grad_abs_mean", flow(place, step, level)) for step in range(1, STEPS + 1)
    ]
    rows += [ScalarRow(STEPS, "eval", *site, f"saturation_share_{side}", value)
             for side, value in (("left", share(place, level)), ("right", 0.0))]  # fmt: skip
    writer.add_scalars(rows)


DROPOUTS = ("c1:dropout", "fc1.drop")
ORDER = ("c1", "c1:relu", "c1:dropout", "c2", "c2:relu", "fc1", "fc1:relu", "fc1.drop")


def dropped(place: int, seed: int, step: int) -> float:
    """Dropped share that is recorded of the place-th dropout."""
    return 0.3 + 0.01 * place + 0.002 * seed + 0.0001 * step


def noise(place: int, seed: int, step: int) -> float:
    """Noise-to-signal ratio that is recorded of the place-th dropout."""
    return (1.0 + place) * (1.0 + 0.05 * seed) / step


def drop_run(
    path: Path, seed: int = 0, condition: str = "Dropout", rate: Callable[[int], float] = lambda _: 0.3
) -> Path:
    """Write a run of schema 2 with two dropouts, of a rate at each step."""
    rows = [
        {"layer": site, "call": 0, "kind": "dropout", "type": "Dropout", "activation": None, "shape": None,
         "functional": ":" in site, "aliases": [], "skipped": None, "rate": rate(1), "grain": "element",
         "applied_to": "c1:relu", "feeds": "c2" if ":" in site else None}
        for site in DROPOUTS
    ]  # fmt: skip
    scalars = [
        ScalarRow(step, "train", site, 0, quantity, value)
        for step in range(1, STEPS + 1)
        for place, site in enumerate(DROPOUTS)
        for quantity, value in (
            ("dropout_rate", rate(step)), ("dropped_share", dropped(place, seed, step)),
            ("dropout_noise_to_signal", noise(place, seed, step)),
        )
    ]  # fmt: skip
    order = [[(name, 0)] for name in ORDER]
    return write_run(path, condition=condition, seed=seed, rows=rows, scalars=scalars, order=order)


def schedule(step: int) -> float:
    """Return an early dropout's rate: from 0.4 down to 0 at step 10."""
    return 0.4 * max(0.0, 1 - step / 10)
