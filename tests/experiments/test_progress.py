from __future__ import annotations

import io

import pytest
from rich.console import Console

from dropdiag.experiments import progress
from dropdiag.experiments.progress import Bars, Lines, display_for

STEPS = {"dropout-s0": 100, "gaaf-s0": 100}


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=140, color_system=None)


def shown(where: Console) -> str:
    return where.file.getvalue()


def test_a_terminal_gets_bars_and_anything_else_lines():
    assert isinstance(display_for(STEPS, console(True)), Bars)
    assert isinstance(display_for(STEPS, console(False)), Lines)


def test_lines_say_how_each_run_ended():
    where = console(False)
    with Lines(STEPS, where) as lines:
        lines.step("dropout-s0", 100, 0.75)
        lines.end("dropout-s0", None)
        lines.step("gaaf-s0", 20, None)
        lines.end("gaaf-s0", "ValueError: [bold] is no markup\nsecond line")
    first, second = shown(where).splitlines()
    assert first.startswith("[1/2] dropout-s0 done, test accuracy 0.7500; ")
    assert first.endswith(" s left")
    assert second == "[2/2] gaaf-s0 failed: ValueError: [bold] is no markup"


def test_lines_are_silent_between_unless_a_minute_has_passed(monkeypatch):
    where, now = console(False), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(STEPS, where)
    lines.step("gaaf-s0", 10, 0.5)
    assert shown(where) == ""
    now[0] = 61.0
    lines.step("gaaf-s0", 50, None)
    assert shown(where) == "gaaf-s0: step 50 of 100, test accuracy 0.5000; 61 s gone, about 183 s left\n"


def test_bars_follow_the_runs():
    where = console(True)
    with Bars(STEPS, where) as bars:
        bars.step("dropout-s0", 40, None)
        bars.step("dropout-s0", 100, 0.75)
        bars.end("dropout-s0", None)
        bars.end("gaaf-s0", "OSError: [red] disk full")
    final = shown(where).rsplit("all runs", 1)[1]
    assert "100/200" in final
    assert "test accuracy 0.7500" in final
    assert "OSError: [red] disk full" in final


@pytest.mark.parametrize("error", [None, "Error: x"])
def test_a_run_may_end_before_its_first_step(error):
    for terminal in (True, False):
        with display_for(STEPS, console(terminal)) as display:
            display.end("gaaf-s0", error)


def test_where_steps_are_not_known_the_time_left_is_that_of_runs_that_have_finished(monkeypatch):
    where, now = console(False), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Lines({"a": None, "b": None, "c": None}, where) as lines:
        now[0] = 61.0
        lines.step("a", 122, None)
        now[0] = 100.0
        lines.step("a", 200, None)
        lines.end("a", None)  # 200 of 600 steps took 100 s
        lines.step("b", 100, None)
        lines.end("b", "ValueError: x")  # 200 and 100 steps are done, 200 are left
        lines.step("c", 250, None)  # longer than the others
        lines.end("c", None)
    assert shown(where).splitlines() == [
        "a: step 122; 61 s gone, 2 steps/s",
        "[1/3] a done; 100 s gone, about 200 s left",
        "[2/3] b failed: ValueError: x; 100 s gone, about 67 s left",
        "[3/3] c done",
    ]


def test_runs_that_finished_before_tell_how_long_the_others_take():
    where = console(True)
    with Bars({"a": None, "b": None}, where, finished=[90, 110]) as bars:
        bars.step("a", 50, None)
    assert "50/200" in shown(where).rsplit("all runs", 1)[1]
    assert "0 of 2 runs" in shown(where)
    where = console(True)
    with Bars({"a": None, "b": None}, where) as bars:
        bars.step("a", 50, None)
        bars.end("a", None)
        bars.end("b", "OSError: y")
    final = shown(where).rsplit("all runs", 1)[1]
    assert "50/50" in final
    assert "2 of 2 runs" in final
