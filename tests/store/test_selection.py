"""What is asked for is read, whatever happens to the files meanwhile."""

import pytest

from dropdiag.errors import ArgumentError
from dropdiag.store import batches, reading
from dropdiag.store.files import compact
from dropdiag.store.reader import load
from dropdiag.store.run import Run
from tests.store.test_run_folder import write


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"quantity": 3}, "quantity= takes a name, a list of names or None for all, got 3"),
        ({"layer": ["a", 1]}, "layer= takes a name, .* got 1"),
        ({"steps": "last"}, r"steps= takes a step, \(first, last\) or None for all, got 'last'"),
        ({"steps": (1, 2, 3)}, r"got \(1, 2, 3\)"),
    ],
)
def test_what_is_no_name_or_step_is_refused(tmp_path, asked, message):
    write(tmp_path / "run")
    with pytest.raises(ArgumentError, match=message):
        load(tmp_path / "run").select(**asked)


@pytest.mark.parametrize("much", [10**18, 10**30])
def test_steps_beyond_all_numbers_of_a_file_are_compared_too(tmp_path, much):
    write(tmp_path / "run")
    run = load(tmp_path / "run")
    everything = len(run.select())
    assert len(run.select(steps=(-much, much))) == everything > 0
    assert len(run.select(steps=(None, much))) == everything
    assert run.select(steps=much).empty


def test_a_run_that_is_compacted_while_it_is_read_is_read_whole(tmp_path, monkeypatch):
    write(tmp_path / "run", close=False)
    run = load(tmp_path / "run")
    expected = run.select()
    real = reading.visible_segments

    def then_compacted(part, table, problems=None):
        found = real(part, table, problems)
        monkeypatch.setattr(reading, "visible_segments", real)
        compact(part, "f" * 16)
        return found

    monkeypatch.setattr(reading, "visible_segments", then_compacted)
    assert run.select().equals(expected)


def test_large_segments_and_runs_give_the_same_rows(tmp_path, monkeypatch):
    for seed in range(6):
        write(tmp_path / f"run-{seed}", seed=seed)
    where = {"All": str(tmp_path / "run-*")}
    expected = load(where).select("net_grad_abs_mean", steps=(2, 3))
    monkeypatch.setattr(reading, "WHOLE_ROWS", 0)  # row groups, chosen one by one
    monkeypatch.setattr(batches, "CACHED_FILES", 0)  # nothing is kept for the next question
    monkeypatch.setattr(batches, "ROWS", 1)
    runs = load(where)
    assert runs.select("net_grad_abs_mean", steps=(2, 3)).equals(expected)
    assert len(list(runs.batches("net_grad_abs_mean"))) == 6


def test_what_was_read_is_kept_for_the_next_question(tmp_path, monkeypatch):
    for seed in range(3):
        write(tmp_path / f"run-{seed}", seed=seed, condition="AB"[seed % 2])
    runs = load([tmp_path / f"run-{seed}" for seed in range(3)])
    every = runs.scalars
    monkeypatch.setattr(Run, "read_scalars", None)
    assert runs.select(condition="B").equals(every[every["condition"] == "B"].reset_index(drop=True))
