"""The recipes of CONTRIBUTING.md, followed step by step in a copy of the package.

A recipe is a section with numbered steps. "New file `PATH`:" and "In `PATH`, after `LINE`:" are followed by the code to
put there, "Check:" by code that must run with the changed package.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import dropdiag

ROOT = Path(__file__).parents[1]
STEP = re.compile(
    r"^(?:New file `(?P<new>[^`]+)`|In `(?P<old>[^`]+)`, after `(?P<after>[^`]+)`|(?P<check>Check)):\s*\n\n?```\w*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Recipe:
    title: str
    steps: tuple[re.Match[str], ...]

    @property
    def files(self) -> list[str]:
        return [step["new"] or step["old"] for step in self.steps if not step["check"]]


def recipes() -> list[Recipe]:
    sections = re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [Recipe(one.split("\n", 1)[0], tuple(STEP.finditer(one))) for one in sections]


def follow(recipe: Recipe, root: Path) -> list[str]:
    """Do what the steps say; return the code of the checks."""
    checks = []
    for step in recipe.steps:
        if step["check"]:
            checks.append(step["code"])
        elif step["new"]:
            path = root / step["new"]
            assert not path.exists(), f"{step['new']} is there already"
            path.write_text(step["code"], encoding="utf-8")
        else:
            path = root / step["old"]
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            places = [i for i, line in enumerate(lines) if line.strip() == step["after"].strip()]
            assert len(places) == 1, f"{step['old']} holds the line {step['after']!r} {len(places)} times"
            lines.insert(places[0] + 1, step["code"])
            path.write_text("".join(lines), encoding="utf-8")
    return checks


def test_there_is_a_recipe_for_what_people_add():
    words = ("probe", "figure", "dropout kind", "claim", "command", "data set")
    assert [recipe.title for recipe in recipes()] == [f"Add a {word}" for word in words]


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.title)
def test_a_recipe_works_as_written(recipe, tmp_path):
    assert 1 <= len({name for name in recipe.files if name.startswith("dropdiag/")}) <= 3
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(dropdiag.__file__).parent, tmp_path / "dropdiag", ignore=ignored)
    checks = follow(recipe, tmp_path)
    assert checks, "a recipe ends with a check"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    for code in checks:
        done = subprocess.run(
            [sys.executable, "-W", "error::DeprecationWarning", "-c", code],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", ROOT / "pyproject.toml", *recipe.files],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout
