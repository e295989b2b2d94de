from __future__ import annotations

import pytest

from dropdiag.store.reader import Runs
from tests.synthetic import write_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Three conditions, three seeds, three layers."""
    return write_runs(tmp_path_factory.mktemp("runs"))
