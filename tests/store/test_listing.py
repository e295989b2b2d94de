from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from dropdiag.errors import ArgumentError
from dropdiag.store.listing import Listed, filtered, listing, ordered
from tests.synthetic import content, write

ONE = Listed("a", "/a", "Dropout", 0, 10, "completed", 100, "2026-01-01T00:00:00+00:00", {})
CONFIGS = {
    "a": {"lr": 0.1, "opt": {"name": "sgd"}, "flag": True, "name.of": "x"},
    "b": {"lr": 0.01, "opt": {"name": "adam"}, "flag": 1},
    "c": {"lr": "0.1", "note": None},
}
RUNS = [replace(ONE, name=name, config=config, steps=steps)
        for (name, config), steps in zip(CONFIGS.items(), (30, 20, 10), strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr", "0.1", ["a", "c"]),
        ("lr", "1e-1", ["a"]),
        ("opt.name", "adam", ["b"]),
        ("flag", "true", ["a"]),
        ("flag", "1", ["b"]),
        ("name.of", "x", ["a"]),
        ("condition", "Dropout", ["a", "b", "c"]),
        ("steps", "20", ["b"]),
        ("state", "failed", []),
        ("opt", '{"name": "sgd"}', ["a"]),
    ],
)
def test_filters(key, value, expected):
    assert [run.name for run in filtered(RUNS, [(key, value)])] == expected


def test_all_of_several_filters_hold():
    assert [run.name for run in filtered(RUNS, [("lr", "0.1"), ("steps", "10")])] == ["c"]


def test_an_unknown_key_lists_what_there_is():
    with pytest.raises(ArgumentError, match=r"no run has 'rate'; there are name, condition, .*, flag, lr, name.of, "):
        filtered(RUNS, [("rate", "1")])
    assert filtered([], [("rate", "1")]) == []


def test_order():
    assert [run.name for run in ordered(RUNS, "steps")] == ["c", "b", "a"]
    assert [run.name for run in ordered(RUNS, "steps", reverse=True)] == ["a", "b", "c"]
    assert [run.name for run in ordered(RUNS, "lr")] == ["b", "a", "c"], "numbers before text"
    assert [run.name for run in ordered(RUNS, "opt.name")] == ["b", "a", "c"], "missing ones last"
    assert [run.name for run in ordered(RUNS, "opt.name", reverse=True)] == ["a", "b", "c"], "then as well"


def test_a_run_json_that_lacks_a_key_is_named(tmp_path):
    write(tmp_path / "run", content("Dropout", 0, steps=3, size=10), "Dropout", 0)
    text = (tmp_path / "run" / "run.json").read_text()
    (tmp_path / "run" / "run.json").write_text(text.replace('"created"', '"made"'))
    found = listing(tmp_path)
    assert found.runs == []
    assert "run/run.json is damaged: created is missing" in found.unreadable["run"]


def test_runs_at_any_depth(tmp_path):
    for name in ("a", "deep/er/b"):
        write(tmp_path / name, content("Dropout", 0, steps=3, size=10), "Dropout", 0)
    assert [run.name for run in listing(tmp_path).runs] == ["a", "deep/er/b"]


AT_ONCE = """
import sys, threading
from pathlib import Path
from dropdiag.store.door import reading

file = Path(sys.argv[1]) / "run.json"
content, barrier, read = file.read_bytes(), threading.Barrier(8), []

def one():
    barrier.wait()
    read.append(reading.read(content, file)["name"])

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=one) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert len(read) == 8, read
"""


def test_the_first_runs_of_a_process_may_be_read_by_threads_at_once(tmp_path):
    run = write(tmp_path / "run", content("Dropout", 0, steps=4, size=50), "Dropout", 0)
    for _ in range(3):  # a process each: the first reading is once a process; it crashed nearly each of them
        subprocess.run([sys.executable, "-c", AT_ONCE, str(run)], check=True, timeout=300)
