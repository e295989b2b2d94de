"""What trainings report, and what is heard of it."""

from __future__ import annotations

import threading

import pytest

from dropdiag.experiments.engines import report as module
from dropdiag.experiments.engines.following import Following
from dropdiag.experiments.engines.launch import Launch
from dropdiag.experiments.engines.report import Reader, Report


def test_what_is_written_is_read_once(tmp_path):
    report, reader = Report(tmp_path / "r.jsonl"), Reader(tmp_path / "r.jsonl")
    assert reader.news() == []
    report.step(3, 0.5)
    assert reader.news() == [{"step": 3, "accuracy": 0.5}]
    assert reader.news() == []
    report.end("failed", "ValueError: no")
    assert reader.news() == [{"ended": "failed", "error": "ValueError: no"}]


def test_who_reads_later_does_not_hear_of_earlier_attempts(tmp_path):
    Report(tmp_path / "r.jsonl").end("completed")
    reader = Reader(tmp_path / "r.jsonl")
    Report(tmp_path / "r.jsonl").end("interrupted")
    assert reader.news() == [{"ended": "interrupted"}]


def test_half_a_line_waits_for_its_end_and_a_torn_one_is_passed_over(tmp_path):
    path = tmp_path / "r.jsonl"
    reader = Reader(path)
    path.write_text('{"step": 1}\n{"step"')
    assert reader.news() == [{"step": 1}]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert reader.news() == [{"step": 2}]
    with path.open("a") as file:
        file.write('{"st{"begun": 7}\n[1]\n{"step": 3}\n')
    assert reader.news() == [{"step": 3}]


def test_steps_are_said_now_and_then_and_accuracies_each_time(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    report, reader = Report(tmp_path / "r.jsonl"), Reader(tmp_path / "r.jsonl")
    for step in range(1, 9):
        report.step(step, 0.5 if step == 3 else None)
        now[0] += 0.2
    assert [event["step"] for event in reader.news()] == [1, 3, 6]


def test_a_disk_that_is_full_does_not_end_a_training_but_its_end_is_not_lost_silently(tmp_path):
    report = Report(tmp_path / "missing" / "r.jsonl")
    report.step(1, 0.5)
    with pytest.raises(FileNotFoundError):
        report.end("completed")


def test_without_a_launcher_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = Report(None)
    report.begin()
    report.step(1, 0.5)
    report.end("completed")
    assert list(tmp_path.iterdir()) == []


def test_following_tells_each_step_in_order_and_once(tmp_path):
    told, heard = [], threading.Event()

    def tell(*step):
        told.append(step)
        heard.set()

    one, other = (Launch(name, ("true",), tmp_path) for name in "ab")
    with Following([one, other], tell) as following:
        report = Report(one.report)
        report.begin()
        report.step(1, 0.25)
        assert heard.wait(60), "it looks by itself"
        report.step(2, 0.5)
        report.end("completed")
        with following.told("a"):
            assert told == [("a", 1, 0.25), ("a", 2, 0.5)]
    assert told == [("a", 1, 0.25), ("a", 2, 0.5)]
