"""``dropdiag watch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import clear_errors, place
from dropdiag.cli.completion import run_folders


@clear_errors()
def watch(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|ROOT",
            parser=place,
            autocompletion=run_folders,
            help="A run folder, or a folder with runs in it.",
        ),
    ],
    *,
    host: Annotated[str, typer.Option(help="Address to listen at; others than this machine's ask for a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 0,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="DROPDIAG_TOKEN",
            help="What a browser must know to see the page from elsewhere; made where it is needed and not given.",
            show_default=False,
        ),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="How often to look for news.")] = 5.0,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Serve the report of runs while they train: the same page, read-only, kept fresh. Ctrl-C ends it.

    **Examples**

    - `dropdiag watch runs/dropout-s0 --open`
    - `dropdiag watch runs --port 8000`
    - `DROPDIAG_TOKEN=... dropdiag watch runs --host 0.0.0.0 --port 8000` : for others to see, with a token
    """
    from dropdiag.report.serve import watch as serve  # noqa: PLC0415 - pandas is not paid for --help

    serve(target, host=host, port=port, interval=interval, token=token, open_browser=open_browser)
