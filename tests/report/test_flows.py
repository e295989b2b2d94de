"""The section on where the gradient comes from has the numbers of the decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from dropdiag.analysis import flow_decomposition as decomposition
from dropdiag.report.data import gather
from dropdiag.store.reader import Runs, load
from tests.flows import flow_runs
from tests.openings import openings


def loaded(folder) -> Runs:
    return load({"No dropout": f"{folder}/no-*", "Dropout": f"{folder}/dropout-*"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    at = tmp_path_factory.mktemp("flow")
    flow_runs(at, steps=6)
    return at


def test_the_table_has_the_factors_of_each_layer_and_the_total(folder) -> None:
    runs = loaded(folder)
    content = gather(runs)
    (section,) = [one for one in content.diagnostics if one.section.name == "flow_decomposition"]
    table, frame = section.table, decomposition.table(runs)
    assert table.heads == [
        "Condition",
        "Layer",
        "Output error",
        "Transport",
        "Mask",
        "Slope",
        "Total",
        "Seeds",
        "Steps",
    ]
    for row in table.rows:
        layer = row[1].value
        for head, cell in list(zip(table.heads, row, strict=True))[2:7]:
            part = frame[(frame["layer"] == layer) & (frame["term"] == head.lower())]["effect"]
            assert (cell.value == "") == part.empty
            np.testing.assert_allclose([float(cell.value)] if cell.value else [], np.exp(part), rtol=1e-12)
        assert [cell.shown for cell in row[-2:]] == ["3 / 3", "6"]
    assert [row[1].value for row in table.rows] == ["act1", "act2", "act3"]
    others = [one for one in content.diagnostics if one.section.name == "other_scalars"]
    assert not others  # what the decomposition read is told once


def test_the_chart_has_the_same_numbers(folder) -> None:
    runs = loaded(folder)
    content, frame = gather(runs), decomposition.table(runs).set_index(["layer", "term"])
    terms = content.figures["sections"]["flow_decomposition"]["terms"]
    assert terms["kinds"] == ["output error", "transport", "mask", "slope", "total"]
    assert [layer for layer, _ in terms["sites"]] == ["act1", "act2", "act3"]
    assert list(terms["effects"]) == [runs.conditions.index("Dropout")]
    rows = iter(terms["effects"][runs.conditions.index("Dropout")])
    for layer, _ in terms["sites"]:
        for kind in terms["kinds"]:
            told, known = next(rows), (layer, kind) in frame.index
            expected = frame.loc[(layer, kind), ["effect", "low", "high"]].tolist() if known else [None] * 3
            assert told == expected


def test_the_page_opens_each_file_of_scalars_once_the_flow_included(folder) -> None:
    with openings(folder) as opened:
        gather(loaded(folder))
    numbers = [times for name, times in opened.items() if "scalars" in name]
    assert numbers == [1] * len(loaded(folder))
