"""Run folders of several ranks, written by the real writer: what each rank would record of its share of some tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dropdiag.histograms.histogram import Histogram
from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow
from dropdiag.store.writer import RunWriter

LAYERS = [{"layer": "fc", "call": 0, "kind": "weight", "type": "Linear", "skipped": None},
          {"layer": "act", "call": 0, "kind": "activation", "type": "Tanh", "skipped": None}]  # fmt: skip
ID = "f" * 32


def writer(
    path: Path, rank: int, world: int, *, session: str = "first", resume: int | None = None, **ranks: Any
) -> RunWriter:
    """Open the writer of one rank; ``ranks`` are entries of its ``ranks``, or its ``layers``, ``order``, ..."""
    keys = (
        *("layers", "order", "chain", "coverage", "id", "warnings", "disabled_probes", "activations", "config"),
        *("cost", "missing"),
    )
    told = {key: ranks.pop(key) for key in keys if key in ranks}
    meta = {
        "config": {"condition": "Dropout", "seed": 1}, "steps": resume or 0, "versions": {}, "probes": [],
        "layers": LAYERS, "order": [[["act", 0]]], "activations": {}, "disabled_probes": [], "warnings": [],
        "quantities": {}, "id": ID, **told,
        "ranks": {"rank": rank, "world_size": world, "training": told.get("id", ID), "recorded": "all", **ranks},
    }  # fmt: skip
    return RunWriter(
        path, meta, rank=rank, resume_from=resume, counts=True, session={"id": session, "world_size": world}
    )


def close(one: RunWriter, steps: int, state: str = "completed", **changes: Any) -> None:
    """End one rank's recording; "killed" leaves it as a kill does."""
    one.save_meta(steps=steps, **changes)
    one.flush()
    one.drain()
    if state == "killed":
        one.background.stop()
    else:
        one.close(state)


def scalar(
    step: int,
    quantity: str,
    value: float | None,
    count: float | None = None,
    layer: str | None = "act",
    phase: str = "train",
) -> ScalarRow:
    """Return a row of a scalar."""
    return ScalarRow(step, phase, layer, 0, quantity, value, count)


def histogram(step: int, quantity: str, values: Any, layer: str = "act", phase: str = "train") -> list[HistogramRow]:
    """Return the row of a histogram of values; none where there are none, as the Recorder writes none."""
    found = Histogram.from_values(np.asarray(values))
    return [HistogramRow(step, phase, layer, 0, quantity, found.bins, found.counts)] if found.n else []


def moments(values: Any) -> np.ndarray:
    """Return the state of moments, by numpy alone."""
    x = np.asarray(values, np.float64).ravel()
    d = x - x.mean()
    return np.array([x.mean(), (d**2).sum(), (d**3).sum(), (d**4).sum(), np.abs(x).mean(), x.min(), x.max()])


def moment_rows(
    step: int, of: str, values: Any, layer: str = "act", phase: str = "train"
) -> tuple[list[ScalarRow], list[StateRow]]:
    """Return what a rank writes of the moments of its values."""
    x = np.asarray(values, np.float64).ravel()
    names = ("mean", "sd", "excess_kurtosis", "abs_mean", "minimum", "maximum")
    if not x.size:
        return [scalar(step, f"{of}_{name}", np.nan, 0.0, layer, phase) for name in names], []
    m = moments(x)
    kurtosis = x.size * m[3] / m[1] ** 2 - 3 if m[1] else np.nan
    told = (m[0], 0.0 if m[5] == m[6] else np.sqrt(m[1] / x.size), kurtosis, m[4], m[5], m[6])
    rows = [
        scalar(step, f"{of}_{name}", value, float(x.size), layer, phase)
        for name, value in zip(names, told, strict=True)
    ]
    return rows, [StateRow(step, phase, layer, 0, f"{of}_moments", x.size, 1, m)]


def correlation_state(x: np.ndarray) -> np.ndarray:
    """Return the state of a covariance of samples x nodes."""
    d = x - x.mean(0)
    covariance = d.T @ d / len(x)
    return np.concatenate([x.mean(0), x.min(0), x.max(0), covariance[np.triu_indices(x.shape[1])]])


def pairs_of(x: np.ndarray) -> np.ndarray:
    """Return Pearson's r of every pair of the nodes of samples that are not constant."""
    x = x[:, x.min(0) != x.max(0)] if len(x) else x[:, :0]
    return np.corrcoef(x, rowvar=False)[np.triu_indices(x.shape[1], 1)] if x.shape[1] > 1 else np.empty(0)


def correlation_rows(
    step: int, x: np.ndarray, layer: str = "act", phase: str = "eval", *, items: float | None = 1.0, rank: bool = True
) -> tuple[list[ScalarRow], list[HistogramRow], list[StateRow]]:
    """Return what a rank writes of the correlation of nodes over its samples, shape (samples, nodes)."""
    n, width = x.shape
    r, constant = pairs_of(x), float((x.min(0) == x.max(0)).sum()) if n else 0.0
    told = {
        "node_correlation_abs_mean": (np.abs(r).mean() if len(r) else np.nan), "participation_ratio": 1.5,
        "node_correlation_samples": float(n), "node_correlation_items": items if n else 0.0,
        "node_correlation_nodes": width - constant, "node_correlation_width": float(width), "constant_nodes": constant,
        **({"effective_rank": 2.5} if rank else {}),
    }  # fmt: skip
    scalars = [scalar(step, name, value, float(n), layer, phase) for name, value in told.items()]
    states = [StateRow(step, phase, layer, 0, "node_correlation", n, width, correlation_state(x))] if n else []
    return scalars, histogram(step, "node_correlation", r, layer, phase), states


def noise_rows(
    step: int, x: np.ndarray, noise: np.ndarray, layer: str = "drop"
) -> tuple[list[ScalarRow], list[StateRow]]:
    """Return what a rank writes of the noise beside the signal of nodes, shape (samples, nodes) both."""
    if not len(x):
        return [scalar(step, "dropout_noise_to_signal", None, 0.0, layer)], []
    m2, total = ((x - x.mean(0)) ** 2).sum(0), noise.sum(0)
    value = (total[m2 != 0] / m2[m2 != 0]).mean() if (m2 != 0).any() else None
    state = StateRow(
        step, "train", layer, 0, "dropout_noise_to_signal", len(x), x.shape[1], np.concatenate([x.mean(0), m2, total])
    )
    return [scalar(step, "dropout_noise_to_signal", value, float(len(x)), layer)], [state]


def split(values: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Split samples over ranks."""
    return np.split(values, np.cumsum(sizes)[:-1])


def add(one: RunWriter, *rows: Sequence[Any]) -> None:
    """Add rows of any table."""
    for some in rows:
        one.add_scalars([row for row in some if isinstance(row, ScalarRow)])
        one.add_histograms([row for row in some if isinstance(row, HistogramRow)])
        one.add_states([row for row in some if isinstance(row, StateRow)])


def write(
    path: Path, of_ranks: Sequence[Sequence[Any]], *, steps: int = 1, told: Sequence[Mapping[str, Any]] | None = None
) -> Path:
    """Write a run: all rows of each rank; ``told`` is what each says of itself."""
    for rank, rows in enumerate(of_ranks):
        one = writer(path, rank, len(of_ranks), **dict(told[rank] if told else {}))
        add(one, rows)
        close(one, steps)
    return path
