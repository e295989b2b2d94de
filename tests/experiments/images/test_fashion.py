"""A data set of another image size, of which the paper has no numbers."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from dropdiag.experiments.reproduce import EXPERIMENTS
from tests.experiments.conftest import write_mnist
from tests.experiments.test_reproduce import Page
from tests.test_cli import call


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("fashion")
    data = write_mnist(root / "data", 60, 20, suffix="")
    code, _, error = call(
        "reproduce", "fashion-mnist", "--data", data, "--epochs", 2, "--width", 0.06, "--batch-size", 20, "--every", 2,
        "--seeds", 2, "--jobs", 2, "--device", "cpu", "--conditions", "base", "--conditions", "gaaf",
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
