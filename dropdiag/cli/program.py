"""The program that gathers the commands."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from dropdiag.cli.advise import advise
from dropdiag.cli.catalog import catalog
from dropdiag.cli.common import say
from dropdiag.cli.compare import compare
from dropdiag.cli.coverage import coverage
from dropdiag.cli.doctor import doctor
from dropdiag.cli.export import export
from dropdiag.cli.ls import ls
from dropdiag.cli.plot import plot
from dropdiag.cli.report import report
from dropdiag.cli.reproduce import reproduce
from dropdiag.cli.show import show
from dropdiag.cli.sql import sql
from dropdiag.cli.sweep import sweep
from dropdiag.cli.watch import watch
from dropdiag.cli.words import Command, running

UsageError: Final[Any] = typer.BadParameter.__bases__[0]
"""Of typer, which exports its children alone."""
# In the order in which --help lists them.
COMMANDS = (
    reproduce,
    sweep,
    ls,
    show,
    coverage,
    compare,
    advise,
    report,
    plot,
    watch,
    export,
    sql,
    catalog,
    doctor,
)


class Commands(TyperGroup):
    """The commands; what the option parser refuses is told as every other error is."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the options of the program itself."""
        with _clear_usage_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with _clear_usage_errors():
            return super().invoke(ctx)


@contextmanager
def _clear_usage_errors() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # it shows the help
            raise
        from dropdiag.cli.usage import told  # noqa: PLC0415 - a suggestion is looked for where something is wrong alone

        # what is repeated of the command line is made printable: a folder's name may be in it
        say(f"error: {told(error)}", err=True)
        raise typer.Exit(2) from None


class Program(typer.Typer):
    """The program: what the encoding of a terminal or pipe lacks is printed as ``?`` and stops nothing."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Run a command."""
        # A pipe of ASCII, or a Windows console, must not end a command with UnicodeEncodeError.
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return super().__call__(*args, **options)


app = Program(
    name="dropdiag",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"dropdiag {version('dropdiag')}")
        except PackageNotFoundError:
            typer.echo("dropdiag, not installed as a package: its version is unknown")
        raise typer.Exit


@app.callback(cls=Commands)
def main(
    ctx: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Measure what dropout and GAAF do inside a PyTorch network.

    `dropdiag COMMAND --help` explains a command, with examples.

    **Exit codes**: 0 all is well; 1 done in part, and what is missing is named; 2 wrong input, nothing was written;
    130 interrupted.
    """
    group: Any = ctx.command
    if ctx.invoked_subcommand is not None:
        command = group.get_command(ctx, ctx.invoked_subcommand)
        parameters = [(str(param.name), param.opts) for param in command.params]
        token = running.set(Command.of(f"dropdiag {command.name}", parameters))
        ctx.call_on_close(lambda: running.reset(token))


for _command in COMMANDS:
    app.command()(_command)
