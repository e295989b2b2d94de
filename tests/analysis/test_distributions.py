from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gaussian_kde, kurtosis

from dropdiag.analysis import kde, weights
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from tests.synthetic import content, write

LAYER = "layer1.linear"


def one(frame, **where):
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame


def test_curves_pool_the_seeds(runs) -> None:
    frame = kde.curves(runs, "weight", bandwidth="scott")
    assert list(frame["condition"].unique()) == ["No dropout", "Dropout", "GAAF"]
    part = one(frame, condition="Dropout", layer=LAYER)
    raw = np.concatenate([content("Dropout", seed).weight[LAYER] for seed in range(3)]).astype(np.float64)
    expected = gaussian_kde(raw)(part["x"])
    assert np.abs(part["density"] - expected).max() < 0.01 * expected.max()
    assert (part["n"].iloc[0], part["runs"].iloc[0], part["dropped"].iloc[0]) == (12_000, 3, 0)


def test_curves_of_a_layer_share_their_x_and_may_be_per_seed(runs) -> None:
    frame = kde.curves(runs, "weight", per_seed=True, points=50)
    x = frame[frame["layer"] == LAYER].groupby(["condition", "seed"])["x"].apply(tuple)
    assert len(x) == 9
    assert x.nunique() == 1


def test_bars_agree_with_numpy(runs) -> None:
    frame = kde.bars(runs, "net_value", bins=20, limits=(-8.0, 8.0))
    part = one(frame, condition="GAAF", layer="layer3.activation")
    raw = np.concatenate([content("GAAF", seed).net_value["layer3.activation"] for seed in range(3)])
    expected, _ = np.histogram(raw, np.linspace(-8, 8, 21))
    np.testing.assert_allclose(part["density"] * 0.8 * raw.size, expected, atol=30)
    assert (part["density"] * 0.8).sum() == pytest.approx(1.0, abs=2e-3)


def test_values_that_are_not_finite_are_counted_not_drawn(tmp_path) -> None:
    made = content("Dropout", 0)
    made.weight[LAYER][:100] = np.nan
    made.weight["layer2.linear"][:] = np.inf
    run = load(write(tmp_path / "r", made, "Dropout", 0))
    frame = kde.curves(run, "weight")
    assert one(frame, layer=LAYER)["dropped"].iloc[0] == 100
    assert "layer2.linear" not in set(frame["layer"])
    table = weights.table(run).set_index("layer")
    assert table.loc["layer2.linear", "missing"] == 1
    assert np.isnan(table.loc["layer2.linear", "sd"])
    with pytest.raises(ArgumentError, match="no finite value in any of the 1 histograms"):
        kde.curves(run, "weight", layers=["layer2.linear"])


def test_limits_of_nothing_and_of_one_value() -> None:
    assert kde.common_limits([Histogram.from_values([])]) == (-1.0, 1.0)
    low, high = kde.common_limits([Histogram.from_values([0.0, 0.0])])
    assert low < 0 < high
    assert kde.common_limits([Histogram.from_values([-0.99, 0.99])], (-1.0, 1.0)) == (-1.0, 1.0)


def test_weights_table_is_per_run_then_over_runs(runs) -> None:
    table = weights.table(runs)
    row = one(table, condition="Dropout", layer=LAYER).iloc[0]
    raw = [content("Dropout", seed).weight[LAYER].astype(np.float64) for seed in range(3)]
    assert row["sd"] == pytest.approx(np.mean([v.std() for v in raw]), rel=2e-3)
    assert row["sd_sd"] == pytest.approx(np.std([v.std() for v in raw], ddof=1), rel=0.05)
    assert row["excess_kurtosis"] == pytest.approx(np.mean([kurtosis(v) for v in raw]), abs=0.01)
    assert (row["weights"], row["seeds"], row["missing"]) == (4000, 3, 0)


def test_all_runs_of_a_layer_have_their_peaks_from_one_bandwidth(runs) -> None:
    raw = {(c, s): content(c, s).weight[LAYER].astype(np.float64) for c in runs.conditions for s in range(3)}
    # as many values as one run has stand behind the rule, which is asked of all runs together
    together = Histogram.from_values(np.concatenate(list(raw.values())))
    h = together.kde("isj", independent=1 / len(raw)).bandwidth
    for name, part in weights.table(runs).query("layer == @LAYER").groupby("condition"):
        x = np.linspace(-0.2, 0.2, 2001)
        peaks = [gaussian_kde(raw[name, s], h / raw[name, s].std(ddof=1))(x).max() for s in range(3)]
        assert part["peak_density"].item() == pytest.approx(np.mean(peaks), rel=2e-3)
        assert part["peak_density_sd"].item() == pytest.approx(np.std(peaks, ddof=1), rel=0.05)
    # smoothed each in its own way, runs of one condition have peaks that lie farther apart
    apart = [Histogram.from_values(raw["Dropout", s]).peak_density() for s in range(3)]
    assert weights.table(runs).query("layer == @LAYER and condition == 'Dropout'")["peak_density_sd"].item() != (
        pytest.approx(np.std(apart, ddof=1), rel=1e-3)
    )


def test_a_peak_of_equal_weights_is_missing_and_leaves_the_others() -> None:
    bell = np.random.default_rng(0).normal(size=2000)
    found = weights.peaks([Histogram.from_values(v) for v in (np.full(9, 0.5), bell, np.zeros(9))])
    assert np.isnan(found[0])
    assert np.isnan(found[2])
    assert found[1] == pytest.approx(1 / np.sqrt(2 * np.pi), rel=0.07)
