"""Runs and pages for the report's tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

import dropdiag as dd
from dropdiag.store.reader import Runs
from tests.report.folders import transformer
from tests.report.stand_in import comparison
from tests.synthetic import write_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three conditions, three seeds, three layers: what the reproduction records."""
    return write_runs(tmp_path_factory.mktemp("runs"), seeds=(0, 1, 2), steps=60)


@pytest.fixture(scope="session")
def page_file(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dd.report(comparison(runs), tmp_path_factory.mktemp("page") / "report.html", title="Three conditions")


@pytest.fixture(scope="session")
def deep_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """50 layers, three conditions, 100 steps, one seed; made once for all workers."""
    # without workers the folder above is that of all runs of the tests: a page of an earlier one would be taken
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    file = shared / "deep.html"
    with FileLock(shared / "deep.lock"):
        if not file.exists():
            dd.report(comparison(transformer(shared / "deep", layers=50, steps=100, seeds=1, size=300)), file)
    return file
