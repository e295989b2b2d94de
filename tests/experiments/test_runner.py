from __future__ import annotations

import functools
import multiprocessing
from pathlib import Path

import pandas as pd
import pytest
import torch

from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.mnist.train import MnistSettings, train
from dropdiag.experiments.plan import Job
from dropdiag.experiments.runner import Work, cores, train_all
from dropdiag.store.folder import read_meta
from dropdiag.store.reader import load

SMALL = (784, 12, 8, 8, 10)


class Listener:
    """A display that remembers, and may raise at a step."""

    def __init__(self, raise_at: int | None = None):
        self.steps: dict[str, int] = {}
        self.ended: dict[str, str | None] = {}
        self.raise_at = raise_at

    def step(self, run, step, accuracy):
        self.steps[run] = max(step, self.steps.get(run, 0))
        if self.raise_at is not None and step >= self.raise_at:
            raise KeyboardInterrupt

    def end(self, run, error):
        self.ended[run] = error


def train_jobs(todo: list[Job], folder: Path, processes: int, display: Listener) -> dict[str, str]:
    work = Work(functools.partial(load_images, "mnist", folder), train)
    return train_all(todo, work.load(), processes, display, work)


def jobs(folder, *conditions: str, epochs: int = 2) -> list[Job]:
    return [
        Job(MnistSettings(c, 0, epochs=epochs, batch_size=50, widths=SMALL), folder / c.replace(" ", "-").lower())
        for c in conditions
    ]


def test_one_at_a_time_and_the_threads_are_given_back(mnist, tmp_path):
    threads, listener = torch.get_num_threads(), Listener()
    todo = jobs(tmp_path, "Dropout", "GAAF")
    assert train_jobs(todo, mnist, 1, listener) == {}
    assert torch.get_num_threads() == threads
    assert listener.steps == {"dropout": 8, "gaaf": 8}
    assert listener.ended == {"dropout": None, "gaaf": None}


def test_a_run_that_fails_does_not_stop_the_others(mnist, tmp_path):
    todo = jobs(tmp_path, "No dropout", "Dropout", "GAAF")
    todo[1].path.mkdir()
    (todo[1].path / "something").write_text("in the way")
    listener = Listener()
    failed = train_jobs(todo, mnist, 1, listener)
    assert list(failed) == ["dropout"]
    assert failed["dropout"].startswith("RunError: ")
    assert listener.ended == {"no-dropout": None, "dropout": failed["dropout"], "gaaf": None}
    assert read_meta(todo[2].path)["state"] == "completed"


def test_an_interrupt_in_this_process_ends_the_run_under_way(mnist, tmp_path):
    todo = jobs(tmp_path, "Dropout", "GAAF")
    with pytest.raises(KeyboardInterrupt):
        train_jobs(todo, mnist, 1, Listener(raise_at=3))
    assert read_meta(todo[0].path)["state"] == "interrupted"
    assert not todo[1].path.exists()


def test_processes_give_the_same_numbers_and_report(mnist, tmp_path):
    listener = Listener()
    together = jobs(tmp_path / "together", "Dropout", "GAAF", "No dropout")
    together[2].path.mkdir(parents=True)
    (together[2].path / "something").write_text("in the way")
    failed = train_jobs(together, mnist, 2, listener)
    assert list(failed) == ["no-dropout"]
    assert listener.steps == {"dropout": 8, "gaaf": 8}
    assert set(listener.ended) == {"dropout", "gaaf", "no-dropout"}
    alone = jobs(tmp_path / "alone", "Dropout")
    train_jobs(alone, mnist, 1, Listener())
    both = [load(run.path).scalars.query("not quantity.str.endswith('_seconds')") for run in (together[0], alone[0])]
    pd.testing.assert_frame_equal(both[0].reset_index(drop=True), both[1].reset_index(drop=True))


def test_an_interrupt_ends_the_runs_in_other_processes(mnist, tmp_path):
    todo = jobs(tmp_path, "Dropout", "GAAF", "No dropout", epochs=2000)
    with pytest.raises(KeyboardInterrupt):
        train_jobs(todo, mnist, 2, Listener(raise_at=20))
    states = [read_meta(job.path)["state"] for job in todo if job.path.exists()]
    assert states
    assert set(states) == {"interrupted"}
    assert not todo[2].path.exists()


def test_a_worker_that_is_killed_is_reported(mnist, tmp_path):
    class Killer(Listener):
        def step(self, run, step, accuracy):
            for child in multiprocessing.active_children():
                child.kill()

    todo = jobs(tmp_path, "Dropout", "GAAF", epochs=2000)
    failed = train_jobs(todo, mnist, 2, Killer())
    assert set(failed) == {"dropout", "gaaf"}
    assert failed["gaaf"].startswith("a worker process died (killed, or out of memory)")


def test_there_is_a_core():
    assert cores() >= 1
