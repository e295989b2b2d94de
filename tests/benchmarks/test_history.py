"""Every kernel keeps a ratio, and history.py reads them as they stand in pytest-benchmark's files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))

import history  # noqa: E402 - a script: it lies beside the benchmarks


def saved(folder, name, date, **kernels):
    """A file as pytest-benchmark writes it, with what is read of it and some of the rest."""
    benchmarks = [{"name": name, "stats": {"median": 1e-5}, "extra_info": info} for name, info in kernels.items()]
    machine = {"node": "here", "machine": "x86_64", "cpu": {"brand_raw": f"CPU of {name}"}}
    content = {"machine_info": machine, "commit_info": {"id": f"{name * 12}"}, "benchmarks": benchmarks}
    path = folder / "Linux-CPython-3.11-64bit" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**content, "datetime": f"{date}T10:11:12.131415+00:00", "version": "5.3.1"}))


def ratio(low, median, high, reference="histc"):
    return {"reference": reference, "ratio": median, "low": low, "high": high}


def test_sessions_come_in_the_order_of_their_dates_with_their_ratios(tmp_path):
    saved(tmp_path, "b", "2026-02-01", update=ratio(0.11, 0.12, 0.13), kde=ratio(2.0, 2.1, 2.2, "sum"))
    saved(tmp_path, "a", "2026-03-01", update=ratio(0.05, 0.06, 0.07), new=ratio(1.0, 1.0, 1.0), kde={})
    saved(tmp_path, "c", "2026-01-01", update={})  # kept before ratios were
    first, second, blank, head, *rows = history.lines(history.sessions_in(tmp_path))
    assert first == "[1] 2026-02-01T10:11  bbbbbbbbbb  CPU of b"
    assert second == "[2] 2026-03-01T10:11  aaaaaaaaaa  CPU of a"
    assert blank == ""
    assert head.split() == ["kernel", "over", "[1]", "[2]", "quartiles"]
    assert [row.split() for row in rows] == [
        ["update", "histc", "0.120", "0.060", "0.050-0.070", "faster"],
        ["new", "histc", "–", "1.000", "1.000-1.000"],
    ]


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (ratio(0.9, 1.0, 1.1), ratio(1.2, 1.3, 1.4), "slower"),
        (ratio(0.9, 1.0, 1.1), ratio(0.6, 0.7, 0.8), "faster"),
        (ratio(0.9, 1.0, 1.1), ratio(1.0, 1.3, 1.4), ""),  # the quartiles overlap
        (ratio(0.99, 1.0, 1.01), ratio(1.04, 1.05, 1.06), ""),  # too little
        (ratio(0.9, 1.0, 1.1), ratio(2.0, 2.1, 2.2, "sum"), ""),  # of another reference
        (None, ratio(2.0, 2.1, 2.2), ""),
    ],
)
def test_a_change_is_told_where_quartiles_do_not_overlap(before, now, expected):
    assert history.change(before, now) == expected


def test_no_history_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["history.py", str(tmp_path)])
    history.main()
    assert capsys.readouterr().out == f"{tmp_path}: no session with ratios\n"


def test_every_kernel_runs_and_keeps_a_ratio(tmp_path):
    kept = tmp_path / "kept"
    options = ["-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "tests.benchmarks.stand_in", "--override-ini"]
    command = [sys.executable, "-m", "pytest", "benchmarks/bench_kernels.py", *options, "python_files=bench_*.py"]
    environment = {**os.environ, "KEPT": str(kept), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    kernels = [json.loads(line) for line in kept.read_text().splitlines()]
    assert {kernel["name"].split("[")[0] for kernel in kernels} == {
        "test_histogram_update",
        "test_histogram_of_one_step",
        "test_sums_and_counts",
        "test_correlation_of_an_evaluation",
        "test_kde",
    }
    for kernel in kernels:
        info = kernel["extra_info"]
        assert 0 < info["low"] <= info["ratio"] <= info["high"]
