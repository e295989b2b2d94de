"""The page in headless Chromium: names in any script, many conditions, gaps, and paper."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

import dropdiag as dd
from tests.report.test_browser import chart, downloaded
from tests.synthetic import content, write

LEFTWARD = ["ללא השמטה (בסיס) 0", 'השמטה 0.5 <b>&"x"', "تسرب 0.5 (١)"]


@pytest.fixture(scope="module")
def leftward_file(tmp_path_factory):
    """Conditions and layers whose names are written from right to left, and others that are long or wide."""
    folder, paths = tmp_path_factory.mktemp("leftward"), {}
    layers = ["שכבה.1 (א)", "エンコーダ.層2", "averylongnameofalayerwithoutanyspaceordotatwhichitcouldbebroken" * 2]
    for i, condition in enumerate(LEFTWARD):
        for seed in (0, 1):
            made = content("Dropout", i + 3 * seed, layers=3, steps=10, size=300)
            for name in ("weight", "net_value", "node_correlation", "gradient_flow"):
                setattr(made, name, dict(zip(layers, getattr(made, name).values(), strict=True)))
            paths.setdefault(condition, []).append(write(folder / f"run{i}-{seed}", made, condition, seed))
    return dd.report(dd.load(paths), tmp_path_factory.mktemp("out") / "leftward.html", baseline=LEFTWARD[0])


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_names_from_right_to_left_keep_the_words_beside_them_in_order(visit, leftward_file, size):
    with visit(leftward_file, size) as page:
        head = page.locator("header .condition").first
        assert head.locator("bdi").inner_text() == LEFTWARD[0]
        # "× 2" stands to the right of the name, as a reader of the page's language reads it
        left, right = head.evaluate("""(host) => {
            const name = host.querySelector('bdi'), rest = document.createRange();
            rest.selectNodeContents(name.nextSibling);
            return [name.getBoundingClientRect().right, rest.getBoundingClientRect().left];
        }""")
        assert right >= left - 1
        figure = chart(page, "effects")
        ticks = figure.locator("svg text").all_text_contents()
        labels = [text for text in ticks if "שכבה" in text]
        assert labels
        assert all(text.startswith("\u2068") and text.endswith("\u2069") for text in labels)
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
        outside = figure.evaluate("""(f) => [...f.querySelectorAll('svg text')].filter((one) => {
            const box = one.getBoundingClientRect(), own = f.getBoundingClientRect();
            return box.width && (box.left < own.left - 1 || box.right > own.right + 1);
        }).map((one) => one.textContent)""")
        assert outside == [], "a label that is cut off at the side names nothing"
        _, text = downloaded(page, figure.get_by_role("button", name="Download CSV"))
        rows = list(csv.DictReader(io.StringIO(text.decode("utf-8"))))
        assert {row["condition"] for row in rows} == set(LEFTWARD[1:])
        assert rows[0]["layer"] == "שכבה.1 (א)"
        assert float(rows[0]["factor"]) == pytest.approx(np.exp(float(rows[0]["effect"])))


@pytest.fixture(scope="module")
def many_file(tmp_path_factory):
    """Nine conditions, so that marks and lines must be told apart by more than their colour."""
    folder = tmp_path_factory.mktemp("many")
    names = ["No dropout", *(f"Dropout {i}, with a name of some length" for i in range(8))]
    paths = {name: [write(folder / f"{i}-{seed}", content("Dropout", 10 * i + seed, layers=2, steps=10, size=200), name, seed)
                    for seed in (0, 1)] for i, name in enumerate(names)}  # fmt: skip
    return dd.report(dd.load(paths), tmp_path_factory.mktemp("out") / "many.html")


@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_every_condition_has_a_mark_that_is_seen(visit, many_file, size):
    with visit(many_file, size) as page:
        figure = chart(page, "effects")
        marks = figure.evaluate("""(f) => [...f.querySelectorAll('svg [aria-label=dot] path, svg g path')]
            .filter((one) => /Z/i.test(one.getAttribute('d') || '') && one.getBBox().width > 3)
            .map((one) => [getComputedStyle(one).fill, one.getAttribute('d'), one.getBoundingClientRect().top])""")
        assert len(marks) == 8 * 2
        assert all(fill.startswith("rgb") for fill, _, _ in marks)
        assert len({(fill, outline) for fill, outline, _ in marks}) == 8
        tops = sorted(top for _, _, top in marks)
        assert min(np.diff(tops)) > 5, "no mark lies on another"


@pytest.mark.parametrize("file", ["page_file", "leftward_file", "many_file", "deep_file"])
def test_on_paper_no_column_is_lost(visit, file, request):
    with visit(request.getfixturevalue(file)) as page:
        page.set_viewport_size({"width": 710, "height": 1000})  # A4 less its margins, at 96 dpi
        page.emulate_media(media="print")
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        lost = page.evaluate("""() => [...document.querySelectorAll('.table')]
            .filter((one) => one.offsetParent && one.scrollWidth > one.clientWidth + 1)
            .map((one) => `${one.getAttribute('aria-label')}: ${one.scrollWidth} > ${one.clientWidth}`)""")
        assert lost == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 710
        broken = page.evaluate("""() => [...document.querySelectorAll('td.n')].filter((one) => {
            const text = document.createRange();
            text.selectNodeContents(one);
            return /^[0-9.]+$/.test(one.textContent) && one.offsetParent && text.getClientRects().length > 1;
        }).length""")
        assert broken == 0, "a number is never broken in two"
        assert page.locator(".legend .condition").count() > 0
        assert page.locator(".untested[open]").count() == 0


def test_a_condition_that_lacks_a_layer_has_no_line_through_it(visit, tmp_path):
    made = {
        "A": content("Dropout", 0, layers=5, steps=10, size=200),
        "B": content("Dropout", 1, layers=5, steps=10, size=200),
    }
    for name in ("weight", "net_value", "node_correlation", "gradient_flow"):
        every = getattr(made["B"], name)
        setattr(made["B"], name, {key: every[key] for i, key in enumerate(every) if i not in (1, 2)})
    paths = {name: [write(tmp_path / name, one, name, 0)] for name, one in made.items()}
    file = dd.report(dd.load(paths), tmp_path / "page.html", baseline="A")
    with visit(file) as page:
        figure = chart(page, "gradient_flow", kind=".profiles")
        solid = figure.evaluate("""(f) => f.chart.spec.lines.map((line) =>
            report.stretches(line, f.chart.spec.dots).map((one) => [line.x[one.from], line.x[one.to]]))""")
        assert solid == [[[1, 5]], [[1, 1], [4, 5]]]


def test_a_curve_is_pale_and_broken_off_where_a_run_has_ended(visit, tmp_path):
    paths = [write(tmp_path / f"s{i}", content("Dropout", i, layers=1, steps=20 + 10 * i, size=200), "Dropout", i) for i in range(2)]  # fmt: skip
    file = dd.report(dd.load({"Dropout": paths}), tmp_path / "page.html")
    with visit(file) as page:
        figure = chart(page, "learning")
        assert (
            figure.locator(".sub").inner_text()
            == "in training; n = 2, pale and broken off where fewer runs have values"
        )
        drawn = figure.evaluate("""(f) => [...f.querySelectorAll('svg g[stroke-opacity], svg g[stroke-width]')]
            .map((one) => [one.getAttribute('stroke-opacity') || '1', one.querySelectorAll('path').length])""")
        opacities = {opacity for opacity, count in drawn if count}
        assert {"1", "0.4"} <= opacities
