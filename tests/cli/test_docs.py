"""docs/cli.md names every command, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from dropdiag.cli.program import COMMANDS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_command_is_in_the_table():
    named = re.findall(r"^\| `dropdiag (\w+)", (DOCS / "cli.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert named == [command.__name__ for command in COMMANDS]


def test_commands_in_the_prose_exist():
    for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        used = set(re.findall(r"\bdropdiag (reproduce|[a-z]+) (?:RUN|ROOT|runs)", path.read_text(encoding="utf-8")))
        assert used <= {command.__name__ for command in COMMANDS}, path
