from __future__ import annotations

import pytest
from filelock import FileLock

from dropdiag.errors import RunError
from dropdiag.experiments import under_way
from dropdiag.experiments.under_way import being_trained, refuse_under_way


def test_a_run_is_held_while_it_is_trained_and_no_longer(tmp_path):
    with being_trained(tmp_path, "gaaf-s0"):
        with pytest.raises(RunError, match="gaaf-s0 is being trained by another process, .*; wait until it has ended"):
            refuse_under_way(tmp_path, ["dropout-s0", "gaaf-s0"])
        refuse_under_way(tmp_path, ["dropout-s0"])
    refuse_under_way(tmp_path, ["dropout-s0", "gaaf-s0"])


def test_looking_makes_nothing(tmp_path):
    refuse_under_way(tmp_path / "out", ["gaaf-s0"])
    assert list(tmp_path.iterdir()) == []


def test_nobody_trains_beside_another(tmp_path, monkeypatch):
    monkeypatch.setattr(under_way, "ENDING_SECONDS", 0.05)
    with being_trained(tmp_path, "gaaf-s0"):
        with pytest.raises(RunError, match="gaaf-s0 is being trained"), being_trained(tmp_path, "gaaf-s0"):
            pytest.fail("trained twice")
        with being_trained(tmp_path, "dropout-s0"):
            pass


def test_where_there_are_no_locks_it_warns_and_trains(tmp_path, monkeypatch, capsys):
    def no_locks(self, *_args, **_options):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(FileLock, "_acquire", no_locks)
    with being_trained(tmp_path, "gaaf-s0"):
        refuse_under_way(tmp_path, ["gaaf-s0"])
    assert capsys.readouterr().err == (
        "warning: gaaf-s0 cannot be locked ([Errno 37] No locks available); see that no other process trains it\n"
    )


def test_an_error_of_the_training_is_its_own(tmp_path):
    with pytest.raises(OSError, match="disk"), being_trained(tmp_path, "gaaf-s0"):
        raise OSError("disk")
