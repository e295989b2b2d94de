"""Data sets of other image sizes, of which the paper has no numbers."""

from __future__ import annotations

import io
import re
import sys
import types

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dropdiag.experiments.asked import EXPERIMENTS
from dropdiag.experiments.data.datasets import DATASETS, Contents, Dataset, Split
from dropdiag.experiments.images.experiment import figure8
from dropdiag.experiments.reproduce import reproduce
from tests.experiments.conftest import InThisProcess, training_here, write_mnist
from tests.experiments.test_reproduce import Page
from tests.test_cli import call


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("fashion")
    data = write_mnist(root / "data", 60, 20, suffix="")
    with training_here():
        code, _, error = call(
            "reproduce", "fashion-mnist", "--data", data, "--epochs", 1, "--width", 0.06, "--batch-size", 20,
            "--every", 2, "--seeds", 2, "--jobs", 1, "--device", "cpu", "--conditions", "base", "--conditions", "gaaf",
            "--out", root / "out",
        )  # fmt: skip
    assert code == 0, error
    return root / "out", data


def test_tables_have_what_was_measured_and_nothing_of_the_paper(made):
    out, _ = made
    assert {path.name for path in (out / "runs").iterdir()} == {"base-s0", "base-s1", "gaaf-s0", "gaaf-s1"}
    for table in (out / "tables").iterdir():
        assert not [name for name in pd.read_csv(table) if name.startswith("paper")]
    accuracy = pd.read_csv(out / "tables" / "accuracy.csv")
    assert accuracy["gain_pairs"].tolist() == [0, 2]
    assert accuracy["final_accuracy"].between(0, 100).all()
    assert (out / "figures" / "accuracy.png").stat().st_size > 1000


def test_the_page_says_that_the_paper_has_no_numbers(made):
    out, data = made
    html = Page((out / "index.html").read_text(encoding="utf-8"))
    assert html.open == []
    assert len(html.all("img")) == 7
    text = re.sub(r"\s+", " ", html.text)
    for words in (
        "Batch norm and GAAF on Fashion-MNIST: the networks of Figure 8",
        f"60 training and 20 test images, Fashion-MNIST from {data}",
        "reports no numbers for these data, so that nothing stands beside them",
        "Fashion-MNIST is published by Zalando Research",
        "cropped at random to 28 x 28, and mirrored or not",
        "GAAF over ReLU",
    ):
        assert words in text
    for words in ("Figure 8, reproduced", "as published", "Measured against published", "no number for these"):
        assert words not in text
    headings = [cell for cell in html.all("th") if cell.get("class", "").strip() == "paper"]
    assert not headings


def test_it_is_the_only_one_without_published_numbers():
    assert [name for name, experiment in EXPERIMENTS.items() if not experiment.compared] == ["fashion-mnist"]


def test_data_sets_that_are_not_mirrored_say_why():
    assert {key: dataset.unflipped for key, dataset in DATASETS.items() if not dataset.flip} == dict.fromkeys(
        ["mnist", "svhn"], "a mirrored digit is none"
    )
    assert not any(dataset.unflipped for dataset in DATASETS.values() if dataset.flip)


@pytest.mark.usefixtures("quick_figures")
def test_a_new_data_set_is_a_reader_and_a_line_in_the_table(tmp_path, monkeypatch):
    def read(dataset, directory):
        random = np.random.default_rng(0)
        images, labels = random.integers(0, 256, (24, *dataset.shape)).astype(np.uint8), np.arange(24) % 3
        return Contents(Split(images[:18], labels[:18]), Split(images[18:], labels[18:]), directory, "those of a test")

    reader = types.ModuleType("stripes")
    reader.read = read
    monkeypatch.setitem(sys.modules, "dropdiag.experiments.data.stripes", reader)
    line = Dataset("stripes", "Stripes", 3, flip=False, publisher="by nobody", reader="stripes", shape=(2, 12, 9))
    monkeypatch.setitem(DATASETS, line.key, line)
    monkeypatch.setitem(EXPERIMENTS, line.key, figure8(line.key))  # as for every line when the module is imported
    made = reproduce(
        tmp_path / "out", "stripes", data=tmp_path, seeds=1, epochs=1, width=0.06, batch_size=6, device="cpu",
        conditions=["Base"], console=Console(file=io.StringIO()), engine=InThisProcess(),
    )  # fmt: skip
    assert made.failed == {}
    text = made.page.read_text(encoding="utf-8")
    assert "Batch norm and GAAF on Stripes: the networks of Figure 8" in text
    assert "Stripes is published by nobody. Read here were those of a test." in text
    assert "12 x 9, and not mirrored</td>" in text
    accuracy = pd.read_csv(tmp_path / "out" / "tables" / "accuracy.csv")
    assert accuracy["condition"].tolist() == ["Base"]
