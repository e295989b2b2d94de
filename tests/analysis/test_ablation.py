"""Co-adaptation by its definitions: numbers that were written are read, of the last step, over seeds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dropdiag.analysis import ablation, correlation
from dropdiag.errors import ArgumentError, NotRecordedError
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from dropdiag.store.writer import RunWriter
from tests.synthetic import _held_out, _histogram, _meta, content

LAYERS = "layer1.activation", "layer2.activation", "layer3.activation"
SHARES = 0.0, 0.5, 1.0


def rows_of(seed, effect, phase, *, accuracy=True, multiple=False):
    for step in (10, 60):  # the last one counts
        for place, layer in enumerate(LAYERS):
            values = {
                "ablation_interaction": step / 60 + place + seed - effect,
                "ablation_interaction_null": 0.1 * (1 + place + seed),
                "ablation_interaction_null_sd": 0.05,
            }
            values |= {f"ablated_loss@{share:g}": 0.1 + share * (2 - effect) + seed for share in SHARES}
            values |= {f"ablated_accuracy@{share:g}": 0.9 - share * 0.8 if accuracy else None for share in SHARES}
            values |= {f"ablated_loss_se@{share:g}": 0.01 for share in SHARES}
            yield from (ScalarRow(step, phase, layer, 0, name, value) for name, value in values.items())
            if multiple:
                yield ScalarRow(step, "eval", layer, 0, "multiple_correlation", 0.5 + 0.1 * place + seed / 100)
                yield ScalarRow(step, "eval", layer, 0, "multiple_correlation_null", 0.04)


def ablated_runs(folder, *, correlated=False, phase="ablation", **options):
    """Two conditions, two seeds, three layers, by the real writer."""
    paths = {}
    for effect, condition in enumerate(("No dropout", "Dropout")):
        for seed in (0, 1):
            path = folder / f"{effect}-{seed}"
            made = content(condition, seed, steps=60, size=500)
            writer = RunWriter(path, _meta(made, condition, seed, "Tanh"))
            for layer, r in made.node_correlation.items() if correlated else ():
                writer.add_histograms([_histogram(60, "eval", layer, "node_correlation", r)])
            writer.add_scalars(_held_out(made, 60, "eval", shares=False) if correlated else [])
            writer.add_scalars(list(rows_of(seed, effect, phase, **options)))
            writer.close("completed")
            paths.setdefault(condition, []).append(path)
    return paths


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return load(ablated_runs(tmp_path_factory.mktemp("ablated"), correlated=True, multiple=True))


def test_the_last_values_of_each_run_are_averaged_over_seeds(runs):
    found = ablation.table(runs)
    assert found["definition"].unique().tolist() == ["interaction", "correlation", "multiple correlation"]
    one = found[found["definition"] == "interaction"].set_index(["condition", "layer"])
    assert len(one) == 6
    for (condition, layer), row in one.iterrows():
        effect, place = ["No dropout", "Dropout"].index(condition), LAYERS.index(layer)
        assert row["value"] == pytest.approx(1 + place + 0.5 - effect)
        assert row["value_sd"] == pytest.approx(np.std([0, 1], ddof=1))
        assert row["null"] == pytest.approx(0.1 * (1.5 + place))
        assert (row["null_sd"], row["seeds"], row["missing"]) == (0.05, 2, 0)
    r = found[found["definition"] == "correlation"].set_index(["condition", "layer"])
    expected = correlation.table(runs).set_index(["condition", "layer"])
    for column, known in (("value", "mean_abs_r"), ("value_sd", "mean_abs_r_sd"), ("null", "null_mean_abs_r")):
        np.testing.assert_array_equal(r[column], expected.loc[r.index, known])
    other = found[found["definition"] == "multiple correlation"]
    assert other["value"].tolist() == pytest.approx([0.505, 0.505, 0.605, 0.605, 0.705, 0.705])
    assert set(other["null"]) == {0.04}


def test_rows_stand_in_network_order_or_in_that_asked_for(runs):
    chosen = ablation.table(runs, layers=[LAYERS[2], LAYERS[0]], conditions=["Dropout"])
    assert chosen["layer"].tolist() == [LAYERS[2], LAYERS[0]] * 3
    assert set(chosen["condition"]) == {"Dropout"}
    with pytest.raises(ArgumentError, match="no layer 'layer9'"):
        ablation.table(runs, layers=["layer9"])
    with pytest.raises(ArgumentError, match="no layer 'layer9'"):
        ablation.curves(runs, layers=["layer9"])


def test_curves_are_by_share(runs):
    found = ablation.curves(runs, "loss")
    one = found[(found["condition"] == "Dropout") & (found["layer"] == LAYERS[1])]
    assert one["share"].tolist() == [*SHARES]
    assert one["value"].tolist() == pytest.approx([0.6, 1.1, 1.6])
    sd = np.std([0, 1], ddof=1)
    assert (one["high"] - one["value"]).tolist() == pytest.approx([sd] * 3)
    assert (one["value"] - one["low"]).tolist() == pytest.approx([sd] * 3)
    assert ablation.curves(runs)["value"].max() == pytest.approx(0.9)


def test_what_was_not_recorded_is_an_error_or_left_out(tmp_path):
    runs = load(ablated_runs(tmp_path, accuracy=False, phase="other"))
    with pytest.raises(NotRecordedError, match="ablation_interaction"):
        ablation.table(runs)
    assert ablation.table(runs, phase="other")["definition"].unique().tolist() == ["interaction"]
    with pytest.raises(NotRecordedError, match="no run holds the accuracy of ablated nodes"):
        ablation.curves(runs, phase="other")
    assert ablation.curves(runs, phase="other", missing_ok=True).empty
    assert isinstance(ablation.curves(runs, "loss", phase="other"), pd.DataFrame)
