from __future__ import annotations

import pytest

from dropdiag.analysis import correlation, kde, phases
from dropdiag.analysis.select import histograms
from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError
from dropdiag.store.reader import load
from tests.synthetic import content, write


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([["train"], ["train", "eval", "test"]], "eval"),
        ([["train"], ["train", "test"]], "test"),
        ([["test"], ["train"]], "test"),
        ([["train"], ["train"], []], "train"),
    ],
)
def test_one_phase_for_all(held, expected) -> None:
    runs = {f"r{i}": names for i, names in enumerate(held)}
    assert phases.common(runs, "q") == expected
    assert phases.common(runs, "q", "train") == "train"


def test_what_is_not_clear_or_not_there_is_refused() -> None:
    with pytest.raises(ArgumentError, match="several held-out phases, 'dev', 'test'; choose one with phase="):
        phases.common({"a": ["test", "train"], "b": ["dev"]}, "net_value")
    with pytest.raises(NotRecordedError, match="no run holds 'net_value' in phase 'dev'; recorded are 'train'"):
        phases.common({"a": ["train"]}, "net_value", "dev")
    with pytest.raises(NotRecordedError, match="no run holds 'net_value'; record it"):
        phases.common({"a": []}, "net_value")


def test_runs_that_lack_the_phase_are_left_out_by_name(tmp_path) -> None:
    paths = [
        write(tmp_path / "x" / "run", content("Dropout", 0), "Dropout", 0, phase="test"),
        write(tmp_path / "y" / "run", content("Dropout", 1), "Dropout", 1, phase="train"),
        write(tmp_path / "gaaf", content("GAAF", 0), "GAAF", 0, phase="test", also={"train": content("GAAF", 1)}),
    ]
    runs = load(paths)
    with pytest.warns(DropdiagWarning, match=f"no 'net_value' in phase 'test': '{paths[1]}'"):
        frame = histograms(runs, "net_value", layers=["layer1.activation"])
    assert list(frame["run"]) == [str(paths[0]), "gaaf"]  # as in the scalars of all runs
    assert set(frame["phase"]) == {"test"}
    with pytest.warns(DropdiagWarning, match=f"in phase 'train': '{paths[0]}'; choose a phase"):
        frame = histograms(runs, "net_value", layers=["layer1.activation"], phase="train")
    assert list(frame["run"]) == [str(paths[1]), "gaaf"]


@pytest.mark.filterwarnings("ignore:left out")
def test_the_correlations_table_finds_its_scalars_in_that_phase(tmp_path) -> None:
    runs = load([
        write(tmp_path / "x" / "run", content("Dropout", 0), "Dropout", 0, phase="test"),
        write(tmp_path / "y" / "run", content("Dropout", 1), "Dropout", 1, phase="train"),
    ])  # fmt: skip
    table = correlation.table(runs)
    assert (table["nodes"] == 90).all()
    assert (table["seeds"] == 1).all()


def test_several_held_out_sets_must_be_told_apart(tmp_path) -> None:
    run = load(write(tmp_path / "r", content("Dropout", 0), "Dropout", 0, "Tanh", "test", {"dev": content("GAAF", 0)}))
    with pytest.raises(ArgumentError, match="'dev', 'test'; choose one"):
        kde.curves(run, "net_value")
    assert len(kde.curves(run, "net_value", phase="dev", points=4)) == 12
