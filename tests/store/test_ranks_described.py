"""What several ranks say of themselves, as one run: layers, order, coverage, warnings, cost."""

from __future__ import annotations

import pytest

from dropdiag.errors import NotRecordedError
from dropdiag.store.ranks.coverage import numbered
from dropdiag.store.ranks.layers import joined
from dropdiag.store.reader import load
from tests.ranks import close, writer


def site(layer, kind="activation", skipped=None, **more):
    return {"layer": layer, "call": 0, "kind": kind, "type": "Tanh", "skipped": skipped, **more}


def covered(layer, fired=3, skipped=None, **more):
    return {"layer": layer, "call": 0, "kind": "activation", "type": "Tanh", "functional": False, "expected": True,
            "fired": fired, "sampled": None, "skipped": skipped, **more}  # fmt: skip


def record(path, ranks, steps=4):
    for rank, told in enumerate(ranks):
        end = {key: told.pop(key) for key in ("state", "steps") if key in told}
        close(writer(path, rank, len(ranks), **told), end.get("steps", steps), end.get("state", "completed"))
    return load(path)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        (["ab", "ab"], "ab"),
        (["ac", "abc"], "abc"),
        (["bc", "abc", "abcd"], "abcd"),
        (["ab", "cd", "cxd"], "abcxd"),
        (["", "ab"], "ab"),
        (["abc", "cba"], "abc"),
        (["ab", "xby"], "axby"),
        (["ab", "aab"], "ab"),
    ],
)
def test_lists_are_joined_as_the_first_has_them(lists, expected):
    assert "".join(joined(lists)) == expected


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [({3}, "rank 3"), ({0, 1}, "ranks 0-1"), ({0, 1, 2, 5}, "ranks 0-2 and 5"), ({1, 4, 7}, "ranks 1, 4 and 7")],
)
def test_ranks_in_words(ranks, expected):
    assert numbered(ranks) == expected


def test_layers_and_their_order_are_those_of_all_ranks(tmp_path):
    """Ranks that route to other experts: each lists and runs what it has."""
    run = record(tmp_path / "run", [
        {"layers": [site("in"), site("a", skipped="never ran"), site("out")], "order": [[["in", 0]], [["out", 0]]]},
        {"layers": [site("in"), site("a"), site("b"), site("out")],
         "order": [[["in", 0]], [["a", 0], ["b", 0]], [["out", 0]]]},
    ])  # fmt: skip
    assert run.layers["layer"].tolist() == ["in", "a", "b", "out"]
    assert run.layers["skipped"].tolist() == [None] * 4
    assert run.order == {("in", 0): 0, ("a", 0): 1, ("b", 0): 1, ("out", 0): 2}
    assert run.ranks.table["differs"].tolist() == ["", "records a, b besides"]


def tensors(*layers, why=None, last=None):
    rows = [{"kind": "net", "layer": layer, "call": 0, "next": at + 1, "between": "tanh", "same": False, "why": why}
            for at, layer in enumerate(layers)]  # fmt: skip
    return [*rows, {**rows[-1], "kind": "output", "layer": "(output)", "next": last, "between": "", "why": None}]


def test_the_chain_is_that_of_all_ranks(tmp_path):
    run = record(tmp_path / "run", [{"chain": tensors("a", "b")}, {"chain": tensors("a", "b", why="no path")}, {}])
    assert run.meta["chain"] == tensors("a", "b", why="no path")
    assert record(tmp_path / "none", [{}, {}]).meta["chain"] == []


def test_chains_that_differ_are_none(tmp_path):
    run = record(tmp_path / "run", [{"chain": tensors("a", "b")}, {"chain": tensors("a")}])
    (told,) = run.meta["chain"]
    assert (told["kind"], told["next"]) == ("output", None)
    assert "ranks have other layers" in told["why"]


def test_coverage_says_on_which_ranks_a_site_was_recorded(tmp_path):
    rows = [
        covered("a"),
        covered("b", fired=2, sampled="1 in 4 values"),
        covered("c", 0, skipped="no values"),
        covered("d"),
    ]
    other = [
        covered("a", 4),
        covered("b", 0, skipped="no forward pass went through it"),
        covered("c", 0, skipped="no values"),
    ]
    run = record(tmp_path / "run", [{"coverage": rows}, {"coverage": other}, {"coverage": other}])
    table = run.coverage()
    assert [row.layer for row in table] == ["a", "b", "c", "d"]
    assert [row.fired for row in table] == [11, 2, 0, 3]
    assert [row.skipped for row in table] == [None, None, "no values", None]
    assert [row.ranks for row in table] == [
        None, "on rank 0 of 3; ranks 1-2: no forward pass went through it", None, "on rank 0 of 3"
    ]  # fmt: skip
    assert table[1].sampled == "1 in 4 values"
    assert [row.layer for row in table.silent] == ["c"]
    assert "on rank 0 of 3" in str(table)
    assert run.ranks[1].coverage()[0].fired == 4
    assert "ranks" not in run.ranks[1].coverage().as_dicts()[0]


def test_coverage_lacks_a_rank_that_was_killed_and_says_so(tmp_path):
    run = record(tmp_path / "run", [{"coverage": [covered("a")]}, {"state": "killed", "steps": 2}])
    assert [(row.fired, row.ranks) for row in run.coverage()] == [(3, "on rank 0 of 2")]
    with pytest.raises(NotRecordedError, match="has no coverage table"):
        record(tmp_path / "other", [{"state": "killed"}, {"state": "killed"}]).coverage()


def test_warnings_and_disabled_probes_say_whose_they_are(tmp_path):
    lost = {"probe": "moments", "layer": "a", "cause": "boom"}
    missing = {"phase": "flatness", "why": "no second derivative", "of": [["hessian_trace", None]]}
    run = record(tmp_path / "run", [
        {"warnings": ["all"], "disabled_probes": []},
        {"warnings": ["all", "mine"], "disabled_probes": [lost], "missing": [missing]},
        {"warnings": ["all"], "disabled_probes": [lost], "missing": [missing]},
    ])  # fmt: skip
    assert run.meta["missing"] == [missing]
    assert run.meta["warnings"] == ["all", "rank 1: mine"]
    assert run.meta["disabled_probes"] == [{**lost, "on": "ranks 1-2"}]
    assert run.ranks.table["differs"].tolist() == ["", *["without the probe moments at a"] * 2]


def test_the_cost_is_that_of_the_slowest_rank(tmp_path):
    costs = [{"share": 0.01, "step_seconds": 3.0}, {"share": 0.3, "step_seconds": 4.0}, {"share": None}]
    run = record(tmp_path / "run", [{"cost": cost} for cost in costs])
    assert run.meta["cost"].items() >= costs[1].items()


def test_what_ranks_say_of_themselves_is_theirs(tmp_path):
    run = record(tmp_path / "run", [{"steps": 4}, {"steps": 3, "config": {"condition": "Dropout", "seed": 2}}])
    assert (run.meta["steps"], run.seed) == (4, 1)
    assert (run.ranks[1].meta["steps"], run.ranks[1].seed, run.ranks[1].name) == (3, 2, "run/rank-1")
    assert run.under("A").ranks[1].condition == "A"
