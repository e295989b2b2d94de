"""Ctrl-C and SIGTERM at any moment: the hooks come off, what was handed over is there, once."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import warnings

import pytest
import torch

import dropdiag as dd
from dropdiag.model.hook_base import DropdiagHook
from dropdiag.recording.transfer import TransferQueue
from dropdiag.store import files, writer
from dropdiag.store.background import Background
from tests.faults.children import assert_nothing_twice, in_child, steps_with
from tests.networks import mlp, train


def hooks(model):
    found = [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return [hook for hook in found if isinstance(hook, DropdiagHook)]


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def at_call(monkeypatch, owner, name, call, act=interrupt):
    """Do something at one call of a function, in the middle of it."""
    real, calls = getattr(owner, name), []

    def called(*args, **options):
        calls.append(1)
        result = real(*args, **options)
        if len(calls) == call and threading.current_thread() is threading.main_thread():
            act()
        return result

    monkeypatch.setattr(owner, name, called)


def record_until_interrupted(path, steps=12, **settings):
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(KeyboardInterrupt):
            with dd.Recorder(model, path, every=1, flush_every=0, **settings) as rec:
                train(model, steps, rec)
                with rec.evaluation():
                    model.eval()(torch.ones(3, 12))
    return model, rec


def check_interrupted(path, model, rec):
    meta = json.loads((path / "run.json").read_text())
    assert (meta["state"], meta["error"]) == ("interrupted", "KeyboardInterrupt")
    assert not hooks(model)
    assert_nothing_twice(path)
    found = steps_with(path, "loss")
    # Of the step in which it came, the rows may be there or not: step() did not return.
    assert found[: rec.completed - 1] == list(range(1, rec.completed))
    assert len(found) <= rec.completed
    train(model, 1)  # nothing of ours is left on


@pytest.mark.parametrize(
    ("owner", "name", "call"),
    [
        (DropdiagHook, "__call__", 40),
        (torch.Tensor, "backward", 3),
        (TransferQueue, "_settle", 3),
        (TransferQueue, "put", 4),
        (writer.RunWriter, "add", 4),
        (writer.RunWriter, "_hand_over", 4),
        (writer.RunWriter, "save_meta", 3),
        (Background, "submit", 8),
        (Background, "_absorbed", 8),
        (Background, "_count", 8),
    ],
)
def test_an_interrupt_anywhere_loses_and_doubles_nothing(tmp_path, monkeypatch, owner, name, call):
    at_call(monkeypatch, owner, name, call)
    model, rec = record_until_interrupted(tmp_path / "run")
    monkeypatch.undo()
    check_interrupted(tmp_path / "run", model, rec)


def test_an_interrupt_in_an_evaluation(tmp_path):
    model = mlp()
    with pytest.raises(KeyboardInterrupt):
        with dd.Recorder(model, tmp_path / "run", every=1) as rec:
            train(model, 2, rec)
            with rec.evaluation():
                model.eval()(torch.ones(3, 12))
                interrupt()
    check_interrupted(tmp_path / "run", model, rec)
    assert steps_with(tmp_path / "run", "loss") == [1, 2]


def test_interrupts_at_random_moments_lose_and_double_nothing(tmp_path):
    draw, came = random.Random(0), []

    def raises(*_):
        came.append(1)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, raises)
    try:
        for number in range(6):
            path, model = tmp_path / str(number), mlp()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    with dd.Recorder(model, path, probes="light", every=1, flush_every=0) as rec:
                        signal.setitimer(signal.ITIMER_REAL, draw.uniform(0.001, 0.03))
                        while len(came) == number:
                            train(model, 1, rec)
                        raise KeyboardInterrupt  # Python ignores one that comes in a callback of the garbage collector
            except KeyboardInterrupt:
                check_interrupted(path, model, rec)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_in_close_ends_it_as_interrupted_and_twice_in_a_row_at_the_latest_with_the_process(
    tmp_path, monkeypatch, times
):
    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run", every=1)
    train(model, 3, rec)
    real, calls = Background.drain_at_the_end, []

    def drain(self):
        calls.append(1)
        if len(calls) <= times:
            interrupt()
        real(self)

    monkeypatch.setattr(Background, "drain_at_the_end", drain)
    with pytest.raises(KeyboardInterrupt):
        rec.close()
    assert not hooks(model)
    if times == 2:
        from dropdiag.recording.watching import open_runs

        open_runs._process_ends()
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert meta["state"] == "interrupted"
    assert steps_with(tmp_path / "run", "loss") == [1, 2, 3]
    assert_nothing_twice(tmp_path / "run")


def test_an_interrupt_in_compaction_loses_nothing(tmp_path, monkeypatch):
    at_call(monkeypatch, files, "write_segment", 1)
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(KeyboardInterrupt):
            with dd.Recorder(model, tmp_path / "run", every=1, flush_every=0) as rec:
                train(model, 4, rec)
    monkeypatch.undo()
    assert not hooks(model)
    assert steps_with(tmp_path / "run", "loss") == [1, 2, 3, 4]
    assert_nothing_twice(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] in ("interrupted", "completed")


# SIGTERM ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["signal", "exit"])
def test_what_was_flushed_is_there_after_sigterm_and_os_exit(tmp_path, end):
    def act():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        model = mlp()
        rec = dd.Recorder(model, tmp_path / "run", every=1)
        train(model, 3, rec)
        rec.flush()
        train(model, 2, rec)
        os._exit(5) if end == "exit" else os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    ended = in_child(act, tmp_path)
    assert ended.status == (5 if end == "exit" else -signal.SIGTERM), ended.printed
    assert steps_with(tmp_path / "run", "loss") == [1, 2, 3]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["steps"] == 3


def test_a_handler_of_sigterm_that_leaves_closes_the_run(tmp_path):
    def leave(*_):
        raise SystemExit(9)

    def act():
        signal.signal(signal.SIGTERM, leave)
        model = mlp()
        with dd.Recorder(model, tmp_path / "run", every=1) as rec:
            train(model, 3, rec, after_step=lambda: rec.completed == 2 and os.kill(os.getpid(), signal.SIGTERM))

    ended = in_child(act, tmp_path)
    assert ended.status == 9, ended.printed
    meta = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (meta["state"], meta["error"]) == ("interrupted", "SystemExit")
    assert steps_with(tmp_path / "run", "loss") == [1, 2]
