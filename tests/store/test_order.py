"""The order of execution: what a run recorded, and how the orders of several runs are joined."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.analysis import gradient_flow, weights
from dropdiag.analysis.last_values import last_values
from dropdiag.analysis.overview import sites
from dropdiag.errors import DropdiagWarning
from dropdiag.store.order import Places, joined, listed
from dropdiag.store.reader import load
from dropdiag.store.rows import ScalarRow
from tests.versions import CALLED, STEPS, WEIGHTS, act_of, site_of, write_run

SHUFFLED = ("fc1", "c1", "c2")


def one_rank_each(*names: str) -> list[list[tuple[str, int]]]:
    return [[(name, 0)] for name in names]


def meta(*names: str, order: bool = True) -> dict[str, object]:
    rows = [{"layer": name, "call": 0, "kind": "weight"} for name in names]
    return {"layers": rows, "order": one_rank_each(*names)} if order else {"layers": rows}


def place(found: Places, *names: str) -> str:
    return " ".join(found.layers(sorted(names)))


def test_a_run_has_the_rank_of_each_site(tmp_path):
    order = [[site_of("c1")], [act_of("c1")], [site_of("c2"), ("fc1", 0)], [("c1:relu", 1)]]
    run = load(write_run(tmp_path / "run", order=order))
    assert run.order == {("c1", 0): 0, ("c1:relu", 0): 1, ("c2", 0): 2, ("fc1", 0): 2, ("c1:relu", 1): 3}
    assert load(write_run(tmp_path / "old", schema=1)).order == {}


def test_everything_stands_in_the_order_of_execution_however_the_layers_are_declared(tmp_path):
    noise = [ScalarRow(STEPS, "train", f"{name}:relu", 0, "participation_ratio", 1.0) for name in SHUFFLED]
    for seed in range(2):
        write_run(tmp_path / f"run-s{seed}", seed=seed, declared=SHUFFLED, scalars=noise)
    runs = load([tmp_path / "run-s0", tmp_path / "run-s1"])
    acts = [f"{name}:relu" for name in WEIGHTS]
    assert runs[0].histograms("weight")["layer"].tolist() == list(WEIGHTS)
    assert weights.table(runs)["layer"].tolist() == list(WEIGHTS)
    assert gradient_flow.table(runs)["layer"].tolist() == acts
    assert [ax.get_title() for ax in dd.plots.gradient_flow(runs).axes][:3] == acts
    assert [ax.get_title() for ax in dd.plots.scalar(runs, "participation_ratio").axes] == acts
    assert [one.layer for one in sites(runs[0])] == [name for one in WEIGHTS for name in (one, f"{one}:relu")]
    assert [one.layer for one in last_values(runs[0])] == acts
    # who asks for an order gets it
    assert weights.table(runs, layers=list(SHUFFLED))["layer"].tolist() == list(SHUFFLED)


def test_panels_of_sites_that_one_condition_alone_has_stand_in_their_place(tmp_path):
    write_run(tmp_path / "plain", condition="Plain")
    more = [ScalarRow(step, "train", "mid:relu", 0, "net_grad_abs_mean", 1.0) for step in range(1, STEPS + 1)]
    order = one_rank_each("c1", "c1:relu", "mid:relu", "c2", "c2:relu", "fc1", "fc1:relu")
    write_run(tmp_path / "deep", condition="Deep", order=order, scalars=more)
    figure = dd.plots.gradient_flow(load([tmp_path / "plain", tmp_path / "deep"]), baseline="Plain")
    assert [ax.get_title() for ax in figure.axes][:4] == ["c1:relu", "mid:relu", "c2:relu", "fc1:relu"]


def test_orders_are_joined_behind_what_comes_before():
    plain, dropped = meta("a", "b", "c"), meta("a", "drop1", "b", "drop2", "c")
    found = joined([("plain", plain), ("dropped", dropped)])
    assert place(found, "a", "b", "c", "drop1", "drop2") == "a drop1 b drop2 c"
    assert found.problem == ""
    assert place(joined([("x", meta("b")), ("y", meta("a", "b"))]), "a", "b") == "a b"


@pytest.mark.parametrize("seed", range(20))
def test_joining_keeps_every_order_that_agrees_with_the_others(seed):
    rng = np.random.default_rng(seed)
    names = [f"n{i:02d}" for i in range(12)]
    orders = [[name for name in names if rng.random() < 0.6] for _ in range(4)]
    found = joined([(str(i), meta(*order)) for i, order in enumerate(orders)])
    # all are parts of one order, so none is turned, whatever was put where
    assert found.problem == ""
    assert all(found.layers(order) == order for order in orders)


def test_orders_that_contradict_each_other_stand_in_that_of_the_first_and_it_is_said(tmp_path):
    write_run(tmp_path / "one", condition="One")
    turned = one_rank_each("fc1", "fc1:relu", "c1", "c1:relu", "c2", "c2:relu")
    write_run(tmp_path / "two", condition="Two", order=turned)
    runs = load([tmp_path / "one", tmp_path / "two"])
    with pytest.warns(
        DropdiagWarning, match="one and two executed their layers in different orders: 'c1' comes before"
    ):
        table = gradient_flow.table(runs, baseline="One")
    assert table["layer"].tolist() == [f"{name}:relu" for name in WEIGHTS] * 2
    problems = dd.compare(runs, baseline="One", on_unreadable="ignore").problems
    assert any("in different orders" in problem for problem in problems)


def test_a_list_of_layers_contradicts_no_order():
    found = joined([("old", meta("c", "a", order=False)), ("new", meta("a", "b", "c"))])
    assert place(found, "a", "b", "c") == "a b c"
    assert found.problem == ""


def test_a_call_that_is_not_listed_follows_its_layer():
    places = Places(listed(meta("a", "b", order=False)))
    every = [("b", 0), ("a", 2), ("zz", 0), ("a", 0), ("a", 1)]
    for some in itertools.permutations(every, 5):
        assert places.sorted(some) == [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("zz", 0)]


def test_old_runs_are_named_by_calls_in_the_order_that_new_ones_recorded(tmp_path):
    write_run(tmp_path / "old", schema=1, condition="Old", declared=SHUFFLED)
    assert load([tmp_path / "old"]).histograms("net_value")["layer"].tolist() == [CALLED] * 3
    write_run(tmp_path / "new", condition="New", declared=SHUFFLED)
    both = load([tmp_path / "old", tmp_path / "new"])
    assert weights.table(both)["layer"].tolist() == list(WEIGHTS) * 2
