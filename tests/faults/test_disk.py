"""Disks that are full, gone, or fail at random: training is what it would be, and nothing is lost that can be kept."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import subprocess
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest

import dropdiag as dd
from dropdiag.errors import RunError
from tests.faults.children import assert_nothing_twice, in_child, steps_with
from tests.networks import mlp, train

STEPS = 8


@contextmanager
def failing_at_random(seed, share):
    """Let operations on files fail, one in so many, as the draw has it."""
    draw = random.Random(seed)
    codes = [(5, "Input/output error"), (28, "No space left on device"), (24, "Too many open files")]
    places = [(os, "fsync"), (os, "replace"), (os, "rename"), (Path, "replace"), (Path, "rename"), (Path, "open")]
    real = {(owner, name): getattr(owner, name) for owner, name in places}

    def failing(key):
        def call(*args, **options):
            if draw.random() < share:
                raise OSError(*draw.choice(codes))
            return real[key](*args, **options)

        return call

    for owner, name in real:
        setattr(owner, name, failing((owner, name)))
    try:
        yield
    finally:
        for (owner, name), function in real.items():
            setattr(owner, name, function)


def record_with_faults(path, seed, steps=STEPS):
    """Train while operations on files fail; return the losses and whether the disk was well at the end."""
    model, draw = mlp(), random.Random(seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rec = dd.Recorder(model, path, probes="light", every=2, flush_every=0)
        with failing_at_random(seed, draw.choice([0.05, 0.3, 0.9])):
            losses = train(model, steps, rec)
            well = draw.random() < 0.7
            if not well:
                rec.close()
        rec.close()
    return [loss.item() for loss in losses], well, [str(one.message) for one in caught]


def check_after_faults(path, losses, well, told, steps=STEPS):
    """Check what a run holds after faults: all of it, or it says what is lost."""
    assert losses == [loss.item() for loss in train(mlp(), steps)]
    assert_nothing_twice(path)
    found = steps_with(path, "loss")
    lost = any("lost" in message for message in told)
    assert found == list(range(1, steps + 1)) or (lost and not well), (found, told)
    return len(found)


@pytest.mark.parametrize("seed", range(6))
def test_operations_that_fail_at_random_change_no_training_and_lose_nothing_silently(tmp_path, seed):
    check_after_faults(tmp_path / "run", *record_with_faults(tmp_path / "run", seed))


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("no disk can be mounted here")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False)
    if made.returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("freed", [True, False])
def test_a_disk_that_is_full(tiny_disk, freed):
    model, filler = mlp(), tiny_disk / "filler"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rec = dd.Recorder(model, tiny_disk / "run", probes="light", every=1, flush_every=0)
        losses = train(model, 3, rec)
        rec.flush()
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        with pytest.raises(OSError, match="No space left"):
            losses += train(model, 5, rec)
            rec.flush()
        if freed:
            filler.unlink()
        rec.close()
    filler.unlink(missing_ok=True)
    told = [str(one.message) for one in caught]
    plain = mlp()
    assert [loss.item() for loss in losses] == [loss.item() for loss in [*train(plain, 3), *train(plain, 5)]]
    assert_nothing_twice(tiny_disk / "run")
    if freed:
        assert steps_with(tiny_disk / "run", "loss") == list(range(1, 9))
        assert not any("lost" in message for message in told)
    else:
        assert steps_with(tiny_disk / "run", "loss") == [1, 2, 3]
        assert any("rows are lost, of steps 4 to 8" in message or "lost, of steps" in message for message in told)


def test_a_limit_on_the_size_of_files_and_on_their_number(tmp_path):
    def act(which, value):
        model, kind = mlp(), getattr(resource, which)
        rec = dd.Recorder(model, tmp_path / which, probes="light", every=1, flush_every=0)
        losses = train(model, 2, rec)
        rec.flush()
        resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))
        losses += train(model, 4, rec)
        try:
            rec.flush()
            refused = False
        except OSError:
            refused = True
        resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
        rec.close()
        plain = mlp()  # which seeds the masks as well
        same = [loss.item() for loss in losses] == [loss.item() for loss in [*train(plain, 2), *train(plain, 4)]]
        return [refused, same]

    import signal

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for which, value in (("RLIMIT_FSIZE", 100), ("RLIMIT_NOFILE", 3)):
            ended = in_child(lambda which=which, value=value: act(which, value), tmp_path, which)
            assert ended.result == [True, True], ended.printed
            assert steps_with(tmp_path / which, "loss") == list(range(1, 7))
            assert_nothing_twice(tmp_path / which)
    finally:
        signal.signal(signal.SIGXFSZ, before)


def test_a_folder_that_is_gone_in_mid_run_ends_no_training(tmp_path):
    plain = [loss.item() for loss in train(mlp(), 5)]
    model, losses = mlp(), []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with dd.Recorder(model, tmp_path / "run", probes="light", every=1, flush_every=0) as rec:

            def remove():
                if rec.completed == 2:
                    rec.flush()
                    shutil.rmtree(tmp_path / "run")

            losses = train(model, 5, rec, after_step=remove)
    assert [loss.item() for loss in losses] == plain
    assert any("rows are lost, of steps 3 to 5" in str(one.message) for one in caught)


def test_a_folder_that_is_moved_away_and_back_has_lost_nothing(tmp_path):
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with dd.Recorder(model, tmp_path / "run", probes="light", every=1, flush_every=0) as rec:
            train(model, 2, rec)
            rec.flush()
            (tmp_path / "run").rename(tmp_path / "away")
            train(model, 3, rec)
            with pytest.raises(OSError, match="No such file"):
                rec.flush()
            (tmp_path / "away").rename(tmp_path / "run")
    assert steps_with(tmp_path / "run", "loss") == [1, 2, 3, 4, 5]
    assert_nothing_twice(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["state"] == "completed"


def test_strict_raises_where_the_disk_refuses_in_mid_run(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(5, "Input/output error")

    model = mlp()
    rec = dd.Recorder(model, tmp_path / "run", probes="light", strict=True, flush_every=0)
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        while True:
            train(model, 1, rec)
    monkeypatch.undo()
    rec.close()
    assert steps_with(tmp_path / "run", "loss") == list(range(1, rec.completed + 1))


def test_a_run_that_cannot_begin_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the run folder"):
        dd.Recorder(mlp(), tmp_path / "file" / "run")


def test_a_run_that_a_full_disk_does_not_let_go_on_is_as_it_was(tiny_disk):
    path, filler = tiny_disk / "run", tiny_disk / "filler"
    model = mlp()
    with dd.Recorder(model, path, probes="light", every=1) as rec:
        train(model, 3, rec)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    filled = filler.open("wb", buffering=0)
    try:
        while True:
            filled.write(bytes(4096))
    except OSError:
        filled.close()
    # first the session's file has no place, then it has one and run.json has none
    for room in (0, 4096 * (1 + len((path / "run.json").read_bytes()) // 4096)):
        os.truncate(filler, filler.stat().st_size - room)
        for asked in ({"resume": 2}, {"resume": ("force", 1)}):
            with pytest.raises(RunError, match="cannot record in .*No space left"):
                dd.Recorder(model, path, probes="light", every=1, **asked)
    with pytest.raises(RunError, match="No space left"):
        dd.Recorder(model, tiny_disk / "new", probes="light", every=1)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before
    assert steps_with(path, "loss") == [1, 2, 3]
