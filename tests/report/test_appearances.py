"""Conditions are told apart by colour and line, and by colour and mark, however many there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropdiag.plots.style import COLOURS, LINES, MARKERS, looks
from dropdiag.report import appearances as page
from dropdiag.report.appearances import MARKS, appearances, dark_palette, dash, palette

NAMES = Path(page.__file__).parent / "templates" / "names.js"


@pytest.mark.parametrize("n", [1, 2, 7, 8, 40])
def test_every_pair_is_unique(n):
    found = appearances([f"c{i}" for i in range(n)])
    assert len({(one["colour"], one["dash"]) for one in found}) == n
    assert len({(one["colour"], one["symbol"]) for one in found}) == n
    assert {one["colour"] for one in found} <= set(range(len(palette())))


def test_the_first_look_as_they_do_in_the_figures():
    names = [f"c{i}" for i in range(min(len(COLOURS), len(LINES)))]
    for own, look in zip(appearances(names), looks(names).values(), strict=True):
        assert palette()[own["colour"]] == look.colour
        assert own["dash"] == dash(look.line)
        assert own["symbol"] == MARKS[look.marker]


def test_more_conditions_than_there_are_pairs_still_have_a_look():
    assert len(appearances([str(i) for i in range(500)])) == 500


def test_every_marker_of_the_figures_is_known_and_drawn_by_the_page():
    drawn = NAMES.read_text(encoding="utf-8")
    assert set(MARKERS) <= set(MARKS)
    assert all(
        name == "circle" or f'"{name}": ' in drawn or f"{name}: " in drawn or f"{name}," in drawn
        for name in MARKS.values()
    )


def test_lines_of_matplotlib_as_dash_arrays():
    assert dash("-") == ""
    assert dash((0, (5, 1.5))) == "10 3"
    assert dash((0, ())) == ""
    assert dash("--") == dash("dashed") == "7.4 3.2"


def test_a_colour_without_a_light_twin_is_made_lighter():
    assert page._lighter("#800000") == "#FF3D3D"
    assert len(dark_palette()) == len(palette())
    assert len(set(dark_palette())) == len(palette())
