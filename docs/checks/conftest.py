from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from docs.checks import names as namespace
from docs.checks import trainers

Names = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that examples read."""
    folder = tmp_path_factory.mktemp("recorded")
    namespace.record_all(folder)
    return folder


@pytest.fixture(scope="session")
def loaded(recorded: Path) -> dict[str, Any]:
    return namespace.loaded(recorded)


@pytest.fixture
def names(recorded: Path, loaded: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What code may speak of, in a folder of its own with runs of its own; what it records is closed at its end."""
    shutil.copytree(recorded, tmp_path, dirs_exist_ok=True)
    (tmp_path / "train.py").write_text(namespace.train_py(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    trainers.here_alone(tmp_path, monkeypatch)
    made: list[dict[str, Any]] = []

    def of(code: str) -> dict[str, Any]:
        trainers.their_warnings(code)
        fresh = namespace.fresh(code)
        made.append({**loaded, **fresh, **trainers.fresh(code, fresh["model"], fresh["loader"])})
        return made[-1]

    yield of
    for one in made:
        if "rec" in one:
            one["rec"].close()
