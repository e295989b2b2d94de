from __future__ import annotations

import json
import re

import pytest
from typer.testing import CliRunner

from dropdiag.cli import app
from tests.described import write_meta
from tests.synthetic import content, write


def call(*arguments, columns=80, **environment) -> tuple[int, str, str]:
    env = {"COLUMNS": str(columns), "NO_COLOR": "1", **environment}
    result = CliRunner().invoke(app, [str(a) for a in arguments], env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.stdout), result.stderr


@pytest.fixture
def runs(tmp_path):
    """Four small runs: two conditions, two seeds."""
    for condition in ("No dropout", "Dropout"):
        for seed in (0, 1):
            name = f"{condition.lower().replace(' ', '-')}-s{seed}"
            steps = 40 + 10 * seed
            path = write(tmp_path / "runs" / name, content(condition, seed, steps=steps, size=500), condition, seed)
            meta = json.loads((path / "run.json").read_text()) | {"steps": steps}
            write_meta((path / "run.json"), meta)
    return tmp_path / "runs"
