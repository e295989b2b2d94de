"""The file: self-contained, escaped, replaced whole, without torch; and a package that is also a function."""

import hashlib
import html.parser
import importlib
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import dropdiag as dd
from dropdiag.report.appearances import dark_palette, palette
from dropdiag.store.reader import load
from tests.report.stand_in import Comparison, comparison
from tests.synthetic import content, write

HOSTILE = ["<script>alert(1)</script>", "\"quoted\" & 'single'", "</script><img src=x onerror=alert(2)>"]


class Tags(html.parser.HTMLParser):
    """All elements with their attributes, and the text of each script."""

    def __init__(self, text):
        super().__init__()
        self.found, self.scripts, self.inside = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag == "script"
        self.scripts += [""] * self.inside

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Runs whose every name is an attack."""
    folder, paths = tmp_path_factory.mktemp("hostile"), {}
    for i, condition in enumerate(HOSTILE):
        made = content("Dropout", i, layers=2, steps=20)
        for name in ("weight", "net_value", "node_correlation", "gradient_flow"):
            setattr(made, name, {f"{HOSTILE[k]}.{k}": one for k, one in enumerate(getattr(made, name).values())})
        paths[condition] = [write(folder / f"run{i}", made, condition, i)]
    return load(paths)


@pytest.fixture(scope="module")
def hostile_file(hostile, tmp_path_factory):
    made = comparison(hostile)
    unmatched = pd.DataFrame({"condition": [HOSTILE[0]], "layer": [HOSTILE[2]], "reason": [HOSTILE[1]]})
    made = Comparison(hostile, made.baseline, made.conditions, made.table, unmatched, (HOSTILE[2],))
    return dd.report(made, tmp_path_factory.mktemp("out") / "hostile.html", title=HOSTILE[2])


def test_names_are_text_and_never_markup(hostile_file):
    tags = Tags(hostile_file.read_text(encoding="utf-8"))
    assert len(tags.scripts) == 11
    assert not [tag for tag, _ in tags.found if tag == "img"]
    assert not [attrs for _, attrs in tags.found if any(name.startswith("on") for name in attrs)]
    figures = json.loads(tags.scripts[0])
    assert [one["name"] for one in figures["conditions"]] == HOSTILE


def test_nothing_is_fetched_and_scripts_are_named_by_their_hash(page_file):
    text = page_file.read_text(encoding="utf-8")
    tags = Tags(text)
    assert not [attrs for _, attrs in tags.found if attrs.get("src") or (attrs.get("href") or "#")[0] != "#"]
    policy = next(attrs["content"] for tag, attrs in tags.found if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'none'" in policy
    assert policy.count("sha256-") == 9
    assert "unsafe-inline" not in policy.split("style-src")[0]


def test_what_is_vendored_is_what_was_published():
    folder, record = (
        Path(dd.report.__file__).parent / "vendor",
        Path("docs/adr/0012-the-report-is-drawn-by-observable-plot.md"),
    )
    written = dict(
        re.findall(r"\| `([^`]+\.js)` \|.*\| `([0-9a-f]{64})` \|", (Path(__file__).parents[2] / record).read_text())
    )
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.js")} == written
    assert {path.stem for path in folder.glob("*.LICENSE")} >= {"d3", "plot"}


def test_the_file_is_small(page_file, deep_file):
    assert page_file.stat().st_size < 2e6
    assert deep_file.stat().st_size < 10e6


def test_the_same_runs_give_the_same_page(runs, page_file, tmp_path):
    again = dd.report(comparison(runs), tmp_path / "deep" / "er" / "again.html", title="Three conditions")
    assert again.read_bytes() == page_file.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["again.html"]


def test_a_folder_is_no_file(runs, tmp_path):
    with pytest.raises(dd.DropdiagError, match=r"is a folder; give the file to write, such as .*report.html"):
        dd.report(comparison(runs), tmp_path)


def test_an_error_leaves_the_old_page(runs, tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(dd.DropdiagError):
        dd.report("no runs", path)
    assert path.read_text() == "old"


def test_the_package_is_a_function_whatever_was_imported_before():
    module = importlib.import_module("dropdiag.report")
    assert dd.report is module
    assert callable(dd.report)
    assert list(inspect.signature(dd.report).parameters) == ["runs", "path", "title", "baseline", "layers", "claims"]
    assert importlib.import_module("dropdiag.report.serve").watch
    for first in (
        "",
        "import dropdiag.report",
        "import dropdiag.report.serve",
        "from dropdiag.report.page import report",
    ):
        script = (
            f"{first}\nimport dropdiag as dd\nassert callable(dd.report) and dd.report.__name__ == 'dropdiag.report'"
        )
        subprocess.run([sys.executable, "-c", script], check=True)


def test_writing_a_page_needs_no_torch(tmp_path):
    path = write(tmp_path / "run", content("Dropout", 0, steps=10), "Dropout", 0)
    script = (
        f"import sys, dropdiag as dd\nimport dropdiag.report.serve\ndd.report(dd.load({str(path)!r}), {str(tmp_path / 'r.html')!r})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_lines_stand_out_on_both_backgrounds():
    def contrast(a, b):
        low, high = sorted([luminance(a), luminance(b)])
        return (high + 0.05) / (low + 0.05)

    assert len(dark_palette()) == len(palette())
    assert min(contrast(colour, "#14171a") for colour in dark_palette()) >= 3
    assert min(contrast(colour, "#ffffff") for colour in palette()[:3]) >= 3


def test_tables_hold_full_values_beside_rounded_ones(page_file):
    text = page_file.read_text(encoding="utf-8")
    cells = re.findall(r'<td class="n" data-value="([^"]+)">([^<]+)</td>', text)
    pairs = [(float(full), shown) for full, shown in cells if re.fullmatch(r"\d\.\d{3} \([^)]*\)", shown)]
    assert len(pairs) > 10
    assert all(abs(full - float(shown.split()[0])) <= 0.0005 + 1e-9 for full, shown in pairs)
