"""How one training ends, by the launcher that waits for it."""

from __future__ import annotations

import sys
import threading

import pytest

from dropdiag.experiments.engines import launcher
from dropdiag.experiments.engines import stop as stopping
from dropdiag.experiments.engines.launch import End, Launch
from dropdiag.experiments.engines.report import Reader
from dropdiag.experiments.engines.stop import Stop

from .conftest import launch, wait_until


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("well", None),
        ("raises", "ValueError: too large"),
        ("refuses", "RunError: no room in here"),
        ("by SIGTERM", "it was interrupted"),
        ("by SIGKILL", "it was killed by signal 9 (SIGKILL): out of memory, perhaps; what it wrote is in {log}"),
        ("by SIGSEGV", "it was killed by signal 11 (SIGSEGV): a fault in compiled code; what it wrote is in {log}"),
        ("os._exit(0)", "it exited with code 0 before it was over; what it wrote is in {log}"),
        ("os._exit(7)", "it exited with code 7 before it was over; what it wrote is in {log}"),
        ("sys.exit(0)", "it exited with code 0 before it was over; what it wrote is in {log}"),
        ("sys.exit(3)", "it exited with code 3 before it was over; what it wrote is in {log}"),
    ],
)
def test_each_end_has_its_words(tmp_path, how, error):
    one = launch(tmp_path, "run", how)
    end = launcher.run(one)
    assert (end.name, end.error) == ("run", error and error.format(log=one.output))
    assert (tmp_path / "run" / "whole").exists() == (error is None)


def test_a_traceback_is_kept_and_shown(tmp_path):
    one = launch(tmp_path, "run", "raises")
    end = launcher.run(one)
    assert "ValueError: too large" in end.output
    assert "Traceback" in one.output.read_text()
    assert "training.py" in one.output.read_text().splitlines()[0], "each attempt begins with its command"


def test_an_error_that_says_what_is_wrong_has_no_traceback(tmp_path):
    assert launcher.run(launch(tmp_path, "run", "refuses")).output == "error: no room in here"


def test_what_it_wrote_is_that_of_this_attempt(tmp_path):
    assert launcher.run(launch(tmp_path, "run", "well, with a warning")).output == "careful"
    again = launcher.run(launch(tmp_path, "run", "well"))
    assert again == End("run")
    assert again.output == ""
    assert (tmp_path / "launches" / "run.log").read_text().count("careful\n") == 1


def test_what_an_earlier_attempt_reported_counts_for_nothing(tmp_path):
    assert launcher.run(launch(tmp_path, "run", "well")).error is None
    assert "exited with code 0" in str(launcher.run(launch(tmp_path, "run", "os._exit(0)")).error)


def test_its_environment(tmp_path):
    one = launch(tmp_path, "run", "with its environment", environment={"OF_THE_LAUNCH": "1"})
    assert launcher.run(one).output == "1 None", "what a training starts in its turn has not been launched"


def test_a_program_that_cannot_be_started(tmp_path):
    end = launcher.run(Launch("run", (str(tmp_path / "nothing"),), tmp_path / "launches"))
    assert str(end.error).startswith("it could not be started: [Errno 2] No such file or directory")
    (tmp_path / "file").write_text("")
    end = launcher.run(Launch("run", (sys.executable, "-c", ""), tmp_path / "file"))
    assert str(end.error).startswith("it could not be started: [Errno 17] File exists")


def test_a_program_that_reports_nothing_has_failed(tmp_path):
    """However it ended: nothing says that it trained."""
    end = launcher.run(Launch("run", (sys.executable, "-c", "print('hello')"), tmp_path))
    assert end == End(
        "run", f"it exited with code 0 before it was over; what it wrote is in {tmp_path}/run.log", "hello"
    )


def test_a_stop_interrupts_once_and_waits_for_the_run_to_be_closed(tmp_path):
    stop, ends = Stop(), []
    thread = threading.Thread(target=lambda: ends.append(launcher.run(launch(tmp_path, "run", "wait"), stop)))
    thread.start()
    wait_until((tmp_path / "run" / "waiting").exists, "the training waits")
    stop.set()
    stop.set()
    stop.wait()
    assert (tmp_path / "run" / "closed").exists()
    thread.join()
    assert ends == [End("run", "it was interrupted")]
    assert launcher.run(launch(tmp_path, "other", "well"), stop).error == "not begun, since all were to end"
    assert not (tmp_path / "other").exists()


def test_what_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.2)
    code = (
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'waiting')!r}).touch()\n"
        "while True: time.sleep(1)"
    )
    stop, ends = Stop(), []
    one = Launch("run", (sys.executable, "-c", code), tmp_path / "launches")
    thread = threading.Thread(target=lambda: ends.append(launcher.run(one, stop)))
    thread.start()
    wait_until((tmp_path / "waiting").exists, "the program waits")
    stop.set()
    thread.join()
    assert "killed by signal 9" in ends[0].error


def test_the_report_says_which_process_trains_and_what_it_has_done(tmp_path):
    one = launch(tmp_path, "run", "well")
    reader = Reader(one.report)
    launcher.run(one)
    begun, *steps, ended = reader.news()
    assert begun["begun"] > 1
    assert steps == [{"step": 1, "accuracy": 0.25}, {"step": 2, "accuracy": 0.75}]
    assert ended == {"ended": "completed"}
    assert reader.news() == []
