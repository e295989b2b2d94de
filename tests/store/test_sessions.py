"""Two processes that record one run: each has names of its own, and readers tell them apart."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import warnings

import pytest

from dropdiag.errors import ArgumentError, DropdiagWarning, NotRecordedError, RunError
from dropdiag.store import lease, processes
from dropdiag.store.files import sweep
from dropdiag.store.folder import resume_step
from dropdiag.store.reader import load
from dropdiag.store.writer import RunWriter
from tests.described import write_meta
from tests.store.test_run_folder import META, scalar


def meta():
    return {**META, "warnings": [], "disabled_probes": []}


def record(writer, steps, value):
    """Record a number at some steps, and see it on the disk."""
    for step in steps:
        writer.add_scalars([scalar(step, value)])
    writer.meta["steps"] = max(steps)
    writer.flush()
    writer.drain()


def of_steps(run):
    frame = run.select()
    return dict(zip(frame["step"], frame["value"], strict=True))


def test_what_two_sessions_record_side_by_side_is_there_and_nothing_twice(tmp_path):
    path = tmp_path / "run"
    first = RunWriter(path, meta())
    record(first, [1, 2], 1.0)
    second = RunWriter(path, meta(), resume_from=2)
    record(second, [3, 4], 2.0)
    assert not first.superseded
    record(first, [3, 4, 5], 1.0)
    assert first.superseded
    with pytest.warns(DropdiagWarning, match="two processes recorded at the same time"):
        run = load(path)
    assert of_steps(run) == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0}
    one, two = (session["id"] for session in run.meta["sessions"])
    assert of_steps(run.session(one)) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}
    assert of_steps(run.session(two[:8])) == {3: 2.0, 4: 2.0}
    with pytest.raises(NotRecordedError, match="has not one session 'none'"):
        run.session("none")
    record(second, [5], 2.0)
    second.close("completed")
    first.close("completed")
    with pytest.warns(DropdiagWarning, match="two processes"):
        run = load(path)
    assert of_steps(run) == {1: 1.0, 2: 1.0, 3: 2.0, 4: 2.0, 5: 2.0}
    assert (run.meta["steps"], run.state) == (5, "completed")
    assert of_steps(run.session(one)) == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0}


def test_two_that_go_on_from_one_state_are_told_apart_whoever_wrote_run_json_last(tmp_path):
    path = tmp_path / "run"
    before = RunWriter(path, meta())
    record(before, [1], 0.0)
    before.close("interrupted")
    told = (path / "run.json").read_bytes()
    first = RunWriter(path, meta(), resume_from=1, session={"id": "a" * 32})
    for file in (path / "rank-0").glob("session-000002*"):
        file.rename(file.with_suffix(".aside"))  # the other one has not seen it yet
    (path / "run.json").write_bytes(told)
    second = RunWriter(path, meta(), resume_from=1, session={"id": "b" * 32})
    for file in (path / "rank-0").glob("*.aside"):
        file.rename(file.with_suffix(".json"))
    record(second, [2, 3], 2.0)
    record(first, [2], 1.0)
    for last in (first, second):
        last.save_meta()
        last.drain()
        with pytest.warns(DropdiagWarning, match="What the session aaaaaaaaaaaaaaaa .* after step 1 is hidden"):
            run = load(path)
        assert of_steps(run) == {1: 0.0, 2: 2.0, 3: 2.0}
        assert [one["number"] for one in run.meta["sessions"]] == [1, 2, 2]
    assert of_steps(run.session("a" * 32)) == {2: 1.0}


def test_a_run_json_that_a_slower_writer_put_back_hides_no_session(tmp_path):
    path = tmp_path / "run"
    first = RunWriter(path, meta())
    record(first, [1], 1.0)
    told = (path / "run.json").read_bytes()
    second = RunWriter(path, meta(), resume_from=1)
    record(second, [2], 2.0)
    second.close("completed")
    (path / "run.json").write_bytes(told)
    run = load(path)
    assert of_steps(run) == {1: 1.0, 2: 2.0}
    assert (run.state, run.meta["steps"]) == ("completed", 2)
    first.close("failed")
    with pytest.warns(DropdiagWarning, match="two processes"):
        assert of_steps(load(path)) == {1: 1.0, 2: 2.0}


def _begin(path, barrier, told):
    barrier.wait()
    try:
        writer = RunWriter(path, meta())
    except Exception as error:  # noqa: BLE001 - the parent looks at it
        told.put((type(error), str(error)))
        return
    record(writer, [1], 1.0)
    writer.close("completed")
    told.put((None, ""))


def test_a_session_file_of_another_run_hides_nothing(tmp_path):
    path, other = tmp_path / "run", tmp_path / "other"
    for place, value in ((path, 1.0), (other, 2.0)):
        writer = RunWriter(place, meta())
        record(writer, [1, 2, 3], value)
        writer.close("completed")
    writer = RunWriter(other, meta(), resume_from=1)
    record(writer, [2], 2.0)
    writer.close("completed")
    for file in (other / "rank-0").glob("session-*.json"):
        shutil.copy(file, path / "rank-0")
    with pytest.warns(DropdiagWarning) as said:
        assert of_steps(load(path)) == {1: 1.0, 2: 1.0, 3: 1.0}
    assert sum("is of another run; it is left out" in str(one.message) for one in said) == 2


@pytest.mark.parametrize("identifier", ["0" * 32, "f" * 32])
def test_a_writer_whose_folder_was_removed_writes_nothing_into_the_run_that_has_its_place(tmp_path, identifier):
    path = tmp_path / "run"
    first = RunWriter(path, meta(), session={"id": identifier})
    record(first, [1, 2], 1.0)
    shutil.rmtree(path)
    second = RunWriter(path, meta(), session={"id": "8" * 32})
    record(second, [1], 2.0)
    with pytest.raises(FileNotFoundError, match="another run has its place"):
        record(first, [3], 1.0)
    with pytest.raises(FileNotFoundError, match="another run has its place"):
        first.close("completed")
    assert "1 rows are lost, of steps 3 to 3" in first.give_up(first.take_failure() or OSError())
    record(second, [2], 2.0)
    second.close("completed")
    assert not second.superseded
    assert of_steps(load(path)) == {1: 2.0, 2: 2.0}


@pytest.mark.parametrize("number", ["9" * 30, "9" * 15, "1000000000000"])
@pytest.mark.parametrize(
    "name", ["scalars-{}.parquet", f"scalars-{{}}.{'a' * 16}.{'b' * 32}.parquet", f"session-{{}}.{'a' * 16}.json"]
)
def test_a_stray_file_of_an_absurd_number_is_no_obstacle(tmp_path, number, name):
    path = tmp_path / "run"
    writer = RunWriter(path, meta())
    record(writer, [1], 1.0)
    writer.close("interrupted")
    (path / "rank-0" / name.format(number)).write_bytes(b"something")
    writer = RunWriter(path, meta(), resume_from=1)
    record(writer, [2], 1.0)
    assert not writer.superseded
    writer.close("completed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert of_steps(load(path)) == {1: 1.0, 2: 1.0}


def test_of_new_runs_that_race_one_is_made_and_the_others_are_told(tmp_path):
    context = multiprocessing.get_context("fork")
    for round_ in range(3):
        barrier, told = context.Barrier(3), context.Queue()
        several = [context.Process(target=_begin, args=(tmp_path / f"{round_}", barrier, told)) for _ in range(3)]
        for one in several:
            one.start()
        found = [told.get(timeout=60) for _ in several]
        for one in several:
            one.join()
        assert sum(kind is None for kind, _ in found) == 1, found
        assert all(issubclass(kind, RunError) for kind, _ in found if kind is not None), found
        assert of_steps(load(tmp_path / f"{round_}")) == {1: 1.0}


def test_a_run_that_this_process_records_is_not_resumed_unless_it_is_forced(tmp_path):
    writer = RunWriter(tmp_path / "run", meta())
    record(writer, [1], 1.0)
    with pytest.raises(RunError, match=rf"is still being recorded, by process {os.getpid()} on .*resume=\"force\""):
        resume_step(tmp_path / "run", resume=True)
    assert resume_step(tmp_path / "run", "force") == 1
    assert resume_step(tmp_path / "run", ("force", 0)) == 0
    for wrong in ("forced", ("force",), ("force", "x"), 1.5):
        with pytest.raises((ArgumentError, RunError)):
            resume_step(tmp_path / "run", wrong)
    writer.close("interrupted")
    assert resume_step(tmp_path / "run", resume=True) == 1


def test_a_process_that_was_killed_is_gone_at_once_and_its_run_ended_without_closing(tmp_path):
    script = (
        "import os, sys; from tests.store.test_sessions import *; "
        f"w = RunWriter(Path({str(tmp_path / 'run')!r}), meta()); record(w, [1], 1.0); print('on disk', flush=True); "
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", "from pathlib import Path; " + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"on disk\n"
    assert load(tmp_path / "run").state == "running"
    with pytest.raises(RunError, match=rf"by process {process.pid} on"):
        resume_step(tmp_path / "run", resume=True)
    process.kill()
    process.communicate()
    run = load(tmp_path / "run")
    assert run.state == "ended without closing"
    assert "ended without closing" in repr(run)
    assert not run.is_growing
    assert resume_step(tmp_path / "run", resume=True) == 1


@pytest.mark.parametrize("skew", [-86_400, 0, 86_400])
def test_another_host_is_waited_for_whatever_the_clocks_say(tmp_path, monkeypatch, skew):
    path = tmp_path / "run"
    writer = RunWriter(path, meta())
    record(writer, [1], 1.0)
    told = json.loads((path / "run.json").read_text())
    told["sessions"][-1]["host"] = "elsewhere"
    write_meta(path / "run.json", told)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + skew)
    with pytest.raises(RunError, match="was written .* s ago by process .* on 'elsewhere'"):
        resume_step(path, resume=True)
    assert resume_step(path, "force") == 1
    assert load(path).state == "running"
    long_ago = now() - 2 * lease.EXPIRES_AFTER
    os.utime(path / "run.json", (long_ago, long_ago))
    assert resume_step(path, resume=True) == 1
    assert not list(path.glob("*.tmp"))


def test_processes_are_told_apart_by_more_than_their_number():
    own = processes.this_process()
    assert processes.is_gone(own) is False
    if "began" not in own["process"]:
        pytest.skip("when a process began is told on Linux alone")
    other = {**own, "process": {**own["process"], "began": own["process"]["began"] - 1}}
    assert processes.is_gone(other) is True
    assert processes.is_gone({**own, "process": {**own["process"], "boot": "another"}}) is True
    assert processes.is_gone({**own, "process": {**own["process"], "namespace": 1}}) is None
    assert processes.is_gone({**own, "host": "elsewhere"}) is None
    for strange in ({}, {"process": 3}, {"host": own["host"], "process": {"pid": "../../etc"}}):
        assert processes.is_gone(strange) in (True, None)


def test_temporary_files_of_killed_writers_are_swept_and_nothing_else(tmp_path):
    session = "0123456789abcdef"
    stale = ["scalars-000001.0123456789abcdef.tmp", "run.0123456789abcdef.tmp", "session-000001.0123456789abcdef.tmp"]
    others = ["scalars-000001.fedcba9876543210.tmp", "notes.tmp", "scalars-000002.tmp", "run.json", "scalars-1.parquet"]
    kept = tmp_path / "kept"
    kept.write_text("mine")
    for name in stale + others:
        (tmp_path / name).touch()
    (tmp_path / "rank.0123456789abcdef.tmp").symlink_to(kept)
    (tmp_path / "scalars-000009.0123456789abcdef.tmp").mkdir()
    sweep(tmp_path, {session})
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted([*others, "kept", "rank.0123456789abcdef.tmp", "scalars-000009.0123456789abcdef.tmp"])
    sweep(tmp_path, {""})
    assert not (tmp_path / "scalars-000002.tmp").exists()
    assert kept.read_text() == "mine"


def test_the_state_is_saved_before_the_run_is_compacted(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path / "run", meta())
    for step in (1, 2):
        record(writer, [step], 1.0)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dropdiag.store.writer.compact", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.close("completed")
    assert load(tmp_path / "run").state == "completed"
    assert of_steps(load(tmp_path / "run")) == {1: 1.0, 2: 1.0}
