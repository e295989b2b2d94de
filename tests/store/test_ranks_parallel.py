"""Copies of weights count once, parts of one tensor add up, stages of a pipeline are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dropdiag.errors import DropdiagWarning
from dropdiag.histograms.histogram import Histogram
from dropdiag.store.reader import load
from tests.ranks import (
    LAYERS,
    add,
    close,
    correlation_rows,
    histogram,
    moment_rows,
    noise_rows,
    pairs_of,
    scalar,
    split,
    write,
    writer,
)

SHARDED = [{**row, "sharded": True} for row in LAYERS]


def weights(values, step=1, quantity="weight"):
    """What a rank records of its weights: a histogram, moments, a mean size."""
    scalars, states = moment_rows(step, "weight", values, layer="fc")
    return [*histogram(step, quantity, values, layer="fc"), *scalars, *states,
            scalar(step, "weight_grad_abs_mean", np.abs(values).mean(), float(np.size(values)), layer="fc")]  # fmt: skip


def numbers(run, **chosen):
    return run.select(**chosen).set_index("quantity")["value"]


def told():
    """Two batches of two ranks each: tensor parallel."""
    return [{"batch": f"b{rank // 2}", "shard": rank % 2} for rank in range(4)]


def test_replicas_count_once_bit_for_bit(tmp_path, rng):
    w = rng.normal(size=40)
    run = load(write(tmp_path / "run", [weights(w)] * 3))
    assert run.histogram("weight", "fc") == Histogram.from_values(w)
    assert numbers(run).to_dict() == numbers(run.ranks[0]).to_dict()


def test_replicas_that_parted_count_each_and_are_told(tmp_path, rng):
    w = rng.normal(size=40)
    other = w + 0.5
    run = load(write(tmp_path / "run", [weights(w), weights(other), weights(w)]))
    assert run.histogram("weight", "fc") == Histogram.from_values([w, other])
    found, both = numbers(run), np.concatenate([w, other])
    assert found["weight_sd"] == pytest.approx(both.std(), rel=1e-12)
    assert found["weight_excess_kurtosis"] == pytest.approx(stats.kurtosis(both), rel=1e-12)
    assert found["weight_grad_abs_mean"] == pytest.approx(np.abs(both).mean(), rel=1e-12)
    assert run.ranks.table["differs"].tolist() == ["", "its weights of fc are others at step 1", ""]


def test_constant_weights_of_one_spread_and_two_means_spread_together(tmp_path):
    run = load(write(tmp_path / "run", [weights(np.full(4, value)) for value in (0.0, 1.0)]))
    assert numbers(run)["weight_sd"] == 0.5


def test_shards_of_weights_make_one_tensor(tmp_path, rng):
    w = np.concatenate([rng.normal(size=25), np.zeros(15)])
    w[25:] = 0.25  # the last two ranks have equal parts, which are two all the same
    parts = split(w, (20, 5, 8, 7))
    parts[3] = parts[2].copy()
    w = np.concatenate(parts)
    run = load(write(tmp_path / "run", [weights(part) for part in parts], told=[{"layers": SHARDED}] * 4))
    assert run.histogram("weight", "fc") == Histogram.from_values(w)
    found = numbers(run)
    assert found["weight_mean"] == pytest.approx(w.mean(), rel=1e-12)
    assert found["weight_sd"] == pytest.approx(w.std(), rel=1e-12)
    assert found["weight_excess_kurtosis"] == pytest.approx(stats.kurtosis(w), rel=1e-12)
    assert (found["weight_minimum"], found["weight_maximum"]) == (w.min(), w.max())
    assert found["weight_grad_abs_mean"] == pytest.approx(np.abs(w).mean(), rel=1e-12)
    assert run.ranks.table["differs"].tolist() == [""] * 4


def test_activations_of_a_layer_whose_weights_are_sharded_are_no_parts(tmp_path, rng):
    # FSDP: each rank has its own batch, whole
    layers = [{**LAYERS[0], "sharded": True}, LAYERS[1]]
    x = rng.normal(size=(20, 3))
    rows = [[row for some in correlation_rows(1, part) for row in some] for part in split(x, (8, 12))]
    run = load(write(tmp_path / "run", rows, told=[{"layers": layers}] * 2))
    assert numbers(run)["node_correlation_abs_mean"] == pytest.approx(np.abs(pairs_of(x)).mean(), rel=1e-12)


def test_a_replicated_tensor_of_ranks_of_one_batch_counts_once(tmp_path, rng):
    batches = split(rng.normal(size=(30, 4)), (10, 20))
    rows = []
    for rank in range(4):
        x = batches[rank // 2]
        scalars, states = moment_rows(1, "net_value", x)
        rows.append([*scalars, *states, *histogram(1, "net_value", x), *(r for some in correlation_rows(1, x) for r in some),
                     *(r for some in noise_rows(1, x, x**2) for r in some)])  # fmt: skip
    run = load(write(tmp_path / "run", rows, told=told()))
    x = np.concatenate(batches)
    found = numbers(run)
    assert run.histogram("net_value", "act") == Histogram.from_values(x)
    assert found["net_value_mean"] == pytest.approx(x.mean(), rel=1e-12)
    assert found["net_value_excess_kurtosis"] == pytest.approx(stats.kurtosis(x.ravel()), rel=1e-12)
    assert found["node_correlation_abs_mean"] == pytest.approx(np.abs(pairs_of(x)).mean(), rel=1e-12)
    assert found["dropout_noise_to_signal"] == pytest.approx(((x**2).sum(0) / (30 * x.var(0))).mean(), rel=1e-12)
    assert found[["node_correlation_samples", "node_correlation_items", "node_correlation_width"]].tolist() == [
        30,
        2,
        4,
    ]
    assert run.histogram("node_correlation", "act").n == 6


def test_a_replicated_tensor_counts_once_where_a_rank_is_missing(tmp_path, rng):
    batches = split(rng.normal(size=(30, 4)), (10, 20))
    path = tmp_path / "run"
    for rank in (0, 1, 2):
        one = writer(path, rank, 4, **told()[rank])
        add(one, *correlation_rows(1, batches[rank // 2]), histogram(1, "net_value", batches[rank // 2]))
        close(one, 1)
    run = load(path)
    with pytest.warns(DropdiagWarning, match="3 of 4 ranks: rank 3"):
        assert numbers(run)["node_correlation_abs_mean"] == pytest.approx(
            np.abs(pairs_of(np.concatenate(batches))).mean()
        )
    with pytest.warns(DropdiagWarning, match="3 of 4 ranks: rank 3"):
        assert run.histogram("net_value", "act").n == 120


def test_parts_of_a_tensor_of_ranks_of_one_batch_add_up(tmp_path, rng):
    """Two batches over two ranks each, of which the first has nodes 0 to 3, the second nodes 4 to 8."""
    x = rng.normal(size=(30, 9)) @ rng.normal(size=(9, 9))
    x[:, 5] = 2.0
    rows = []
    for rank in range(4):
        part = split(x, (12, 18))[rank // 2][:, slice(0, 4) if rank % 2 == 0 else slice(4, 9)]
        scalars, states = moment_rows(1, "net_value", part)
        rows.append([*scalars, *states, *histogram(1, "net_value", part), *(r for some in correlation_rows(1, part) for r in some),
                     *(r for some in noise_rows(1, part, part**2) for r in some)])  # fmt: skip
    run = load(write(tmp_path / "run", rows, told=told()))
    found = numbers(run)
    r = np.concatenate([pairs_of(x[:, :4]), pairs_of(x[:, 4:])])
    varying = np.delete(x, 5, axis=1)
    assert run.histogram("net_value", "act") == Histogram.from_values(x)
    assert found["net_value_sd"] == pytest.approx(x.std(), rel=1e-12)
    assert found["node_correlation_abs_mean"] == pytest.approx(np.abs(r).mean(), rel=1e-12)
    assert run.histogram("node_correlation", "act").n == len(r) == 6 + 6
    names = ["node_correlation_samples", "node_correlation_nodes", "constant_nodes", "node_correlation_width"]
    assert found[names].tolist() == [30, 8, 1, 9]
    assert found[["participation_ratio", "effective_rank"]].isna().all()
    assert found["dropout_noise_to_signal"] == pytest.approx(
        ((varying**2).sum(0) / (30 * varying.var(0))).mean(), rel=1e-12
    )
    # the width is asked for by itself, too
    assert numbers(run, quantity="node_correlation_width").tolist() == [9.0]


def test_nodes_that_are_not_the_same_are_not_merged(tmp_path, rng):
    rows = [[row for some in correlation_rows(1, rng.normal(size=(10, width))) for row in some] for width in (3, 4)]
    run = load(write(tmp_path / "run", rows))
    with pytest.warns(
        DropdiagWarning, match="node_correlation of 'act' at step 1 .eval. is of 3, 4 nodes on its ranks"
    ):
        found = numbers(run)
    assert found[["node_correlation_abs_mean", "participation_ratio", "constant_nodes"]].isna().all()
    found = run.recorded(lambda steps: steps)
    assert found.table.num_rows == 0
    assert [problem[:60] for problem in found.problems] == [
        "node_correlation of 'act' at step 1 (eval) is of 3, 4 nodes "
    ]


def test_what_follows_from_states_alone_is_missing_where_these_are(tmp_path, rng):
    x = split(rng.normal(size=(30, 4)), (10, 20))
    rows = []
    for part in x:
        scalars, histograms, _ = correlation_rows(1, part)
        rows.append([*moment_rows(1, "net_value", part)[0], *scalars, *histograms])
    run = load(write(tmp_path / "run", rows))
    with pytest.warns(
        DropdiagWarning, match="net_value_sd.* of several ranks follow from their states alone"
    ) as warned:
        found = numbers(run)
    assert len(warned) == 1
    assert found["net_value_mean"] == pytest.approx(np.concatenate(x).mean(), rel=1e-12)
    assert (
        found[["net_value_sd", "net_value_excess_kurtosis", "node_correlation_abs_mean", "constant_nodes"]].isna().all()
    )
    found = run.recorded(lambda steps: steps)
    assert found.table.num_rows == 0
    assert found.problems == ["node_correlation of several ranks follows from their states alone, and 1 are not there"]


def pipeline(path, names=("0", "1"), extra=()):
    """Two stages of two replicas each; both stages call their layers alike, and one has a layer more."""
    for rank in range(4):
        stage, replica = divmod(rank, 2)
        mine = [*names, *(extra if stage else ())]
        layers = [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "activation": "Tanh", "feeds": name}
                  for name in mine]  # fmt: skip
        area = {"sup": 1.0, "eps": 0.1, "left": [[None, -1.0 - stage]], "right": []}
        coverage = [{"layer": name, "call": 0, "kind": "activation", "type": "Tanh", "functional": False, "expected": True,
                     "fired": 3, "sampled": None, "skipped": None} for name in mine]  # fmt: skip
        one = writer(path, rank, 4, stage=stage, layers=layers, order=[[[name, 0]] for name in mine],
                     activations={"Tanh": area}, coverage=coverage)  # fmt: skip
        add(one, [scalar(1, "net_grad_abs_mean", 10.0 * stage + replica, 1.0, layer=name) for name in mine],
            [row for name in mine for row in histogram(1, "net_value", [stage, replica], layer=name)])  # fmt: skip
        one.add_derivatives({"Tanh": np.full(32640, float(stage))})
        close(one, 1)
    return load(path)


def test_layers_of_one_name_on_two_stages_are_two(tmp_path):
    run = pipeline(tmp_path / "run", extra=("head",))
    expected = ["stage-0.0", "stage-0.1", "stage-1.0", "stage-1.1", "head"]
    assert run.layers["layer"].tolist() == expected
    assert run.layers["feeds"].tolist() == expected
    assert [layer for layer, _ in run.places.sorted(run.order)] == expected
    frame = run.scalars
    assert frame["layer"].tolist() == expected
    assert frame["value"].tolist() == [0.5, 0.5, 10.5, 10.5, 10.5]
    assert run.select(layer="stage-1.0")["value"].tolist() == [10.5]
    assert run.histogram("net_value", "stage-1.1") == Histogram.from_values([1, 0, 1, 1])
    assert run.histograms("net_value")["layer"].tolist() == expected
    assert [row.layer for row in run.coverage()] == expected
    assert [row.fired for row in run.coverage()] == [6] * 5
    assert [row.ranks for row in run.coverage()] == ["on ranks 0-1 of 4"] * 2 + ["on ranks 2-3 of 4"] * 3
    assert run.ranks[2].scalars["layer"].tolist() == ["0", "1", "head"]
    assert run.ranks.spread(layer="stage-1.0")["mean"].tolist() == [10.5]


def test_functions_of_one_name_with_other_saturation_areas_are_two(tmp_path):
    run = pipeline(tmp_path / "run")
    assert run.layers["activation"].tolist() == ["Tanh", "Tanh", "Tanh (rank 2)", "Tanh (rank 2)"]
    assert list(run.meta["activations"]) == ["Tanh", "Tanh (rank 2)"]
    assert run.meta["activations"]["Tanh (rank 2)"]["left"] == [[None, -2.0]]
    assert [set(run.derivative(name)[1]) for name in ("Tanh", "Tanh (rank 2)")] == [{0.0}, {1.0}]
    assert set(run.ranks[2].derivative("Tanh")[1]) == {1.0}
