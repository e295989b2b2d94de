"""What is known of a quantity goes with the run that holds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import nn

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.probes import Probe, Tap
from dropdiag.probes.abs_means import GradientFlow
from dropdiag.sketches.moments import Moments
from dropdiag.store.schema import QUANTITIES, Quantity


class Kurtosis(Probe[Moments]):
    name = "kurtosis"
    tap = Tap.NET_VALUE
    quantities = (Quantity("net_value_peak", "scalar", "1", "kurtosis of $z$", "log ratio"),)

    def sketch(self, place):
        return Moments()

    def values(self, sketch):
        return [("net_value_peak", sketch.excess_kurtosis + 3.0)]


def test_a_probes_quantities_are_in_run_json_and_come_back(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    dd.Recorder(model, tmp_path / "run", probes=[GradientFlow(), Kurtosis()]).close()
    told = json.loads((tmp_path / "run" / "run.json").read_text())["quantities"]
    assert told["net_value_peak"] == {"kind": "scalar", "unit": "1", "label": "kurtosis of $z$", "scale": "log ratio"}
    run = dd.load(tmp_path / "run")
    assert run.quantities["net_value_peak"] == Kurtosis.quantities[0]
    assert run.quantities["net_grad_abs_mean"] == QUANTITIES["net_grad_abs_mean"]


def test_a_run_from_before_quantities_were_written_has_dropdiags_own():
    frozen = Path(__file__).parents[1] / "frozen" / "recorded" / "cnn"
    assert dd.load(frozen).quantities == QUANTITIES


def test_every_probe_of_dropdiag_declares_what_it_writes():
    from dropdiag.probes import PROBES

    for probe in PROBES:
        assert probe.quantities, probe.name
        assert all(QUANTITIES[one.name] is one for one in probe.quantities)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("a", "number", "1", "a"), "kind is one of scalar, histogram"),
        (("a", "scalar", "1", "a", "ratio"), "scale one of log ratio, difference, distance, none"),
        (("a", "histogram", "1", "a", "difference"), "a histogram is not compared on the scale 'difference'"),
        (("a", "scalar", "1", "a", "distance"), "a scalar is not compared on the scale 'distance'"),
        (("a", "scalar", "", "a"), "must be words"),
    ],
)
def test_a_quantity_that_cannot_be_is_refused(given, says):
    with pytest.raises(ArgumentError, match=says):
        Quantity(*given)


def test_the_scale_follows_the_kind():
    assert Quantity("a", "scalar", "1", "a").scale == "difference"
    assert Quantity("a", "histogram", "1", "a").scale == "distance"
