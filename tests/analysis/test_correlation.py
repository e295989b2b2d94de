from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad, trapezoid

from dropdiag.analysis import correlation, select
from dropdiag.store.reader import load
from tests.synthetic import SAMPLES, content, write

LAYER = "layer2.activation"


def null_density(r: np.ndarray, n: int) -> np.ndarray:
    """Density of r of two independent normal nodes: (r + 1) / 2 has a symmetric beta distribution."""
    return stats.beta(n / 2 - 1, n / 2 - 1, loc=-1, scale=2).pdf(r)


def permuted(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """r of every pair of columns, each column shuffled on its own."""
    r = np.corrcoef(rng.permuted(values, axis=0), rowvar=False)
    return r[np.triu_indices_from(r, 1)]


@pytest.mark.parametrize("n", [8, 40])
@pytest.mark.parametrize("kind", ["normal", "skewed", "dependent"])
def test_null_is_what_permuting_the_columns_gives(kind: str, n: int) -> None:
    rng = np.random.default_rng(11)
    values = rng.normal(size=(n, 40))
    if kind == "skewed":
        values = rng.exponential(size=(n, 40)) ** 2
    if kind == "dependent":  # which the permutation undoes
        values = values[:, :1] + 0.1 * values
        assert np.corrcoef(values, rowvar=False).min() > 0.9
    r = np.concatenate([permuted(values, rng) for _ in range(60)])
    error = correlation.null_sd(n) / np.sqrt(r.size)
    assert abs(r.mean()) < 10 * error  # pairs share columns, so more than 4
    assert r.std() == pytest.approx(correlation.null_sd(n), rel=0.03)
    if kind == "normal":
        assert np.abs(r).mean() == pytest.approx(correlation.null_mean_abs(n), rel=0.02)
        assert (np.abs(r) <= correlation.null_limit(n)).mean() == pytest.approx(0.95, abs=0.006)
        edges = np.linspace(-1, 1, 9)
        shares = [quad(null_density, a, b, args=(n,))[0] for a, b in pairwise(edges)]
        np.testing.assert_allclose(np.histogram(r, edges)[0] / r.size, shares, atol=0.006)


@pytest.mark.parametrize("n", [5, 50, 2000])
def test_the_nulls_are_moments_and_quantiles_of_the_density_under_independence(n: int) -> None:
    at = [0.0] if n > 10 else None
    assert quad(null_density, -1, 1, args=(n,), points=at)[0] == pytest.approx(1.0, rel=1e-6)
    second = quad(lambda r: r * r * null_density(r, n), -1, 1, points=at)[0]
    assert np.sqrt(second) == pytest.approx(correlation.null_sd(n), rel=1e-5)
    first = 2 * quad(lambda r: r * null_density(r, n), 0, 1, points=[0.1])[0]
    assert first == pytest.approx(correlation.null_mean_abs(n), rel=1e-5)
    limit = correlation.null_limit(n)
    assert quad(null_density, -limit, limit, args=(n,), points=at)[0] == pytest.approx(0.95, rel=1e-5)


def test_null_for_many_samples_is_the_known_approximation() -> None:
    assert correlation.null_mean_abs(10_000) == pytest.approx(np.sqrt(2 / (np.pi * 10_000)), rel=1e-3)
    assert np.isnan([correlation.null_sd(1), correlation.null_mean_abs(2), correlation.null_limit(np.nan)]).all()


def test_table(runs) -> None:
    table = correlation.table(runs)
    row = table[(table["condition"] == "Dropout") & (table["layer"] == LAYER)].iloc[0]
    raw = [content("Dropout", seed).node_correlation[LAYER].astype(np.float64) for seed in range(3)]
    assert row["mean_abs_r"] == pytest.approx(np.mean([np.abs(r).mean() for r in raw]), rel=1e-3)
    assert row["sd_r"] == pytest.approx(np.mean([r.std() for r in raw]), rel=1e-3)
    assert (row["pairs"], row["nodes"], row["constant_nodes"], row["samples"]) == (4000, 90, 2, SAMPLES)
    assert row["null_sd_r"] == pytest.approx(1 / np.sqrt(SAMPLES - 1))
    assert row["seeds"] == 3


def test_curves_stay_on_the_unit_interval(runs) -> None:
    frame = correlation.curves(runs)
    assert (frame["x"].min(), frame["x"].max()) == (-1.0, 1.0)
    for _, part in frame.groupby(["condition", "layer"]):
        assert trapezoid(part["density"], part["x"]) == pytest.approx(1.0, abs=1e-3)


def test_the_table_of_runs_without_counts_says_nothing_of_them(tmp_path) -> None:
    made = content("Dropout", 0)
    run = load(write(tmp_path / "r", made, "Dropout", 0, correlated=7))  # the counts are those of step 200
    table = correlation.table(run)
    assert table[["nodes", "constant_nodes", "samples", "null_sd_r"]].isna().all(axis=None)
    assert (table["pairs"] == 4000).all()
    frame = select.histograms(run, "node_correlation").assign(run="another")
    assert correlation.table_of(run, frame)["samples"].isna().all()
