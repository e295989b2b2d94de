"""Many networks, trained with and without the Recorder: nothing changed, nothing missed, every number right."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import dropdiag as dd
from dropdiag.histograms.grid import bin_numbers
from dropdiag.model.activations import MIXES
from tests.zoo import training
from tests.zoo.folder import Reading, assert_same, readings
from tests.zoo.models import ZOO
from tests.zoo.network import STEPS
from tests.zoo.nodes import mean_correlation, node_dimensions
from tests.zoo.signals import NO_ACTIVATION
from tests.zoo.sites import assert_in_order, assert_widths
from tests.zoo.training import same_output

MOST_SAMPLES = 2048
"""Of more, dropdiag correlates a selection."""


@pytest.fixture(scope="module", params=ZOO, ids=repr)
def zoo(request, tmp_path_factory):
    """Return one network trained bare and recorded."""
    network = request.param
    folder = tmp_path_factory.mktemp(network.name)
    bare, recorded = training.bare(network), training.recorded(network, folder)
    runs = {part: dd.load(folder / part) for part in recorded.coverage}
    return SimpleNamespace(network=network, bare=bare, recorded=recorded, runs=runs)


@pytest.fixture(scope="module")
def slow(zoo):
    """Return the same network trained under the slow reader, which must not change it either."""
    read = training.read_slowly(zoo.network)
    for number, (mine, its) in enumerate(zip(read.losses, zoo.bare.losses, strict=True)):
        assert same_output(mine, its, _apart(zoo, number)), "the slow reader itself changed the training"
    return read


def _apart(zoo, number):
    """Return how far a pass may be from the bare one: an evaluation that torch fuses where no hook is, by roundings."""
    return 1e-5 if zoo.network.fused and number == len(zoo.bare.losses) - 1 else 0


def test_nothing_is_changed(zoo):
    assert len(zoo.bare.losses) > STEPS
    for number, (bare, recorded) in enumerate(zip(zoo.bare.losses, zoo.recorded.losses, strict=True)):
        assert same_output(bare, recorded, _apart(zoo, number)), f"loss of pass {number}"
    assert len(zoo.bare.outputs) > STEPS
    for number, (bare, recorded) in enumerate(zip(zoo.bare.outputs, zoo.recorded.outputs, strict=True)):
        last = number == len(zoo.bare.outputs) - 1  # the evaluation's
        assert same_output(bare, recorded, 1e-5 if last and zoo.network.fused else 0), f"output of pass {number}"
    assert zoo.bare.state.keys() == zoo.recorded.state.keys()
    assert any(name.endswith(".grad") for name in zoo.bare.state)
    for name, tensor in zoo.bare.state.items():
        assert torch.equal(tensor, zoo.recorded.state[name]), name
    assert zoo.bare.random == zoo.recorded.random


def test_coverage_has_no_unexplained_gap(zoo):
    for part, rows in zoo.recorded.coverage.items():
        kinds = {row.kind for row in rows}
        assert "weight" in kinds
        assert kinds & {"activation", "output"} or zoo.network.warns == NO_ACTIVATION
        assert not [(part, row.layer, row.call) for row in rows if row.expected and not row.fired and not row.skipped]
        keys = [(row.kind, row.layer, row.call) for row in rows]
        assert len(keys) == len(set(keys))
        assert all(row.functional == (":" in row.layer) for row in rows)
        unfired = {
            row.layer for row in rows if row.kind in ("activation", "output") and not row.fired and row.skipped != MIXES
        }
        assert unfired == set(zoo.network.silent)


def test_warnings_name_what_there_is_to_warn_of_and_nothing_else(zoo):
    expected = [*zoo.network.warns, *([", ".join(zoo.network.silent)] if zoo.network.silent else [])]
    assert len(zoo.recorded.warnings) == len(expected), zoo.recorded.warnings
    assert all(any(part in warning for warning in zoo.recorded.warnings) for part in expected)


def test_dropout_is_listed_where_masks_are_drawn(zoo, slow):
    listed = {part for part, rows in zoo.recorded.coverage.items() if any(row.kind == "dropout" for row in rows)}
    assert slow.dropped <= listed or zoo.network.own_masks


def test_every_activation_is_recorded_with_the_right_numbers(zoo, slow):
    for part, run in zoo.runs.items():
        recorded = readings(run, zoo.network.apart)
        for step, read in enumerate(slow.passes[:STEPS], start=1):
            assert_same(recorded.get(step, []), map(Reading.of, read[part]), f"{part}, step {step}")


def test_evaluation_is_recorded_with_the_right_numbers(zoo, slow):
    for part, run in zoo.runs.items():
        recorded = readings(run, zoo.network.apart, "eval")
        read = [Reading.of(taken, gradient=False) for taken in slow.passes[STEPS][part]]
        assert_same(recorded.get(STEPS, []), read, f"{part}, evaluation")


def test_nodes_are_counted_in_the_dimension_of_their_layer(zoo, slow):
    for part, run in zoo.runs.items():
        passes, dimensions = node_dimensions(slow, part)
        known = {Reading.of(p, gradient=False).histograms: (p, d) for p, d in zip(passes, dimensions, strict=True)}
        for reading in readings(run, zoo.network.apart, "eval").get(STEPS, []):
            taken, dimension = known.get(reading.histograms, (None, None))
            if (
                dimension is None
                or not taken.h.n
                or taken.h.arrays[0].size // taken.h.arrays[0].shape[dimension] > MOST_SAMPLES
            ):
                continue
            rows = run.select(
                ["node_correlation_width", "node_correlation_abs_mean"], phase="eval", layer=reading.layer
            )
            told = rows[rows["call"] == reading.call].set_index("quantity")["value"]
            h = taken.h.arrays[0]
            assert told["node_correlation_width"] == h.shape[dimension], f"{reading.where}: {h.shape}, dim {dimension}"
            expected = mean_correlation(h, dimension)
            np.testing.assert_allclose(told["node_correlation_abs_mean"], expected, rtol=5e-3, err_msg=reading.where)


def test_sites_are_in_the_order_in_which_they_ran(zoo, slow):
    for part, run in zoo.runs.items():
        recorded = readings(run, zoo.network.apart)
        for step, read in enumerate(slow.passes[:STEPS], start=1):
            assert_in_order(run, recorded.get(step, []), map(Reading.of, read[part]), f"{part}, step {step}")
        recorded = readings(run, zoo.network.apart, "eval")
        read = [Reading.of(taken, gradient=False) for taken in slow.passes[STEPS][part]]
        assert_in_order(run, recorded.get(STEPS, []), read, f"{part}, evaluation")
        assert all(len(group) == 1 for group in run.meta["order"])


def test_nodes_are_those_of_the_layer_that_was_followed(zoo):
    for part, run in zoo.runs.items():
        model = zoo.network.parts(zoo.network.make())[part]
        assert_widths(zoo.network.name, model, zoo.recorded.coverage[part], run)


def test_every_weight_matrix_is_recorded_once(zoo, slow):
    for part, run in zoo.runs.items():
        rows = run.histograms("weight", "all", "train")
        for step, read in enumerate(slow.weights, start=1):
            counts = [np.bincount(bin_numbers(value).ravel()) for value in read[part].values]
            expected = sorted((np.flatnonzero(c).tolist(), c[c > 0].tolist()) for c in counts)
            here = rows[rows["step"] == step]["histogram"]
            assert sorted((h.bins.tolist(), h.counts.tolist()) for h in here) == expected
            means = sorted(np.abs(g.astype(np.float64)).mean() for g in read[part].gradients if g is not None)
            for quantity in ("weight_grad_abs_mean", "raw_weight_grad_abs_mean"):  # nothing is clipped here
                flow = run.scalars.query("step == @step and quantity == @quantity")["value"].dropna()
                np.testing.assert_allclose(sorted(flow), means, rtol=1e-6, err_msg=f"{quantity}, step {step}")


def test_reasons_are_given_for_networks_that_exist():
    assert len({network.name for network in ZOO}) == len(ZOO) >= 90
    assert all(reason for network in ZOO for reason in (*network.apart.values(), *network.composites.values()))
