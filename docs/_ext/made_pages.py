"""Pages that are made from the program itself: the options of each command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from dropdiag.cli.program import app as program

HEAD = """\
# Options of the command line

Made from the program itself, as `dropdiag COMMAND --help` shows them.
[The command line](../cli.md) says what they are for.
"""


def page() -> str:
    """Return the page: a section a command, with a table of its arguments and options."""
    group: Any = typer.main.get_command(program)
    return "\n".join([HEAD, *(_section(name, command) for name, command in group.commands.items())])


def _section(name: str, command: Any) -> str:
    parameters = [one for one in command.params if not getattr(one, "hidden", False)]
    table = ["| argument or option | meaning | default |", "|---|---|---|", *map(_row, parameters)]
    return f"## dropdiag {name}\n\n{_text(command.help)}\n\n" + "\n".join(table) + "\n"


def _row(parameter: Any) -> str:
    names = ", ".join(f"`{option}`" for option in [*parameter.opts, *parameter.secondary_opts])
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    shown = "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
    shown = "required" if parameter.required else shown
    cells = (names, " ".join((parameter.help or "").split()), shown)
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _text(help_text: str | None) -> str:
    return (help_text or "").replace("\b", "").strip()


def write(app: Any) -> None:
    """Write it where it has changed."""
    path, text = Path(app.srcdir) / "reference" / "cli-options.md", page()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
