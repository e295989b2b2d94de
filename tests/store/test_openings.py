"""Each file is opened once for a question, counted from outside."""

import pytest

from dropdiag.analysis import gradient_flow, learning, overview, select
from dropdiag.store import lists, reading
from dropdiag.store.reader import load
from tests.openings import openings
from tests.synthetic import content, write


def test_openings_are_counted_one_by_one(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("a", "inner/b"):
        (tmp_path / name).write_text("x")
    with openings(tmp_path) as counted:
        for name in ("a", "inner/b", "a", "a"):
            (tmp_path / name).read_text()
        with (tmp_path / "inner/b").open() as first, (tmp_path / "inner/b").open() as second:
            assert first.read() == second.read()
    assert counted in ({"a": 3, "inner/b": 2}, {"a": 3, "inner/b": 3})


@pytest.fixture
def folder(tmp_path):
    for seed in range(5):
        made = content("Dropout", seed, steps=20, size=50)
        write(tmp_path / f"run-{seed}", made, "Dropout", seed)
    return tmp_path


def once(folder, *tables):
    return {f"run-{seed}/rank-0/{p.name}": 1 for seed in range(5) for table in tables
            for p in (folder / f"run-{seed}" / "rank-0").glob(f"{table}-*")}  # fmt: skip


@pytest.mark.parametrize(
    "ask",
    [
        lambda runs: runs.histograms("weight"),
        lambda runs: runs.histograms(["weight", "net_value", "node_correlation"]),
        lambda runs: runs.histograms("net_value", step="all", phase="eval"),
        lambda runs: select.histograms(runs, "net_value"),
        lambda runs: [run.histogram("weight", "layer1.linear") for run in runs],
        lambda runs: [(run.phases("weight")) for run in runs],
    ],
)
def test_a_question_opens_the_histograms_of_a_run_once(folder, ask):
    runs = load({"All": str(folder / "run-*")})
    with openings(folder) as counted:
        ask(runs)
    assert counted == once(folder, "histograms")


def test_a_run_opens_scalars_and_histograms_once(folder):
    runs = load({"All": str(folder / "run-*")})
    with openings(folder) as counted:
        for run in runs:
            run.select("loss")
            run.histograms("net_value")
    assert counted == once(folder, "scalars", "histograms")


def test_scalars_are_opened_once_for_all_questions(folder):
    with openings(folder) as counted:
        runs = load({"All": str(folder / "run-*")})
        gradient_flow.table(runs)
        gradient_flow.curves(runs)
        learning.curves(runs)
        learning.best(runs)
    assert counted == {**once(folder, "scalars"), **{f"run-{seed}/run.json": 1 for seed in range(5)}}


def test_large_files_and_many_segments_are_opened_once_as_well(folder, monkeypatch):
    runs = load({"All": str(folder / "run-*")})
    expected = runs.histograms(["weight", "net_value"])
    monkeypatch.setattr(reading, "WHOLE_BYTES", 0)
    with openings(folder) as counted:
        found = runs.histograms(["weight", "net_value"])
    assert counted == once(folder, "histograms")
    assert found.equals(expected)
    monkeypatch.setattr(lists, "OPEN_FILES", 0)  # closed after the keys, and opened again
    assert runs.histograms(["weight", "net_value"]).equals(expected)


def test_showing_a_run_opens_its_files_once(folder):
    run = load(folder / "run-0")
    with openings(folder / "run-0") as counted:
        overview.sites(run)
    assert set(counted.values()) == {1}
    assert {name.split("-")[1][2:] for name in counted} == {"scalars", "histograms"}
