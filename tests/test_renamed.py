"""Names that users' own probes were written with keep working for one version, with a DeprecationWarning."""

import importlib
import operator

import pytest
import torch
from torch import nn

import dropdiag as dd
from dropdiag.probes.base import Probe, Signal
from dropdiag.sketches.moments import AbsMean


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("dropdiag.probes", "Tap", "Signal"),
        ("dropdiag.probes", "Place", "SiteInfo"),
        ("dropdiag.probes", "Value", "ProbeValue"),
        ("dropdiag.probes", "choose", "chosen_probes"),
        ("dropdiag.sketches", "Histogram", "HistogramSketch"),
        ("dropdiag", "net_variance", "measure.net_variance"),
        ("dropdiag.analysis.net_variance", "wandering", "masked_net_values"),
    ],
)
def test_an_old_name_is_the_new_one_and_says_so(module, old, new):
    module = importlib.import_module(module)
    with pytest.warns(DeprecationWarning, match=f"{old} is called .*{new} now") as warned:
        assert getattr(module, old) == operator.attrgetter(new)(module)
    assert warned[0].filename == __file__  # Python shows a DeprecationWarning only where it points to the user's script


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("gains", "under_masks.gains", ["Gains", "HalvedMoments", "Sample", "gains"]),
        ("masked_passes", "under_masks.masked_passes", ["CallKey", "MaskedPasses", "NetHook", "Watch"]),
        ("masked_passes", "under_masks.links", ["MaskedLayer"]),
        ("net_variance", "under_masks.areas", ["inside", "known_at", "slope_of"]),
        (
            "random_states",
            "passes.state.random_states",
            ["OwnGenerator", "RandomStates", "is_generator", "same_states"],
        ),
        ("rates", "under_masks.rates", ["DroppedShares", "RateSite", "Rates", "Unmasked", "LEVEL", "ENOUGH", "MOST"]),
        ("rates", "passes.tensors", ["close", "tensors_in"]),
        ("reachable", "passes.state.reachable", ["Reachable", "Variable", "held", "reachable"]),
        ("working_copy", "passes.state.working_copy", ["WorkingCopy"]),
    ],
)
def test_a_module_that_moved_is_found_in_its_old_place_too(old, new, names):
    before = importlib.import_module(f"dropdiag.measure.{old}")
    after = importlib.import_module(f"dropdiag.measure.{new}")
    for name in names:
        with pytest.warns(
            DeprecationWarning, match=rf"{old}\.{name} is called dropdiag\.measure\.\S+\.{name} now"
        ) as warned:
            assert getattr(before, name) is getattr(after, name)
        assert warned[0].filename == __file__


def test_what_net_variance_was_imported_with_is_there_without_a_warning():
    module = importlib.import_module("dropdiag.measure.net_variance")
    for name in ("Measured", "Moments", "check_masks", "closed_form", "in_order", "measure", "twice"):
        assert callable(getattr(module, name))
    assert dd.measure.net_variance is module.net_variance


@pytest.mark.parametrize("module", ["dropdiag", "dropdiag.probes", "dropdiag.sketches", "dropdiag.measure.rates"])
def test_any_other_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        getattr(importlib.import_module(module), "no_such_name")  # noqa: B009


def test_a_probe_with_a_tap_is_fed_as_before(tmp_path):
    with pytest.warns(DeprecationWarning, match=r"Old\.tap is called Old\.signal now"):

        class Old(Probe):
            name = "old"
            tap = Signal.NET_VALUE

            def sketch(self, place):
                return AbsMean()

            def values(self, sketch):
                return [("old_mean", sketch.mean())]

    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    with dd.Recorder(model, tmp_path / "run", probes=[Old()], every=1) as rec:
        model(torch.ones(2, 3)).sum().backward()
        rec.step()
    assert len(dd.load(tmp_path / "run").scalars.query("quantity == 'old_mean'")) == 1


def test_the_places_of_a_replacement_are_its_swaps():
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    done = dd.gaaf.replace(model)
    with pytest.warns(DeprecationWarning, match=r"Replacement\.places is called Replacement\.swaps now"):
        assert done.places == done.swaps
    assert [swap.name for swap in done.swaps] == ["1"]


class Mixin:
    tap = Signal.NET_VALUE


class LateTap(Mixin, Probe):
    name = "late"
    on_eval = True

    def sketch(self, info):
        with pytest.warns(DeprecationWarning, match=r"Site\.hint is called Site\.axis_rule now"):
            assert info.site.hint == info.site.axis_rule
        return AbsMean()

    def values(self, sketch):
        return [("late_mean", sketch.mean())]


def test_a_tap_that_a_mixin_sets_and_a_hint_that_is_read_work_too(tmp_path):
    with pytest.warns(DeprecationWarning, match=r"LateTap\.tap is called LateTap\.signal now"):
        model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
        with dd.Recorder(model, tmp_path / "run", probes=[LateTap()]) as rec, rec.evaluation():
            model.eval()(torch.zeros(4, 3))
    assert len(dd.load(tmp_path / "run").select("late_mean")) == 1
    with pytest.warns(DeprecationWarning, match="tap is called"):
        assert LateTap().signal is Signal.NET_VALUE
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = LateTap().nothing
