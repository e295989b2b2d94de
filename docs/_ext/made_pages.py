"""Pages that are made from the program itself: the options of each command, and the schemas of what they print."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import typer.main

from dropdiag.cli.program import app as program

HEAD = """\
# Options of the command line

Made from the program itself, as `dropdiag COMMAND --help` shows them.
[The command line](../cli.md) says what they are for.
"""
SCHEMAS = """\
# JSON schemas

Of what the program prints with `--json`, and of the JSON that a run folder holds. They are made from the types that the
program itself writes and reads by. Later versions may add keys.

| file | of |
|---|---|
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


def schemas(docs: Path) -> str:
    """Return the page that lists the published schemas, which the site has at the addresses that it links to."""
    files = [docs / "run.schema.json", *sorted((docs / "schemas").glob("*.json"))]
    return SCHEMAS + "".join(
        f'| <a href="../{file.relative_to(docs).as_posix()}">{file.name}</a> | {_title(file)} |\n' for file in files
    )


def _title(file: Path) -> str:
    return str(json.loads(file.read_text(encoding="utf-8"))["title"])


def write(app: Any) -> None:
    """Write them where they have changed."""
    docs = Path(app.srcdir)
    for name, text in {"cli-options": page(), "schemas": schemas(docs)}.items():
        path = docs / "reference" / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def copy_schemas(app: Any, exception: Exception | None) -> None:
    """Put the schemas below ``schemas/`` of the site; ``html_extra_path`` would put them beside its front page."""
    if exception is None and app.builder.format == "html":
        shutil.copytree(Path(app.srcdir) / "schemas", Path(app.outdir) / "schemas", dirs_exist_ok=True)


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("builder-inited", write)
    app.connect("build-finished", copy_schemas)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
