from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import kde
from dropdiag.analysis.bandwidth import behind_pairs, of_panel, pooled_groups
from dropdiag.analysis.limits import of_panel as limits_of_panel
from dropdiag.analysis.limits import of_panels
from dropdiag.errors import ArgumentError
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from tests.synthetic import content, write


def groups(*values, layer: str = "l", quantity: str = "weight") -> pd.DataFrame:
    rows = [(f"c{i}", i, f"r{i}", layer, 0, Histogram.from_values(v)) for i, v in enumerate(values)]
    frame = pd.DataFrame(rows, columns=["condition", "seed", "run", "layer", "call", "histogram"])
    return pooled_groups(frame, quantity)


@pytest.mark.parametrize("rule", ["isj", "silverman", "scott"])
def test_conditions_of_a_layer_have_one_bandwidth(rule, rng) -> None:
    same = [rng.normal(size=300) for _ in range(4)]
    curves = kde.curves_of(groups(*same), bandwidth=rule)
    assert len(set(curves["bandwidth"])) == 1
    assert set(curves["rule"]) == {rule}
    alone = [Histogram.from_values(v).kde(rule).bandwidth for v in same]
    assert 0.7 * min(alone) < curves["bandwidth"].iloc[0] < 1.3 * max(alone)


def test_one_condition_alone_keeps_its_own_bandwidth(rng) -> None:
    values = rng.normal(size=500)
    for rule in ("isj", "silverman"):
        assert of_panel(groups(values), rule, (None, None)).width == pytest.approx(
            Histogram.from_values(values).kde(rule).bandwidth
        )
    assert of_panel(groups(values), 0.3, (None, None)) == (0.3, "given", False)


def test_a_rule_of_thumb_makes_the_sum_of_errors_least(rng) -> None:
    """The expected squared error of normal values is c h^4 / sd^5 + d / (n h): least where its derivative is 0."""
    sds, sizes = np.array([1.0, 3.0]), np.array([2000, 2000])
    h = of_panel(
        groups(*(rng.normal(0, sd, n) for sd, n in zip(sds, sizes, strict=True))), "silverman", (None, None)
    ).width
    widths = np.geomspace(0.05, 2.0, 4000)
    roughness = 3 / (8 * np.sqrt(np.pi) * sds**5)
    error = sum(w**4 / 4 for w in [widths]) * roughness.sum() + np.sum(1 / sizes) / (2 * np.sqrt(np.pi) * widths)
    assert h == pytest.approx(widths[error.argmin()], rel=0.05)


def test_a_narrow_condition_is_not_smoothed_away_by_a_wide_one(rng) -> None:
    narrow = rng.normal(0, 0.02, 4000)
    width = of_panel(groups(narrow, rng.normal(0, 1.0, 4000)), "isj", (None, None)).width
    assert width < 2.0 * Histogram.from_values(narrow).kde("isj").bandwidth


def test_nothing_but_zeros_or_nothing_at_all(rng) -> None:
    assert of_panel(groups(np.zeros(5), []), "isj", (None, None)).width == "isj"
    curves = kde.curves_of(groups(np.zeros(5), rng.normal(size=50)))
    assert curves.groupby("condition")["point_mass"].first().tolist() == [1.0, 0.0]
    with pytest.raises(ArgumentError, match="no finite value"):
        kde.curves_of(groups([np.nan]))


def test_pairs_count_for_fewer_values_than_there_are() -> None:
    for nodes in (2, 3, 30, 250):
        pairs = nodes * (nodes - 1) // 2
        assert behind_pairs(pairs) == pytest.approx(np.sqrt(nodes * pairs))
        assert behind_pairs(pairs) <= max(pairs, 2)
    assert behind_pairs(0) == pytest.approx(0.0)


def _correlations(rng, nodes: int, factors: int, samples: int = 400) -> np.ndarray:
    """Pairs of nodes that share factors, or of independent ones."""
    values = rng.normal(size=(samples, nodes))
    if factors:
        values += rng.normal(size=(samples, factors)) @ rng.normal(size=(factors, nodes))
    return np.corrcoef(values.T)[np.triu_indices(nodes, 1)].astype(np.float32)


@pytest.mark.parametrize(("nodes", "factors", "worst"), [(90, 0, 2.6), (90, 1, 1.6), (30, 1, 1.8)])
def test_the_bandwidth_of_pairs_is_near_the_best_one(nodes: int, factors: int, worst: float) -> None:
    rng = np.random.default_rng(11)
    x, support = np.linspace(-1, 1, 201), (-1.0, 1.0)
    many = np.concatenate([_correlations(rng, nodes, factors) for _ in range(150)])
    truth = Histogram.from_values(many).kde("isj", support=support, x=x).density
    drawn = [Histogram.from_values(_correlations(rng, nodes, factors)) for _ in range(15)]

    def error(bandwidth: float | str, independent: float = 1.0) -> tuple[float, np.ndarray]:
        curves = [h.kde(bandwidth, support=support, x=x, independent=independent) for h in drawn]
        return float(np.mean([((c.density - truth) ** 2).mean() for c in curves])), np.array(
            [c.bandwidth for c in curves]
        )

    least = min(error(h)[0] for h in np.geomspace(0.006, 0.4, 16))
    share = behind_pairs(drawn[0].n) / drawn[0].n
    ours, widths = error("isj", share)
    all_pairs, others = error("isj")
    assert ours < worst * least
    if factors:
        assert ours < all_pairs
        assert np.ptp(np.log(widths)) < np.ptp(np.log(others)) + 0.3
    assert (widths > others).all()


def test_the_curves_of_correlations_take_pairs_for_fewer_values(tmp_path, rng) -> None:
    made = content("A", 0, layers=1)
    made.node_correlation["layer1.activation"] = _correlations(rng, 60, 1)
    runs = load([write(tmp_path / "a", made, "A", 0)])
    (width,) = kde.curves(runs, "node_correlation", support=(-1.0, 1.0))["bandwidth"].unique()
    histogram = Histogram.from_values(made.node_correlation["layer1.activation"])
    share = behind_pairs(histogram.n) / histogram.n
    expected = histogram.kde("isj", support=(-1.0, 1.0), independent=share).bandwidth
    assert width == pytest.approx(expected, rel=1e-6)
    assert width > histogram.kde("isj", support=(-1.0, 1.0)).bandwidth
    (run,) = kde.curves(runs, "node_correlation", support=(-1.0, 1.0), per_seed=True)["bandwidth"].unique()
    assert run == pytest.approx(width)


@pytest.mark.parametrize("independent", [0.0, -1.0, 1.5, np.nan])
def test_a_share_of_independent_values_is_one(independent, rng) -> None:
    with pytest.raises(ArgumentError, match="independent must be more than 0 and at most 1"):
        Histogram.from_values(rng.normal(size=10)).kde(independent=independent)


def test_layers_share_limits_but_those_that_are_far_wider_narrower_or_elsewhere(rng) -> None:
    layers = {
        "a": (0, 1.0), "b": (0, 2.0), "c": (0.5, 0.7), "wide": (0, 60.0), "narrow": (0, 0.02), "far": (50, 1.0)
    }  # fmt: skip
    frame = pd.concat([groups(rng.normal(m, s, 500), layer=name) for name, (m, s) in layers.items()])
    limits, apart = of_panels(frame)
    assert apart == {("wide", 0), ("narrow", 0), ("far", 0)}
    assert limits["a", 0] == limits["b", 0] == limits["c", 0]
    for (name, _), (low, high) in limits.items():
        mean, sd = layers[name]
        assert low < mean - 2.5 * sd < mean + 2.5 * sd < high
    held, _ = of_panels(frame, holding={("a", 0): (-9.0, 9.0)})
    assert held["b", 0] == (-9.0, 9.0)
    alike, none = of_panels(frame[frame["layer"].isin(["a", "b"])])
    assert (len(set(alike.values())), none) == (1, set())


def test_a_condition_that_diverged_is_cut(rng) -> None:
    calm = [Histogram.from_values(rng.normal(size=500)) for _ in range(2)]
    wild = Histogram.from_values(1e4 * rng.normal(size=500))
    assert limits_of_panel([*calm, wild]) == limits_of_panel(calm)
    assert limits_of_panel([calm[0], wild]) == limits_of_panel(calm[:1])
    assert limits_of_panel([wild])[1] > 1e4
    low, high = limits_of_panel([Histogram.from_values([0.0, 0.0]), calm[0]])
    assert low < -2.5 < 2.5 < high
