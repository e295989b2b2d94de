from __future__ import annotations

import pytest

from dropdiag.plots.layout import MANY
from dropdiag.store.reader import Runs
from tests.synthetic import write_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three conditions, two seeds, three layers."""
    return write_runs(tmp_path_factory.mktemp("runs"), seeds=(0, 1), steps=60)


@pytest.fixture(scope="session")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two conditions, one seed, twelve layers."""
    return write_runs(tmp_path_factory.mktemp("deep"), ["No dropout", "Dropout"], (0,), layers=12, steps=30, size=500)


@pytest.fixture(scope="session")
def deepest(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Two conditions, one seed, more layers than constrained layout is asked to place."""
    folder = tmp_path_factory.mktemp("deepest")
    return write_runs(folder, ["No dropout", "Dropout"], (0,), layers=MANY + 1, steps=30, size=500)
