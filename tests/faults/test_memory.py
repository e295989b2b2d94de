"""Memory: what waits is bounded, and too little of it ends no training."""

from __future__ import annotations

import json
import resource
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest
import torch

import dropdiag as dd
from dropdiag.errors import DropdiagWarning
from dropdiag.recording import failures
from dropdiag.recording.weights import WeightReader
from dropdiag.sketches.moments import Moments
from dropdiag.store import jobs, memory
from dropdiag.store.rows import ScalarRow
from tests.faults.children import assert_nothing_twice, in_child, steps_with
from tests.networks import mlp, train

linux = pytest.mark.skipif(sys.platform != "linux", reason="address space is limited on Linux alone")


def limit(megabytes: float) -> None:
    """Let this process have so much more address space than it has now."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + int(megabytes * 2**20)
    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def record_with_little(path, megabytes, place):
    """Train with so little memory from some place on; return how it ended."""
    model = mlp()
    train(model, 2)
    try:
        if place == "opening":
            limit(megabytes)
        with dd.Recorder(model, path, probes="full", every=1, flush_every=0) as rec:
            if place == "beginning":
                limit(megabytes)
            train(model, 3, rec)
            if place == "training":
                limit(megabytes)
            train(model, 5, rec)
            with rec.evaluation():
                model.eval()(torch.ones(20, 12))
            model.train()
            if place == "close":
                limit(megabytes)
    except (MemoryError, RuntimeError) as error:
        return "own error" if isinstance(error, MemoryError) or "memory" in str(error) else repr(error)
    return "done"


@linux
@pytest.mark.parametrize(("megabytes", "place"), [(0.5, "training"), (3, "training"), (1, "close"), (24, "close")])
def test_little_memory_ends_no_training_by_an_abort(tmp_path, megabytes, place):
    ended = in_child(lambda: record_with_little(tmp_path / "run", megabytes, place), tmp_path)
    assert ended.status == 0, ended.printed
    assert ended.result in ("done", "own error")
    assert_nothing_twice(tmp_path / "run")
    if ended.result == "done":
        known = json.loads((tmp_path / "run" / "run.json").read_text())
        assert steps_with(tmp_path / "run", "loss") == list(range(1, 9)) or known["warnings"]


@linux
def test_a_recorder_that_finds_too_little_memory_says_so_before_training(tmp_path):
    def act():
        limit(2)
        try:
            dd.Recorder(mlp(), tmp_path / "run")
        except MemoryError as error:
            return str(error)
        return "opened"

    ended = in_child(act, tmp_path)
    assert ended.status == 0, ended.printed
    assert not (tmp_path / "run" / "run.json").exists() or ended.result == "opened"


# A disk that refuses ----------------------------------------------------------------------------------------------


def full(*_args):
    raise OSError(28, "No space left on device")


def wait_for_failure(rec):
    while rec._session.writer.background.failure is None:
        time.sleep(0.005)


@pytest.mark.filterwarnings("ignore:training waited for the disk")
def test_rows_that_wait_are_bounded_and_an_attempt_costs_the_same_however_many_wait(tmp_path, monkeypatch):
    attempts = []

    def refuse(_path, parts):
        attempts.append(sum(part.num_rows for part in parts if "step" in part.column_names))
        full()

    model = mlp()
    monkeypatch.setattr(failures, "WAITING_BYTES_LIMIT", 10_000_000)
    monkeypatch.setattr("dropdiag.store.background.RETRY_SECONDS", 0.0)
    with pytest.warns(DropdiagWarning) as told:
        rec = dd.Recorder(model, tmp_path / "run", probes="light", flush_every=0)
        monkeypatch.setattr(jobs, "write_segment", refuse)
        for step in range(30):
            rec.log({f"own{k}": float(step) for k in range(2000)})
            rec.step()
            if step == 0:
                wait_for_failure(rec)
        waiting = rec._session.queue.waiting_bytes
        monkeypatch.undo()
        rec.close()
    messages = [str(one.message) for one in told]
    assert 10_000_000 < waiting < 11_000_000
    assert max(attempts) <= jobs.JOB_ROWS
    assert sum("recording stopped at step" in message for message in messages) == 1
    assert not any("lost" in message for message in messages)
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert meta["state"] == "failed"
    assert "recording stopped at step" in meta["error"]
    rows = dd.load(tmp_path / "run").scalars
    kept = sorted(rows[rows["quantity"] == "own0"]["step"])
    assert kept == list(range(len(kept)))  # all that was handed over, once
    assert len(kept) > 10


def test_what_is_counted_as_waiting_is_about_what_it_takes():
    tracemalloc.start()
    rows = [ScalarRow(step, "train", "layer", 0, "quantity", step / 3) for step in range(20_000)]
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert 0.5 < memory.of_rows(rows, (), ()) / taken < 2.0


def test_records_of_one_big_step_become_rows_at_once(tmp_path):
    with dd.Recorder(mlp(), tmp_path / "run") as rec:
        rec.log({f"own{k}": 1.0 for k in range(20_001)})
        assert not rec._session.queue._batches


def test_warnings_with_changing_numbers_are_counted_in_the_end(tmp_path):
    with warnings.catch_warnings(record=True) as caught, dd.Recorder(mlp(), tmp_path / "run") as rec:
        warnings.simplefilter("always")
        for step in range(5000):
            rec._session._failures.warn(f"at step {step} it is {step / 7}")
        rec._session._failures.warn("something else")
    kept = json.loads((tmp_path / "run" / "run.json").read_text())["warnings"]
    assert len(caught) == failures.OF_A_KIND + 1
    assert kept[-2:] == ["and 4,980 more warnings", "something else"]
    assert len(kept) == failures.OF_A_KIND + 2


def test_many_kinds_of_warnings_and_of_missing_numbers_are_counted_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(failures, "LISTED", 50)
    with warnings.catch_warnings(), dd.Recorder(mlp(), tmp_path / "run") as rec:
        warnings.simplefilter("ignore")
        for step in range(300):
            name = "".join(chr(97 + int(digit)) for digit in str(step))
            rec._session._failures.warn(f"{name} is wrong")
            rec._session._failures.missing(f"{name} is missing", {"phase": "eval", "why": name, "of": []})
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert len(meta["missing"]) == 50
    assert len(meta["warnings"]) <= 52
    assert "more warnings; and 250 more missing numbers" in meta["warnings"][-1]


# Out of memory in the middle --------------------------------------------------------------------------------------


def losses_and_run(tmp_path, steps=6, **settings):
    plain = train(mlp(), steps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = mlp()
        with dd.Recorder(model, tmp_path / "run", every=1, **settings) as rec:
            recorded = train(model, steps, rec)
    assert [a.item() for a in plain] == [b.item() for b in recorded]
    return [str(one.message) for one in caught]


def fails_at(monkeypatch, owner, name, call):
    real, calls = getattr(owner, name), []

    def failing(*args, **options):
        calls.append(1)
        if len(calls) == call:
            raise MemoryError
        return real(*args, **options)

    monkeypatch.setattr(owner, name, failing)


def test_out_of_memory_in_a_probe_disables_it_there(tmp_path, monkeypatch):
    def update(self, *_):
        raise MemoryError("out of memory")

    monkeypatch.setattr(Moments, "update", update)
    told = losses_and_run(tmp_path, probes="full")
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    disabled = {entry["probe"] for entry in meta["disabled_probes"]}
    assert disabled
    assert all(sum(f"probe {name!r} failed" in message for message in told) == 1 for name in disabled)


@pytest.mark.parametrize("name", ["net_value", "_node_value", "outputs", "batch_begins"])
def test_out_of_memory_in_a_hook_leaves_a_step_out_and_says_so(tmp_path, monkeypatch, name):
    from dropdiag.recording.passes import PassRouter

    fails_at(monkeypatch, PassRouter, name, 2)
    told = losses_and_run(tmp_path, probes="full")
    assert sum("could not be recorded and is missing, training goes on: MemoryError()" in one for one in told) == 1
    flow = dd.load(tmp_path / "run").scalars.query("quantity == 'net_grad_abs_mean'")
    assert 4 <= flow["step"].nunique() < 6
    assert_nothing_twice(tmp_path / "run")


def test_out_of_memory_in_a_backward_hook_leaves_a_step_out(tmp_path, monkeypatch):
    from dropdiag.recording.net_gradients import _Hook

    fails_at(monkeypatch, _Hook, "_take", 2)
    told = losses_and_run(tmp_path)
    assert sum("is missing, training goes on: MemoryError()" in one for one in told) == 1


def test_out_of_memory_in_step_leaves_that_step_out_and_says_so(tmp_path, monkeypatch):
    fails_at(monkeypatch, WeightReader, "read", 3)  # the first is of step 0
    told = losses_and_run(tmp_path)
    assert sum("step 2 is not recorded, training goes on: MemoryError()" in one for one in told) == 1
    assert steps_with(tmp_path / "run", "loss") == [1, 3, 4, 5, 6]


def test_out_of_memory_while_rows_are_handed_over_loses_none(tmp_path, monkeypatch):
    from dropdiag.store.background import Background

    fails_at(monkeypatch, Background, "_count", 4)
    told = losses_and_run(tmp_path, flush_every=0)
    assert steps_with(tmp_path / "run", "loss") == list(range(1, 7))
    assert_nothing_twice(tmp_path / "run")
    assert sum("refuses rows" in one or "ended unexpectedly" in one for one in told) >= 1


def test_strict_raises_what_a_hook_runs_into(tmp_path, monkeypatch):
    from dropdiag.recording.passes import PassRouter

    fails_at(monkeypatch, PassRouter, "net_value", 2)
    with warnings.catch_warnings(), pytest.raises(MemoryError):
        warnings.simplefilter("ignore")  # of layers that no pass came to
        model = mlp()
        with dd.Recorder(model, tmp_path / "run", strict=True) as rec:
            train(model, 2, rec)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "failed"
