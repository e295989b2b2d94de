"""When rows reach the disk: flush_every=, flush(), and clocks that are set."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest

import dropdiag as dd
from dropdiag.errors import ArgumentError
from dropdiag.recording import overhead
from dropdiag.store import writer
from tests.faults.children import assert_nothing_twice, steps_with
from tests.networks import mlp, train

pytestmark = pytest.mark.filterwarnings("ignore:training waited for the disk")


@pytest.mark.parametrize("wrong", [-1, -0.001, math.nan, math.inf, -math.inf, "10", None, True, [1], 1j])
def test_what_is_no_time_is_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(ArgumentError, match="flush_every= takes seconds, a finite number of at least 0"):
        dd.Recorder(mlp(), tmp_path / "run", flush_every=wrong)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seconds", [0, 0.0, np.float32(0)])
def test_0_flushes_at_every_step(tmp_path, seconds):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", probes="light", flush_every=seconds) as rec:
        for step in range(1, 4):
            train(model, 1, rec)
            rec._session.writer.drain()  # nothing is handed over by this, the thread is waited for
            assert steps_with(tmp_path / "run", "loss") == list(range(1, step + 1))
            assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == step


def test_what_a_kill_can_cost_is_as_long_as_was_asked_for(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(writer.time, "monotonic", lambda: now[0])
    model, flushed = mlp(), []
    with dd.Recorder(model, tmp_path / "run", probes="light", flush_every=3.0) as rec:
        for step in range(1, 13):
            now[0] += 1.0
            train(model, 1, rec)
            if rec._session.writer._flushed_at == now[0]:
                flushed.append(step)
        monkeypatch.undo()
    assert flushed == [3, 6, 9, 12]


def test_flush_returns_when_all_is_on_disk(tmp_path):
    model = mlp()
    with dd.Recorder(model, tmp_path / "run", flush_every=1e6) as rec:
        train(model, 3, rec)
        rec.log(accuracy=0.5)
        rec.flush()
        rec.flush()
        assert steps_with(tmp_path / "run", "loss") == [1, 2, 3]
        assert (dd.load(tmp_path / "run").scalars["quantity"] == "accuracy").sum() == 1
        assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 3
    with pytest.raises(ArgumentError, match="is closed"):
        rec.flush()
    assert_nothing_twice(tmp_path / "run")


def test_clocks_that_are_set_back_and_forth_give_no_negative_time_and_no_storm(tmp_path, monkeypatch):
    now = [0]

    def nanoseconds():
        return now[0]

    monkeypatch.setattr(overhead, "clock", nanoseconds)
    model, flushes = mlp(), 0
    real = time.monotonic
    shift = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: real() + shift[0])
    with dd.Recorder(model, tmp_path / "run", probes="light", flush_every=50.0) as rec:
        hand_over = type(rec._session.writer).flush

        def counted(self):
            nonlocal flushes
            flushes += 1
            hand_over(self)

        monkeypatch.setattr(type(rec._session.writer), "flush", counted)
        for jump in (5.0, -1e9, 0.0, 0.0, 1e9, 0.0, -3600.0, 0.0, 0.0):
            shift[0] += jump
            now[0] += int(jump * 1e9)
            train(model, 1, rec)
        assert flushes <= 4  # once for each jump that it sees
    scalars = dd.load(tmp_path / "run").scalars
    seconds = scalars[scalars["quantity"].isin(["step_seconds", "recorder_seconds"])]["value"]
    assert len(seconds) > 0
    assert (seconds >= 0.0).all()
    assert steps_with(tmp_path / "run", "loss") == list(range(1, 10))
