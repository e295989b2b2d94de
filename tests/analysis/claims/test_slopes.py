"""A trend over layers is taken over the order of execution, or not at all."""

from __future__ import annotations

import pytest

import dropdiag as dd
from dropdiag.store.reader import load
from tests.versions import WEIGHTS, write_run

PARALLEL = [[["c1", 0]], [["c1:relu", 0]], [["c2", 0], ["fc1", 0]], [["c2:relu", 0], ["fc1:relu", 0]]]
TURNED = [[[name, 0]] for one in ("c2", "c1", "fc1") for name in (one, f"{one}:relu")]


def compared(folder, *, old=False, base_order=None, order=None, rows=(), declared=WEIGHTS):
    for seed in range(5):
        write_run(folder / f"base-s{seed}", schema=1 if old else 2, condition="Base", seed=seed, order=base_order,
                  declared=declared)  # fmt: skip
        write_run(folder / f"drop-s{seed}", condition="Drop", seed=seed, level=2.0, order=order, rows=rows)
    return dd.compare(load({"Base": str(folder / "base-*"), "Drop": str(folder / "drop-*")}), on_unreadable="ignore")


def verdict(found):
    claims = found.claims()
    row = claims.table.set_index("claim").loc["d"]
    slope = claims.parts[claims.parts["measure"] == "saturation_share_slope"]
    return row["verdict"], row["reason"], slope


@pytest.mark.parametrize("declared", [WEIGHTS, WEIGHTS[::-1]])
def test_the_slope_is_that_over_execution_however_the_layers_are_declared(tmp_path, declared):
    said, _, slope = verdict(compared(tmp_path, declared=declared))
    assert said == "supported"
    assert slope["effect"].item() == pytest.approx(0.1, rel=0.1)  # 0.1, 0.2 and 0.3 more, layer by layer


def test_what_lies_between_the_layers_of_one_condition_changes_no_slope(tmp_path):
    order = [
        [["c1", 0]],
        [["c1:relu", 0]],
        [["drop", 0]],
        *[[[name, 0]] for name in ("c2", "c2:relu", "fc1", "fc1:relu")],
    ]
    rows = [{"layer": "drop", "call": 0, "kind": "dropout", "type": "Dropout", "activation": None, "shape": None}]
    found = compared(tmp_path, order=order, rows=rows)
    assert verdict(found)[0] == "supported"
    assert verdict(found)[2]["effect"].item() == pytest.approx(0.1, rel=0.1)
    assert found.unmatched.empty
    assert not [problem for problem in found.problems if "layers" in problem]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"old": True}, "no recorded order of execution in base-s0, base-s1, base-s2 and 2 more"),
        ({"base_order": []}, "no recorded order of execution in base-s0"),
        ({"base_order": PARALLEL, "order": PARALLEL}, "layers in parallel branches share a rank (c2:relu, fc1:relu)"),
        ({"order": TURNED}, "the runs executed their layers in different orders"),
    ],
)
def test_without_one_order_the_slope_is_undecided_and_says_why(tmp_path, options, why):
    said, reason, slope = verdict(compared(tmp_path, **options))
    assert said == "in part"
    assert f"more so in higher layers is undecided: {why}" in reason
    assert slope.empty
    assert "(supported, " in reason  # the share itself is judged all the same
