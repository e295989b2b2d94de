from __future__ import annotations

import json
from html.parser import HTMLParser
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag import notebook as display
from dropdiag.errors import ArgumentError
from tests.described import write_meta

from .cli.test_compare import CLAIMS, EFFECTS, PARTS
from .synthetic import content, write, write_runs


class Reader(HTMLParser):
    """Text of each tag, and whether tags close as they opened."""

    VOID = ()

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)


EVIL = "<script>alert('x')</script>"


def test_a_run(tmp_path):
    made = content("Dropout", 0, layers=1, steps=5, size=50)
    made.weight = {EVIL: next(iter(made.weight.values()))}
    path = write(tmp_path / "run", made, EVIL, 3)
    meta = json.loads((path / "run.json").read_text())
    write_meta((path / "run.json"), meta | {"warnings": [EVIL], "steps": 5, "cost": {"share": 0.031}})
    found = Reader(dd.load(path)._repr_html_())
    assert "script" not in found.tags
    assert found.words.count(EVIL) == 3, "condition, warning and layer, as text"
    assert "completed, 5 steps" in found.words
    assert "3.1% of the time of training" in found.words
    assert str(path) in found.words


def test_runs(tmp_path):
    found = Reader(write_runs(tmp_path, ["No dropout", "Dropout"], range(4), layers=1, steps=5, size=50)._repr_html_())
    words = found.words
    at = words.index("No dropout")
    assert words[at : at + 3] == ["No dropout", "4", "0 to 3"]
    assert "8 runs" in words
    assert words.count("completed") == 8


def test_many_runs_are_counted_and_not_all_listed(tmp_path):
    path = write(tmp_path / "run", content("Dropout", 0, layers=1, steps=5, size=50), "Dropout", 0)
    run = dd.load(path)
    found = Reader(dd.Runs([run] * 100)._repr_html_())
    assert "Each run; the first 30 of 100" in found.words
    assert found.words.count("completed") == 30


def comparison(**changes):
    claims = lambda: SimpleNamespace(table=CLAIMS, parts=PARTS)  # noqa: E731
    unmatched = pd.DataFrame([{"condition": "Dropout", "layer": EVIL, "reason": "no layer like it"}])
    parts = {"baseline": "No dropout", "conditions": ("No dropout", "Dropout"), "runs": [1, 2], "table": EFFECTS,
             "unmatched": unmatched, "problems": ("runs/x cannot be read",), "claims": claims}  # fmt: skip
    return SimpleNamespace(**(parts | changes))


def test_a_comparison():
    found = Reader(display.comparison(comparison()))
    assert {"script", "img"}.isdisjoint(found.tags)
    for words in (
        "supported",
        "5 pairs of seeds.",
        "\u2013 more gradient",
        "supported, provisional",
        "It is 3.44 times.; p = 0.012 over the family",
        "\u2013 read otherwise (not counted)",
        "runs/x cannot be read",
        EVIL,
        "gradient_flow (factor)",
        "2.72 to 4.06",
    ):
        assert words in found.words
    assert "nan" not in " ".join(found.words)


def test_a_comparison_without_verdicts_says_why():
    def none():
        raise ArgumentError("no claim applies")

    assert "no verdicts: no claim applies" in Reader(display.comparison(comparison(claims=none))).words


def test_a_long_comparison_is_cut_and_says_so():
    found = Reader(display.comparison(comparison(table=pd.concat([EFFECTS] * 100))))
    assert "Effects: 200; the first 60 are shown, all are in .table" in found.words


def test_the_real_comparison(tmp_path):
    module = pytest.importorskip("dropdiag.analysis.compare")
    pytest.importorskip("dropdiag.analysis.claims.claims")
    made = module.compare(write_runs(tmp_path, ["No dropout", "Dropout"], range(3), layers=2, steps=20, size=200))
    assert "Dropout" in " ".join(Reader(display.comparison(made)).words)


def test_claims_are_shown_with_their_parts_and_rules(tmp_path):
    runs = write_runs(tmp_path, ["No dropout", "Dropout"], range(3), layers=2, steps=20, size=200)
    claims = dd.compare(runs).claims()
    words = Reader(claims._repr_html_()).words
    assert claims.headline in words
    assert {row.statement for row in claims.table.itertuples()} <= set(words)
    assert claims.rules["c"] in words
    few = Reader(claims.only("c")._repr_html_()).words
    assert claims.rules["d"] not in few
    (part,) = claims.parts[claims.parts["claim"] == "c"].itertuples()
    assert any(word.startswith(part.reason) for word in few)


def test_a_figure_shows_once(tmp_path):
    """A cell shows its last value; what pyplot holds, the inline backend would show a second time."""
    runs = write_runs(tmp_path, ["No dropout", "Dropout"], range(2), layers=2, steps=20, size=200)
    for draw in (
        dd.plots.weights,
        dd.plots.gradient_flow,
        dd.plots.saturation,
        dd.plots.correlation,
        dd.plots.learning,
    ):
        figure = draw(runs)
        assert isinstance(figure, plt.Figure)
        assert figure._repr_png_().startswith(b"\x89PNG")
    assert plt.get_fignums() == []
