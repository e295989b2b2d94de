"""Run folders of a given size for the reading benchmarks: a few written by the real writer, the others copies."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dropdiag.histograms.grid import line_centres
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.digests import sealed
from dropdiag.store.files import Target, write_segment
from dropdiag.store.folder import as_json
from dropdiag.store.rows import HistogramRow, ScalarRow
from dropdiag.store.segments import Segment, list_segments
from dropdiag.store.writer import RunWriter

BORDER = float(np.arctanh(np.sqrt(0.9)))  # tanh' = 0.1
AREA = {"sup": 1.0, "eps": 0.1, "left": [[None, -BORDER]], "right": [[BORDER, None]]}
SHARES = ("saturation_share_left", "saturation_share_right")


def make_runs(
    folder: Path, conditions: list[str], seeds: int, *, layers: int = 20, steps: int = 100, originals: int = 4
) -> None:
    """Make ``CONDITION-s0 ...`` in a folder: gradient flow, loss, saturation shares and histograms of each layer.

    The first ``originals`` of each condition are written; the others are copies of them under their own name and
    seed, with the files that a comparison does not read linked in place of copied.
    """
    for effect, condition in enumerate(conditions):
        for seed in range(seeds):
            path = folder / f"{condition.lower()}-s{seed}"
            if seed < originals:
                write_run(path, condition, seed, effect, layers, steps)
            else:
                copy_run(folder / f"{condition.lower()}-s{seed % originals}", path, seed)


def write_run(path: Path, condition: str, seed: int, effect: float, layers: int, steps: int) -> None:
    """Write one run as a Recorder would: a row group a flush, joined at the end."""
    rng = np.random.default_rng([seed, round(10 * effect)])
    writer = RunWriter(path, _meta(condition, seed, layers, steps))
    writer.add_derivatives({"Tanh": 1.0 - np.tanh(line_centres()) ** 2})
    for step in range(1, steps + 1):
        writer.add_scalars(list(_scalars(rng, step, layers, effect, evaluated=step % (steps // 5) == 0)))
        if step in (1, steps // 2, steps):
            writer.add_histograms(list(_histograms(rng, step, layers, effect)))
            writer.flush()
    writer.close("completed")


def copy_run(source: Path, target: Path, seed: int) -> None:
    """Copy a run under another name and seed, its scalars a little larger or smaller.

    Copies stand for runs of their own: with one identifier, or with the same numbers, they would count once.
    """
    (target / "rank-0").mkdir(parents=True)
    meta = json.loads((source / "run.json").read_text())
    meta["name"], meta["id"], meta["config"]["seed"] = target.name, uuid.uuid4().hex, seed
    del meta["sha256"]
    (target / "run.json").write_bytes(sealed(as_json(meta)))
    factor = float(np.exp(0.01 * np.random.default_rng(seed).normal()))
    for segment in list_segments(source / "rank-0"):
        if segment.table == "scalars":
            _scaled(segment, target / "rank-0", factor)
        else:
            os.link(segment.path, target / "rank-0" / segment.path.name)


def _scaled(segment: Segment, folder: Path, factor: float) -> None:
    """Write a file of scalars with other values: counts stay what they are."""
    table = pq.read_table(segment.path)
    counts = pc.match_substring(table["quantity"].cast("string"), "node_correlation_")
    values = pc.if_else(counts, table["value"], pc.multiply(table["value"], factor))
    place = table.schema.get_field_index("value")
    scaled = table.set_column(place, table.schema.field("value"), values)
    write_segment(Target(folder, segment.table, segment.first, segment.last, segment.session), [scaled])


def _meta(condition: str, seed: int, layers: int, steps: int) -> dict[str, Any]:
    sites: list[dict[str, Any]] = []
    for i in range(1, layers + 1):
        linear = {"layer": f"layer{i}.linear", "kind": "weight", "type": "Linear", "activation": None}
        phi = {"layer": f"layer{i}.activation", "kind": "activation", "type": "Tanh", "activation": "Tanh"}
        sites += [{**linear, "call": 0, "shape": [256, 256]}, {**phi, "call": 0, "shape": [256]}]
    config = {"condition": condition, "seed": seed, "lr": 1e-3, "batch_size": 128}
    told = {"versions": {}, "layers": sites, "activations": {"Tanh": AREA}, "finite_shares": True}
    return {"config": config, "steps": steps, **told}


def _scalars(
    rng: np.random.Generator, step: int, layers: int, effect: float, *, evaluated: bool
) -> Iterator[ScalarRow]:
    decay = np.exp(-step / 60.0) + 0.08
    yield ScalarRow(step, "train", None, 0, "loss", float(2.2 * decay * rng.lognormal(0, 0.1)))
    for i in range(1, layers + 1):
        flow = 2e-4 * (1 + effect) / i * decay * rng.lognormal(0, 0.25)
        yield ScalarRow(step, "train", f"layer{i}.activation", 0, "net_grad_abs_mean", float(flow))
    if not evaluated:
        return
    yield ScalarRow(step, "eval", None, 0, "accuracy", float(1.0 - 0.5 * decay))
    for i in range(1, layers + 1):
        layer = f"layer{i}.activation"
        for name in SHARES:
            yield ScalarRow(step, "eval", layer, 0, name, float(rng.uniform(0.1, 0.4)))
        for name, value in (("samples", 2000), ("nodes", 254)):
            yield ScalarRow(step, "eval", layer, 0, f"node_correlation_{name}", float(value))


def _histograms(rng: np.random.Generator, step: int, layers: int, effect: float) -> Iterator[HistogramRow]:
    for i in range(1, layers + 1):
        weights = rng.uniform(-0.08, 0.08, 20_000) + rng.normal(0, 0.02 + 0.01 * effect, 20_000)
        nets = rng.normal(0.2 + effect, 1.1, 20_000)
        correlations = np.tanh(rng.normal(0, 0.2 + 0.05 * effect, 20_000))
        yield _row(step, "train", f"layer{i}.linear", "weight", weights)
        yield _row(step, "eval", f"layer{i}.activation", "net_value", nets)
        yield _row(step, "eval", f"layer{i}.activation", "node_correlation", correlations)


def _row(step: int, phase: str, layer: str, quantity: str, values: np.ndarray) -> HistogramRow:
    histogram = Histogram.from_values(values)
    return HistogramRow(step, phase, layer, 0, quantity, histogram.bins, histogram.counts)
