from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console

from dropdiag.errors import ArgumentError, DataError, RunError
from dropdiag.experiments.mnist import why_sections
from dropdiag.experiments.mnist.train import train
from dropdiag.experiments.reproduce import reproduce

from .conftest import InThisProcess, write_mnist

WHY = {section.name for section in why_sections.WHY}
DRAWN_ALONE = {"gaaf", "flow_at_equal_loss", "gradient_direction"}
TINY = {"epochs": 2, "batch_size": 50, "widths": (784, 12, 8, 8, 10), "seeds": 2, "measurements": 2}


def tiny(out, data, **changes):
    console = Console(file=io.StringIO())
    return reproduce(out, data=data, console=console, engine=InThisProcess(), **{**TINY, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mnist(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def made(tmp_path_factory, data):
    return tiny(tmp_path_factory.mktemp("made") / "out", data)


class Page(HTMLParser):
    """What a page is made of, and that every tag is closed."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_runs_figures_tables_and_page(made):
    out = made.page.parent
    assert made.page == out / "index.html"
    assert sorted(made.trained) == [
        f"{c}-s{s}" for c in ("dropout", "gaaf-fitted", "gaaf", "no-dropout") for s in (0, 1)
    ]
    assert made.kept == ()
    assert made.failed == {}
    figures = {"weights", "correlation", "gradient_flow", "net_variance", "saturation", "gaaf", "learning", *WHY}
    assert {p.name for p in (out / "figures").iterdir()} == {f"{f}.{e}" for f in figures for e in ("png", "svg", "pdf")}
    assert {p.name for p in (out / "tables").iterdir()} == {f"{f}.csv" for f in figures - DRAWN_ALONE}
    assert all(path.stat().st_size > 100 for path in made.files)
    flow = pd.read_csv(out / "tables" / "gradient_flow.csv")
    assert (len(flow), flow["seeds"].unique().tolist(), flow["steps"].unique().tolist()) == (12, [2], [8.0])


def test_the_page_stands_alone_and_can_be_read_by_everyone(made):
    page = Page(made.page.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.all("html") == [{"lang": "en"}]
    images = page.all("img")
    assert len(images) == 7 + len(WHY)
    assert all(image["src"].startswith("data:image/png;base64,") and len(image["alt"]) > 40 for image in images)
    assert [name for name, _ in page.tags if name in ("h1", "h2", "h3")][:2] == ["h1", "h2"]
    assert not page.all("script")
    assert not page.all("link")
    targets = [link["href"] for link in page.all("a")]
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for target in targets:
        assert target[1:] in anchors if target.startswith("#") else (made.page.parent / target).is_file()
    assert all("scope" in cell for cell in page.all("th"))


def test_the_page_says_what_is_inferred_and_where_data_come_from(made, data):
    text = re.sub(r"\s+", " ", Page(made.page.read_text(encoding="utf-8")).text)
    for words in (
        "8 runs: No dropout, Dropout, GAAF, GAAF fitted, 2 seeds each, 2 epochs of Adam at learning rate 0.001",
        f"200 training and 50 test images, MNIST from {data}",
        "this network is inferred from the plateaus of the paper's Figure 1",
        "No verdict is drawn on this page",
        "Creative Commons Attribution-ShareAlike 3.0",
        "Table 2, ratio to No dropout: Dropout 5.54 / 4.66 / 6.24",
        "torch",
        "dropout-s1",
    ):
        assert words in text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.usefixtures("quick_figures")
def test_a_second_call_trains_nothing_and_gives_the_same_tables(made, data, train_with):
    out = made.page.parent
    before = {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    train_with(lambda *_: pytest.fail("trained again"))
    again = tiny(out, data)
    assert again.trained == ()
    assert sorted(again.kept) == sorted(made.trained)
    assert {p.name: p.read_bytes() for p in (out / "tables").iterdir()} == before


@pytest.mark.usefixtures("quick_figures")
def test_an_interrupted_reproduction_goes_on(tmp_path, data, train_with):
    calls = []

    def stop_in_the_second(settings, data, path, progress):
        calls.append(path.name)

        def interrupt(step, accuracy):
            if len(calls) == 2 and step == 3:
                raise KeyboardInterrupt

        train(settings, data, path, interrupt)

    train_with(stop_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path, data, seeds=1)
    assert not (tmp_path / "index.html").exists()
    train_with(train)
    second = tiny(tmp_path, data, seeds=1)
    assert second.kept == ("no-dropout-s0",)
    assert second.trained == ("dropout-s0", "gaaf-s0", "gaaf-fitted-s0")
    aside = tmp_path / "interrupted" / "dropout-s0.interrupted-1" / "run.json"
    assert json.loads(aside.read_text())["state"] == "interrupted"


@pytest.mark.usefixtures("quick_figures")
def test_more_seeds_later_add_to_those_there(tmp_path, data):
    first = tiny(tmp_path, data, seeds=1, conditions=["Dropout", "no-dropout"])
    assert first.trained == ("dropout-s0", "no-dropout-s0")
    second = tiny(tmp_path, data, seeds=2, conditions=["No dropout", "Dropout"])
    assert second.trained == ("no-dropout-s1", "dropout-s1")
    weights = pd.read_csv(tmp_path / "tables" / "weights.csv")
    assert weights["condition"].unique().tolist() == ["No dropout", "Dropout"]


def test_other_settings_in_the_same_folder_are_refused(made, data):
    with pytest.raises(ArgumentError, match="epochs 2 there, 3 now"):
        tiny(made.page.parent, data, epochs=3)
    with pytest.raises(ArgumentError, match=r"data MNIST from .* there, the sample of MNIST .* now"):
        tiny(made.page.parent, None)


@pytest.mark.usefixtures("quick_figures")
def test_a_failed_run_is_named_and_the_others_are_drawn(tmp_path, data, train_with):
    def fail_with_gaaf(settings, *rest):
        if settings.condition == "GAAF":
            raise ValueError("<script>alert('no')</script>")
        train(settings, *rest)

    train_with(fail_with_gaaf)
    made = tiny(tmp_path, data, seeds=1)
    assert made.failed == {"gaaf-s0": "ValueError: <script>alert('no')</script>"}
    text = made.page.read_text(encoding="utf-8")
    assert "<script>" not in text
    assert "gaaf-s0: ValueError: &lt;script&gt;" in text
    train_with(lambda *_: 1 / 0)
    with pytest.raises(RunError, match=r"every run failed.*no-dropout-s0: ZeroDivisionError: division by zero"):
        tiny(tmp_path / "other", data, seeds=1)


@pytest.mark.usefixtures("png_alone")
def test_networks_that_collapse_are_drawn_all_the_same(tmp_path, data):
    made = tiny(tmp_path, data, seeds=1, optimizer="sgd", lr=1e30)
    assert made.failed == {}
    assert Page(made.page.read_text(encoding="utf-8")).open == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"conditions": []}, "no condition was given; choose among 'No dropout', 'Dropout', 'GAAF'"),
        ({"conditions": ["batchnorm"]}, "unknown condition 'batchnorm'"),
        ({"optimizer": "lion"}, "optimizer must be one of"),
    ],
)
def test_bad_options_raise_before_anything_is_written(tmp_path, data, change, message):
    with pytest.raises(ArgumentError, match=message):
        tiny(tmp_path / "out", data, **change)
    assert not (tmp_path / "out").exists()


def test_bad_data_raise_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match="no MNIST file in"):
        tiny(tmp_path / "out", tmp_path)
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_figures")
def test_the_console_tells_what_happens(tmp_path, data):
    console = Console(file=io.StringIO(), width=40)
    reproduce(
        tmp_path, data=data, console=console, engine=InThisProcess(), **{**TINY, "seeds": 1, "conditions": ["GAAF"]}
    )
    lines = console.file.getvalue().splitlines()
    assert lines[0] == f"Data: 200 training and 50 test images, MNIST from {data}"
    assert lines[1] == "Training 1 runs, 1 at a time"
    assert lines[2].startswith("[1/1] gaaf-s0 done, test accuracy 0.")
    assert lines[3:] == ["Drawing figures and tables"]
