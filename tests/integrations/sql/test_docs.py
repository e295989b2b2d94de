"""Every query of docs/sql.md is run as it stands, and gives what dropdiag's own analysis gives."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import gradient_flow, saturation
from dropdiag.analysis.seeds import over_seeds
from dropdiag.analysis.select import GROUP, histograms, pooled
from dropdiag.histograms.grid import line_centres
from dropdiag.store.reader import load
from tests.ranks import add, close, histogram, scalar, writer
from tests.synthetic import AREAS, DERIVATIVES, content, write

DOCS = Path(__file__).parents[3] / "docs" / "sql.md"
EXACT = {"rtol": 1e-12, "atol": 0}


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def of_ranks(path, seed, rng):
    """Two ranks that got batches of unlike sizes."""
    layers = [{"layer": "act", "call": 0, "kind": "activation", "type": "Tanh", "activation": "Tanh", "skipped": None}]
    known = {"Tanh": {"sup": 1.0, "eps": 0.1, **AREAS["Tanh"]}}
    for rank, size in enumerate((30, 500)):
        one = writer(path, rank, 2, layers=layers, activations=known, id=f"run {seed}",
                     config={"condition": "Two ranks", "seed": seed})  # fmt: skip
        one.add_derivatives({"Tanh": DERIVATIVES["Tanh"](line_centres())})
        values = np.concatenate([rng.normal(rank, 2, size), [0.0, -0.0, np.nan, np.inf, -np.inf]])
        flow = [1e-3 * (1 + 9 * rank) * rng.uniform(), np.nan, np.inf]
        add(one, histogram(4, "net_value", values, phase="eval"), histogram(2, "net_value", values * 9, phase="eval"),
            [scalar(step + 1, "net_grad_abs_mean", value, float(size)) for step, value in enumerate(flow)],
            [scalar(4, "net_grad_abs_mean", *((0.5, 3.0) if rank else (None, 0.0)))],
            [scalar(5, "net_grad_abs_mean", 0.5 if rank else None, 3.0 if rank else None)])  # fmt: skip
        close(one, 5)


@pytest.fixture
def runs(tmp_path, rng):
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            made = content(condition, seed, layers=2, steps=12, size=300)
            made.net_value["layer1.activation"][:9] = [0, -0.0, np.inf, -np.inf, np.nan, 1e-42, 3e38, -3e38, 0]
            write(tmp_path / "runs" / f"{condition}-s{seed}", made, condition, seed)
    for seed in (0, 1):
        of_ranks(tmp_path / "runs" / f"ranks-s{seed}", seed, rng)
    return load(tmp_path / "runs")


@pytest.fixture
def expected(runs):
    """What the analysis says of the shares, densities and flow, sorted by condition and site."""
    shares = over_seeds(saturation.share(runs, phase="eval"), GROUP, ["share"])
    flow = gradient_flow.table(runs, baseline="No dropout")
    return {"shares": shares, "density": density(runs), "flow": flow}


def density(runs):
    """A row a bin, with the density as `Histogram.density` has it between the bin's own bounds."""
    rows = []
    for row in pooled(histograms(runs, "net_value", phase="eval")).to_dict("records"):
        low, high, _ = row["histogram"].bounds()
        for one, other in zip(low, high, strict=True):
            # without the zeros, which `Histogram.density` gives to the bar that begins at 0
            value = row["histogram"].density([one, other])[0] if one < other else np.nan
            rows.append((*(row[name] for name in GROUP), one, other, value))
    return pd.DataFrame(rows, columns=[*GROUP, "low", "high", "density"])


def check(found, expected, keys, values):
    found, expected = (frame.sort_values(keys).reset_index(drop=True) for frame in (found, expected))
    assert len(found) == len(expected) > 0
    for name in keys:
        assert found[name].tolist() == expected[name].tolist()
    for name in values:
        np.testing.assert_allclose(found[name].astype(float), expected[name].astype(float), **EXACT)


VALUES = {"shares": ["share", "share_sd", "seeds"], "density": ["density"], "flow": ["mean", "mean_sd", "seeds"]}
KEYS = {"shares": GROUP, "density": [*GROUP, "low", "high"], "flow": GROUP}


def test_queries_for_duckdb(runs, expected, open_views):
    connection = open_views(list(runs))
    queries = blocks("sql")
    for query, name in zip(queries, ["shares", "density", "flow", "flow"], strict=True):
        check(connection.sql(query).df(), expected[name], KEYS[name], VALUES[name])


def test_queries_for_polars(runs, expected, open_views, tmp_path, monkeypatch):
    pytest.importorskip("polars")
    open_views(list(runs))
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    names = {}
    exec(code, names)  # noqa: S102 - the documentation's own code
    for name, values in VALUES.items():
        found = pd.DataFrame(names[name].to_dict(as_series=False))
        check(found, expected[name], KEYS[name], values)


def test_shares_at_every_step_and_of_either_side(runs, open_views):
    connection = open_views(list(runs))
    found = connection.sql("FROM saturation_shares").df().rename(
        columns={"left_share": "left", "right_share": "right", "n_finite": "n"})  # fmt: skip
    expected = saturation.share(runs, step="all", phase="eval")
    keys = ["run", "step", "layer", "call", "activation"]
    check(found, expected, keys, ["left", "right", "share", "n", "dropped"])


def test_recorded_shares_are_those_of_the_table_where_all_values_are_finite(runs, open_views):
    found = (
        open_views(list(runs))
        .sql("""
        SELECT condition, layer, call, avg(value) AS "left" FROM scalars
        WHERE quantity = 'saturation_share_left' AND layer = 'layer2.activation' GROUP BY ALL
    """)
        .df()
    )
    check(found, saturation.table(runs, layers=["layer2.activation"]), GROUP, ["left"])
