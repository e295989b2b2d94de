"""The thread that writes dies, cannot be started, or is behind: nothing is lost, nothing hangs, and it is told."""

from __future__ import annotations

import json
import threading
import warnings

import pytest

import dropdiag as dd
from dropdiag.store import background
from dropdiag.store.background import Background
from tests.faults.children import assert_nothing_twice, steps_with
from tests.networks import mlp, train


def record(path, steps=5, **settings):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = mlp()
        with dd.Recorder(model, path, every=1, flush_every=0, **settings) as rec:
            train(model, steps, rec)
    assert steps_with(path, "loss") == list(range(1, steps + 1))
    assert_nothing_twice(path)
    assert json.loads((path / "run.json").read_text())["state"] == "completed"
    return [str(one.message) for one in caught]


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError(), KeyboardInterrupt(), GeneratorExit()])
@pytest.mark.parametrize("place", ["_attempt", "_settle"])
def test_a_thread_that_dies_is_started_again(tmp_path, monkeypatch, error, place):
    owner = background if place == "_attempt" else Background
    real, calls = getattr(owner, place), []

    def dies(*args):
        calls.append(1)
        if len(calls) == 4 and threading.current_thread() is not threading.main_thread():
            raise error
        return real(*args)

    monkeypatch.setattr(owner, place, dies)
    told = record(tmp_path / "run")
    assert sum("ended unexpectedly" in one and type(error).__name__ in one for one in told) == 1


def test_a_thread_that_dies_again_and_again_is_done_without(tmp_path, monkeypatch):
    real = Background._waits_for_a_job

    def dies(self):
        if real(self):
            raise SystemExit
        return False

    monkeypatch.setattr(Background, "_waits_for_a_job", dies)
    told = record(tmp_path / "run")
    assert any("ended unexpectedly" in one for one in told)


def test_where_no_thread_can_be_started_the_training_writes(tmp_path, monkeypatch):
    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    told = record(tmp_path / "run", probes="light")
    assert any("no thread can be started (can't start new thread)" in one for one in told)


def test_a_job_that_ends_its_thread_is_a_failure_like_others(tmp_path, monkeypatch):
    from dropdiag.store import jobs

    real, calls = jobs.write_segment, []

    def leaves(path, parts):
        calls.append(1)
        if len(calls) == 2:
            raise SystemExit(3)
        real(path, parts)

    monkeypatch.setattr(jobs, "write_segment", leaves)
    told = record(tmp_path / "run")
    assert sum("writing was ended by SystemExit(3)" in one for one in told) == 1


def test_rows_that_cannot_be_written_do_not_hold_up_those_behind_them_at_the_end(tmp_path, monkeypatch):
    from dropdiag.store import tables

    real = tables.scalars

    def refuses(rows, **options):
        if any(row.step == 2 for row in rows):
            raise ValueError("what is this")
        return real(rows, **options)

    monkeypatch.setattr(tables, "scalars", refuses)
    monkeypatch.setattr(background.Job, "absorb", lambda *_: False)
    from dropdiag.store.jobs import Rows

    monkeypatch.setattr(Rows, "absorb", lambda *_: False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = mlp()
        with dd.Recorder(model, tmp_path / "run", probes="light", flush_every=0) as rec:
            train(model, 5, rec)
    assert steps_with(tmp_path / "run", "loss") == [1, 3, 4, 5]
    lost = [str(one.message) for one in caught if "lost" in str(one.message)]
    assert len(lost) == 1
    assert "rows are lost, of steps 2 to 2" in lost[0]
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (meta["state"], meta["error"]) == ("failed", lost[0])


def test_a_disk_that_does_not_answer_makes_nobody_wait_for_ever(monkeypatch):
    monkeypatch.setattr(background, "STUCK_SECONDS", 0.05)
    monkeypatch.setattr(background, "TICK", 0.05)
    gate, done = threading.Event(), []

    class Hangs(background.Job):
        def __call__(self):
            assert gate.wait(60)
            done.append(1)

    thread = Background("test-writer")
    for _ in range(3 * background.QUEUE):
        thread.submit(Hangs())
    assert thread.waits == 1  # once; then nobody waits any more, until it answers
    gate.set()
    thread.drain()
    assert len(done) == 3 * background.QUEUE
    thread.stop()
