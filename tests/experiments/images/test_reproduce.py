from __future__ import annotations

import io
import json
import re

import pandas as pd
import pytest
import torch
from rich.console import Console

import dropdiag as dd
from dropdiag.errors import ArgumentError, DataError, RunError
from dropdiag.experiments import page
from dropdiag.experiments import reproduce as module
from dropdiag.experiments.asked import EXPERIMENTS
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.images.train import ImageSettings, device_named, train
from dropdiag.experiments.reproduce import reproduce
from tests.experiments.conftest import InThisProcess
from tests.experiments.image_files import pack, published, python_batch, write, write_svhn
from tests.experiments.test_reproduce import Page
from tests.test_cli import call

TINY = ("--epochs", 1, "--width", 0.06, "--batch-size", 10, "--every", 5, "--device", "cpu")
FIGURES = {"accuracy", "learning", "gradient_flow", "saturation", "weights", "correlation", "gaaf"}
RUNS = {f"{c}-s{s}" for c in ("base", "batch-norm", "gaaf", "batch-norm-gaaf") for s in (0,)}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """CIFAR-10 through the command line, two processes at a time."""
    root = tmp_path_factory.mktemp("made")
    data = write(root / "data", published("cifar10"))
    code, said, error = call(
        "reproduce", "cifar10", "--data", data, *TINY, "--seeds", 1, "--jobs", 2, "--out", root / "out"
    )
    assert code == 0, error
    return root / "out", data, said, error


def test_the_command_makes_runs_figures_tables_and_a_page(made):
    out, _, said, error = made
    assert said == f"report:  {out / 'index.html'}\nfigures: {out / 'figures'}\ntables:  {out / 'tables'}\n"
    assert "Training 4 runs, 2 at a time" in error
    assert "Device: cpu; files that are not the published ones" in error
    assert {path.name for path in (out / "runs").iterdir()} == RUNS
    assert {p.name for p in (out / "figures").iterdir()} == {f"{f}.{e}" for f in FIGURES for e in ("png", "svg", "pdf")}
    assert {p.name for p in (out / "tables").iterdir()} == {f"{f}.csv" for f in FIGURES - {"gaaf", "learning"}}
    accuracy = pd.read_csv(out / "tables" / "accuracy.csv")
    assert accuracy["paper_accuracy"].tolist() == [89.55, 91.10, 90.16, 91.92]
    assert accuracy["gain_pairs"].tolist() == [0, 0, 1, 1]
    flow = pd.read_csv(out / "tables" / "gradient_flow.csv")
    assert (len(flow), flow["steps"].unique().tolist(), flow["baseline"].unique().tolist()) == (28, [10.0], ["Base"])
    assert flow["layer"].unique().tolist() == [*(f"Conv {i}" for i in range(1, 7)), "Hidden"]


def test_the_page_stands_alone_and_says_what_was_done(made):
    out, data, *_ = made
    html = Page((out / "index.html").read_text(encoding="utf-8"))
    assert html.open == []
    assert len(html.all("img")) == 7
    assert not html.all("script")
    targets = [link["href"] for link in html.all("a")]
    anchors = {attributes["id"] for _, attributes in html.tags if "id" in attributes}
    assert all(t[1:] in anchors if t.startswith("#") else (out / t).is_file() for t in targets)
    text = re.sub(r"\s+", " ", html.text)
    for words in (
        "Batch norm and GAAF on CIFAR-10: the networks of Figure 8, 0.06 times as wide",
        "4 runs: Base, Batch norm, GAAF, Batch norm + GAAF, 1 seed each, 1 epoch of SGD with momentum 0.9 at learning",
        f"100 training and 20 test images, CIFAR-10 from {data / 'cifar-10-batches-py'}",
        "Figure 8: Base 89.55 %; Batch norm 91.10 %; GAAF 90.16 % (+0.61 by GAAF); Batch norm + GAAF 91.92 % (+0.82",
        "Read here were files that are not the published ones: the MD5 of data_batch_1",
        "CIFAR-10 is published by Alex Krizhevsky",
        "does not state its networks",
        "Trained oncpu",
        "gradients of all weights together to norm 1",
    ):
        assert words in text
    for words in ("MNIST", "could not be", "layers 1, 2, 3", "Figure 1,"):
        assert words not in text.replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("width", "title"),
    [(1.0, "CIFAR-10: Figure 8, reproduced"), (0.5, "CIFAR-10: the networks of Figure 8, 0.5 times as wide")],
)
def test_the_title_promises_no_reproduction_of_another_network(made, width, title):
    out, data, *_ = made
    runs = dd.load(out / "runs")
    settings = ImageSettings("Base", 0, dataset="cifar10", width=width)
    words = page.words_of(page._templates(), EXPERIMENTS["cifar10"], settings, load_images("cifar10", data), runs)
    assert str(words.title) == f"Batch norm and GAAF on {title}"


@pytest.mark.usefixtures("quick_figures")
def test_a_second_call_trains_nothing_and_gives_the_same_tables(made, here, train_with):
    out, data, *_ = made
    before = {p.name: p.read_bytes() for p in (out / "tables").iterdir()}
    train_with(lambda *_: pytest.fail("trained again"))
    code, _, error = call("reproduce", "cifar10", "--data", data, *TINY, "--seeds", 1, "--out", out)
    assert code == 0
    assert "Kept, because finished: 4 of 4 runs" in error
    assert {p.name: p.read_bytes() for p in (out / "tables").iterdir()} == before


def test_other_settings_or_data_in_the_same_folder_are_refused(made):
    out, data, *_ = made
    code, _, error = call("reproduce", "cifar10", "--data", data, *TINY, "--seeds", 1, "--lr", 0.5, "--out", out)
    assert code == 2
    assert "lr 0.05 there, 0.5 now" in error
    code, _, error = call("reproduce", "cifar10", "--data", data, *TINY, "--limit", 40, "--out", out)
    assert code == 2
    assert "the first 40 of each (digest" in error
    code, _, error = call("reproduce", "mnist", "--out", out)
    assert code == 2
    assert "choose another --out" in error


def quick(monkeypatch):
    monkeypatch.setattr(module, "make_parts", lambda *_: [])


def test_an_interrupted_reproduction_goes_on(tmp_path, monkeypatch, here, train_with):
    quick(monkeypatch)
    data = write_svhn(tmp_path / "data")
    calls = []

    def stop_in_the_second(settings, data, path, progress):
        calls.append(path.name)

        def interrupt(step, accuracy):
            if len(calls) == 2 and step == 2:
                raise KeyboardInterrupt

        train(settings, data, path, interrupt)

    arguments = ("reproduce", "svhn", "--data", data, *TINY, "--seeds", 1, "--jobs", 1, "--out", tmp_path / "out")
    train_with(stop_in_the_second)
    code, _, error = call(*arguments)
    assert code == 130
    assert "finished runs are kept, and the same command goes on from" in error
    train_with(train)
    code, _, error = call(*arguments)
    assert code == 0
    assert "batch-norm-s0 was interrupted; moved to" in error
    assert "Kept, because finished: 1 of 4 runs" in error
    aside = tmp_path / "out" / "interrupted" / "batch-norm-s0.interrupted-1" / "run.json"
    assert json.loads(aside.read_text())["state"] == "interrupted"
    text = re.sub(r"\s+", " ", Page((tmp_path / "out" / "index.html").read_text(encoding="utf-8")).text)
    assert "not mirrored, since a mirrored digit is none" in text
    assert "SVHN is published by Yuval Netzer" in text


def test_cifar100_from_its_archive(tmp_path, monkeypatch, here):
    quick(monkeypatch)
    archive = pack(tmp_path / "cifar-100-binary.tar.gz", published("cifar100", version="binary"))
    code, _, error = call(
        "reproduce", "cifar100", "--data", archive, *TINY, "--limit", 12, "--seeds", 1, "--jobs", 1, "--amp",
        "--optimizer", "adam", "--conditions", "batch-norm", "--conditions", "batch-norm-gaaf", "--out", tmp_path / "o",
    )  # fmt: skip
    assert code == 0, error
    configs = {
        path.name: json.loads((path / "run.json").read_text())["config"] for path in (tmp_path / "o/runs").iterdir()
    }
    assert set(configs) == {"batch-norm-s0", "batch-norm-gaaf-s0"}
    assert configs["batch-norm-s0"]["amp"]
    assert (configs["batch-norm-s0"]["optimizer"], configs["batch-norm-s0"]["lr"]) == ("adam", 1e-3)


@pytest.mark.usefixtures("quick_figures")
def test_dropout_and_surrogates_are_trained_beside_gaaf_where_they_are_named(tmp_path, here):
    data = write(tmp_path / "data", published("cifar10"))
    named = ("base", "gaaf", "dropout", "sugar-b-silu", "sugar-nelu", "batch-norm", "batch-norm-dropout")
    conditions = [part for name in named for part in ("--conditions", name)]
    out = tmp_path / "out"
    code, _, error = call(
        "reproduce", "cifar10", "--data", data, *TINY, "--rate", 0.25, "--seeds", 2, "--jobs", 1, *conditions, "--out", out
    )  # fmt: skip
    assert code == 0, error
    table = pd.read_csv(out / "tables" / "accuracy.csv").set_index("condition")
    assert set(table.index) == {
        "Base",
        "GAAF",
        "Dropout",
        "SUGAR B-SiLU",
        "SUGAR NeLU",
        "Batch norm",
        "Batch norm + Dropout",
    }
    assert (table["difference_pairs"].drop("Base") == 2).all()
    assert table.index[table["gain_pairs"] > 0].tolist() == ["GAAF"]
    scalars = dd.load(out / "runs" / "dropout-s1").scalars
    share = scalars[(scalars["quantity"] == "dropped_share") & (scalars["layer"] == "layer7.dropout")]["value"]
    assert 0.15 < share.mean() < 0.35
    assert "dropout on the nodes of the hidden layer" in (out / "index.html").read_text(encoding="utf-8")


def test_the_folder_is_named_after_the_data_set(tmp_path, monkeypatch, here):
    quick(monkeypatch)
    write(tmp_path / "data", published("cifar10"))
    monkeypatch.chdir(tmp_path)
    code, said, error = call(
        "reproduce", "cifar10", "--data", "data", *TINY, "--seeds", 1, "--jobs", 1, "--conditions", "base"
    )
    assert code == 0, error
    assert said.startswith("report:  out/cifar10/index.html")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["cifar10", "--patience", "3"],
            "error: cifar10 does not take --patience; leave out what does not apply to it",
        ),
        (["mnist", "--width", "2", "--amp"], "error: mnist does not take --width, --amp; leave out what"),
        (["mnist", "--limit", "5", "--device", "cpu"], "error: mnist does not take --device; leave out what"),
        (["cifar10", "--data", "nowhere"], "error: no CIFAR-10 in nowhere; looked for cifar-10-batches-py/ or cifar"),
        (["svhn"], "error: SVHN is not shipped with dropdiag: name the folder"),
        (["svhn", "--conditions", "dropin"], "error: unknown condition 'dropin'; the conditions are 'Base'"),
        (["cifar100", "--width", "-1"], "error: width must be positive and finite, got -1.0"),
        (["cifar100", "--lr", "0"], "error: lr must be positive and finite, got 0.0"),
    ],
)
def test_errors_are_one_line_before_anything_is_written(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, said, error = call("reproduce", *arguments)
    assert (code, said) == (2, "")
    assert error.startswith(words)
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_malicious_data_are_refused_before_anything_is_written(tmp_path):
    files = published("cifar10")
    name = "cifar-10-batches-py/test_batch"
    files[name] = b"cos\nsystem\n(S'touch " + str(tmp_path / "ran").encode() + b"'\ntR."
    code, _, error = call("reproduce", "cifar10", "--data", write(tmp_path / "data", files), "--out", tmp_path / "out")
    assert code == 2
    assert f"{tmp_path / 'data' / name}: names os.system, which a data file has no use for" in error
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_bad_arguments_of_the_function(tmp_path):
    data = write(tmp_path / "data", published("cifar10"))
    console = Console(file=io.StringIO())
    for changes, error, words in (
        ({"conditions": []}, ArgumentError, "no condition was given; choose among 'Base'"),
        ({"seeds": 0}, ArgumentError, "seeds must be at least 1, got 0"),
        ({"limit": 1}, DataError, "one training image; batch norm needs two at least"),
    ):
        with pytest.raises(error, match=words):
            reproduce(tmp_path / "out", "cifar10", data=data, console=console, **changes)
    assert not (tmp_path / "out").exists()


def test_another_machine_decides_on_its_device(tmp_path, monkeypatch):
    class Elsewhere(InThisProcess):
        here = False

    quick(monkeypatch)
    data = write(tmp_path / "data", published("cifar10"))
    console = Console(file=io.StringIO())
    options = {"data": data, "seeds": 1, "epochs": 1, "width": 0.06, "batch_size": 50, "console": console}
    reproduce(tmp_path / "out", "cifar10", conditions=["Base"], engine=Elsewhere(), **options)
    assert "Device: auto; " in console.file.getvalue()
    trained = json.loads((tmp_path / "out" / "runs" / "base-s0" / "run.json").read_text())["config"]["device"]
    assert trained == device_named("auto")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(RunError, match="base-s0: ArgumentError: device 'mps' is not here"):
        reproduce(tmp_path / "mps", "cifar10", conditions=["Base"], engine=Elsewhere(), device="mps", **options)
    with pytest.raises(ArgumentError, match="device 'mps' is not here"):
        reproduce(tmp_path / "here", "cifar10", conditions=["Base"], device="mps", **options)
    assert not (tmp_path / "here").exists()


@pytest.mark.usefixtures("png_alone")
def test_networks_that_collapse_are_drawn_all_the_same(tmp_path):
    data = write(tmp_path / "data", {**published("cifar10"), "cifar-10-batches-py/data_batch_1": python_batch(40, 0)})
    made = reproduce(
        tmp_path / "out", "cifar10", data=data, seeds=1, epochs=1, width=0.03, batch_size=20, lr=1e30, clip=1e30,
        conditions=["GAAF"], device="cpu", console=Console(file=io.StringIO()), engine=InThisProcess(),
    )  # fmt: skip
    assert made.failed == {}
    assert Page(made.page.read_text(encoding="utf-8")).open == []
