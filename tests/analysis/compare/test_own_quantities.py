"""A probe of one's own: what it writes is compared on the scale that its quantities carry."""

import json

import numpy as np
import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.analysis.compare.measures import SPECIAL, generic, measure_of
from dropdiag.probes.base import Probe, Signal
from dropdiag.sketches.histogram import HistogramSketch
from dropdiag.sketches.moments import Moments
from dropdiag.store.rows import ScalarRow
from dropdiag.store.schema import QUANTITIES, Quantity
from dropdiag.store.writer import RunWriter

SPREAD = Quantity("net_spread", "scalar", "net-value units", "spread of $z$", "log ratio")
AGAIN = Quantity("net_again", "histogram", "volts", "$z$ again")


class Spread(Probe[Moments]):
    """Spread of the net values."""

    name = "spread"
    signal = Signal.NET_VALUE
    quantities = (SPREAD,)
    on_train = False
    on_eval = True

    def sketch(self, place):
        return Moments()

    def values(self, sketch):
        return [("net_spread", sketch.sd)]


class Again(Probe[HistogramSketch]):
    """The distribution of the net values under another name."""

    name = "again"
    signal = Signal.NET_VALUE
    quantities = (AGAIN,)
    on_train = False
    on_eval = True

    def sketch(self, place):
        return HistogramSketch()

    def values(self, sketch):
        return [("net_again", sketch)]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    for condition, width in (("Base", 1.0), ("Wide", 3.0)):
        for seed in range(3):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
            with dd.Recorder(model, folder / f"{condition}-{seed}", probes=["net_values", Spread(), Again()], every=1,
                             config={"condition": condition, "seed": seed}) as recorder:  # fmt: skip
                model(torch.randn(16, 4)).sum().backward()
                recorder.step()
                with recorder.evaluation():
                    model.eval()(width * torch.randn(64, 4))
    return dd.compare({name: str(folder / f"{name}-*") for name in ("Base", "Wide")}, on_unreadable="ignore")


def rows(comparison, measure):
    return comparison.table[comparison.table["measure"] == measure]


def test_a_scalar_is_compared_on_the_scale_it_carries(comparison):
    (row,) = rows(comparison, "net_spread").to_dict("records")
    assert (row["scale"], row["unit"], row["quantity"], row["layer"]) == ("log ratio", "1", "net_spread", "1")
    found = {(run.condition, run.seed): run.select("net_spread")["value"].item() for run in comparison.runs}
    logs = [np.log(found["Wide", seed] / found["Base", seed]) for seed in range(3)]
    assert row["effect"] == pytest.approx(np.mean(logs))
    assert row["effect"] > 0.5, "the inputs are three times as wide"
    assert row["n"] == 3


def test_a_histogram_is_compared_by_w1_in_its_unit(comparison):
    (row,) = rows(comparison, "net_again_w1").to_dict("records")
    (peer,) = rows(comparison, "net_value_w1").to_dict("records")
    assert (row["scale"], row["unit"]) == ("distance", "volts")
    assert row["effect"] == peer["effect"] > 0.0
    assert peer["unit"] == "net-value units"


def test_the_quantities_of_the_runs_go_with_the_measurements(comparison):
    assert comparison.quantities["net_spread"] == SPREAD
    assert comparison.measure("net_again_w1").unit == "volts"


def test_in_training_the_last_tenth_of_the_rows_counts_and_a_name_is_enough(tmp_path):
    for condition, level in (("A", 1.0), ("B", 2.0)):
        meta = {"config": {"condition": condition}, "versions": {}, "activations": {},
                "layers": [{"layer": "x", "call": 0, "kind": "activation", "type": "Tanh"}]}  # fmt: skip
        writer = RunWriter(tmp_path / condition, meta)
        writer.add_scalars([ScalarRow(step, "train", "x", 0, "bare", level * (step > 18)) for step in range(1, 21)])
        writer.close("completed")
    comparison = dd.compare([str(tmp_path / "*")], baseline="A", on_unreadable="ignore")
    (row,) = rows(comparison, "bare").to_dict("records")
    assert (row["effect"], row["scale"], row["unit"]) == (1.0, "difference", "as recorded")
    assert not any("bare" in problem for problem in comparison.problems)


def test_what_only_counts_or_times_is_no_measure():
    measures = generic(QUANTITIES)
    assert not {"step_seconds", "node_correlation_nodes", "net_value_stride", "net_variance_w1"} & measures.keys()
    assert measures["participation_ratio"] == measure_of("participation_ratio")
    assert {"weight_w1", "net_value_w1", "weight_grad_abs_mean"} <= measures.keys()


def test_a_quantity_has_one_measure_of_its_name():
    measures = generic(QUANTITIES)
    assert not SPECIAL.keys() & measures.keys()
    assert "node_correlation_w1" not in measures, "abs_correlation is its number"


def test_what_run_json_says_stands_over_what_dropdiag_knows(tmp_path):
    for condition in ("A", "B"):
        meta = {"config": {"condition": condition}, "versions": {}, "activations": {},
                "layers": [{"layer": "x", "call": 0, "kind": "activation", "type": "Tanh"}],
                "quantities": {"effective_rank": {"kind": "scalar", "unit": "channels", "label": "rank",
                                                  "scale": "difference"}}}  # fmt: skip
        writer = RunWriter(tmp_path / condition, meta)
        writer.add_scalars([ScalarRow(1, "eval", "x", 0, "effective_rank", 3.0)])
        writer.close("completed")
        assert "quantities" in json.loads((tmp_path / condition / "run.json").read_text())
    comparison = dd.compare([str(tmp_path / "*")], baseline="A", on_unreadable="ignore")
    assert rows(comparison, "effective_rank")["unit"].tolist() == ["channels"]
