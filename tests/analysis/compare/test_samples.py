"""Correlations of unlike numbers of samples: what chance adds is taken off, or nothing is compared."""

from unittest.mock import patch

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.analysis.claims.claims import claims
from dropdiag.analysis.correlation import PairMoments
from dropdiag.histograms.histogram import Histogram
from tests import synthetic
from tests.analysis.claims.numbers import measured
from tests.synthetic import content, write

NODES = 30


def pairs(rng, n, common=0.0):
    """Pearson's r of every pair of nodes, over n samples; ``common`` is the share of what all nodes have in common."""
    x = np.sqrt(1 - common) * rng.normal(size=(n, NODES)) + np.sqrt(common) * rng.normal(size=(n, 1))
    return np.corrcoef(x.T)[np.triu_indices(NODES, 1)]


@pytest.mark.parametrize("n", [5, 20, 60, 500])
def test_the_corrected_square_is_0_for_independent_nodes_whatever_the_number(n):
    rng = np.random.default_rng(n)
    moments = [PairMoments.of(*Histogram.from_values(pairs(rng, n)).bounds()) for _ in range(300)]
    for corrected in ([one.corrected_square(n) for one in moments], [one.corrected_variance(n) for one in moments]):
        assert abs(np.mean(corrected)) < 4 * np.std(corrected) / np.sqrt(300) + 2e-4  # r lies at its bin's centre
    assert np.mean([one.square for one in moments]) == pytest.approx(1 / (n - 1), rel=0.05)
    values = pairs(rng, n)
    one = PairMoments.of(*Histogram.from_values(values).bounds())
    assert (one.mean, one.mean_abs, one.sd) == pytest.approx(
        (values.mean(), np.abs(values).mean(), values.std()), rel=0.02, abs=2e-3
    )
    assert np.isnan(one.corrected_square(2))
    assert np.isnan(one.corrected_square(float("nan")))


def recorded(folder, numbers, common=(0.0, 0.0)):
    """Two conditions of one network, evaluated on so many items."""
    rng = np.random.default_rng(5)
    for condition, n, share in zip(("No dropout", "Dropout"), numbers, common, strict=True):
        for seed in range(6):
            made = content("No dropout", seed + 10 * len(condition))
            made.node_correlation = {name: pairs(rng, n, share) for name in made.node_correlation}
            with patch.object(synthetic, "SAMPLES", n):
                write(folder / f"{condition}-{seed}", made, condition, seed)
    return dd.compare([str(folder / "*")], on_unreadable="ignore")


def test_beyond_a_factor_of_two_nothing_is_compared_and_the_reason_is_said(tmp_path):
    found = recorded(tmp_path, (60, 2000))
    sampled = found.table[found.table["quantity"].isin(["node_correlation", "participation_ratio", "effective_rank"])]
    sampled = sampled[sampled["measure"] != "node_correlation_w1"]
    assert len(sampled) == 3 * 6
    assert sampled[["effect", "low", "high", "p"]].isna().all(axis=None)
    assert sampled["note"].str.contains("not compared, for they rest on 60 to 2,000 independent samples").all()
    row = found.claims().table.set_index("claim").loc["b"]
    assert row["verdict"] == "undecided"
    assert "60 to 2,000 independent samples" in row["reason"]


def test_within_it_the_corrected_one_has_to_agree(tmp_path):
    found = recorded(tmp_path, (60, 115))
    table = found.table.set_index(["measure", "layer"])
    raw, corrected = (table.loc[(name, "layer1.activation")] for name in ("abs_correlation", "correlation_squared"))
    assert raw["high"] < 0.0  # identical networks, and |r| is "lower"
    assert corrected["low"] < 0.0 < corrected["high"]
    said = found.claims(claims="b")
    assert said.table["verdict"].item() == "undecided"
    assert "corrected for unlike numbers of samples" in said.table["reason"].item()
    # identical networks: neither a layer nor another reading says that they differ
    assert set(said.parts["verdict"]) == set(said.layers["verdict"]) == {"undecided"}
    assert "'not lower by more than 0.02' is not judged" in said.table["reason"].item()
    true = recorded(tmp_path / "true", (60, 115), common=(0.0, 0.4)).claims(claims="b")
    assert true.parts["verdict"].tolist()[0] == "supported"


@pytest.mark.parametrize(("items", "corrected"), [
    (lambda condition, layer: 60.0 if layer == "l2" else 100.0, False),
    (lambda condition, layer: np.nan, False),
    (lambda condition, layer: np.nan if layer == "l2" else 100.0, False),
    (lambda condition, layer: 150.0 if (condition, layer) == ("Dropout", "l2") else 100.0, True),
    (lambda condition, layer: np.nan if condition == "Dropout" else 100.0, True),
])  # fmt: skip
def test_numbers_are_unlike_where_they_differ_between_runs_of_a_layer(rng, items, corrected):
    names = ("abs_correlation", "correlation_sd", "correlation_squared", "correlation_variance")
    found = measured({
        condition: {seed: {name: 0.2 + 0.1 * place + 0.01 * rng.normal(size=3) for name in names} for seed in range(4)}
        for place, condition in enumerate(("No dropout", "Dropout"))
    })  # fmt: skip
    rows = found.measured
    rows["items"] = [items(condition, layer) for condition, layer in zip(rows["condition"], rows["layer"], strict=True)]
    reason = claims(found, claims="b").table["reason"].item()
    assert ("unlike numbers" in reason) == corrected


def test_a_layer_that_is_compared_in_no_run_is_named(rng):
    found = measured({
        condition: {seed: {"abs_correlation": 0.2 + 0.01 * rng.normal(size=3)} for seed in range(4)}
        for condition in ("No dropout", "Dropout")
    })  # fmt: skip
    rows = found.measured
    rows.loc[(rows["layer"] == "l2") & (rows["condition"] == "Dropout"), "items"] = 2500.0
    part = claims(found, claims="b").parts.iloc[0]
    assert "without l2, of which there is nothing to compare" in part["reason"]


def test_runs_that_do_not_say_how_many_are_independent_are_judged_where_their_samples_are_alike(tmp_path):
    def without(made, steps, phase, *, shares):
        return [row for row in kept(made, steps, phase, shares=shares) if row.quantity != "node_correlation_items"]

    kept = synthetic._held_out
    with patch.object(synthetic, "_held_out", without):
        alike = recorded(tmp_path / "alike", (200, 200), common=(0.0, 0.4))
        unlike = recorded(tmp_path / "unlike", (200, 150), common=(0.0, 0.4))
        far = recorded(tmp_path / "far", (200, 50), common=(0.0, 0.4))
    assert not set(alike.table["measure"]) & {"correlation_squared", "correlation_variance"}
    assert alike.claims(claims="b").table["verdict"].item() != "undecided"
    for found, why in ((unlike, "do not say how many of them are independent"), (far, "rest on 50 to 200")):
        row = found.claims(claims="b").table.iloc[0]
        assert row["verdict"] == "undecided"
        assert why in row["reason"]
