"""``dropdiag report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import (
    Alpha,
    AsJson,
    Baseline,
    Dropout,
    Gaaf,
    GroupsArgument,
    Letters,
    Scalar,
    answer,
    check_file,
    claim_options,
    clear_errors,
    finish,
    groups,
)
from dropdiag.errors import warned


@clear_errors()
def report(
    runs: GroupsArgument,
    *,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The HTML file.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
    baseline: Baseline = None,
    dropout: Dropout = None,
    gaaf: Gaaf = None,
    scalar: Scalar = None,
    claims: Letters = None,
    alpha: Alpha = None,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page about runs: verdicts, figures, tables, coverage, cost.

    It opens in any browser, from the file, without a network. One condition is enough; two or more are compared.
    Runs that cannot be read are named, the others are reported, and the exit code is then 1.

    **Examples**

    - `dropdiag report "No dropout=runs/base-*" "Dropout=runs/drop-*" --out report.html`
    - `dropdiag report runs/* --title "Dropout on our transformer"`
    """
    out = check_file(out)
    with warned() as problems:
        from dropdiag.analysis.compare.lenient import opened  # noqa: PLC0415 - pandas is not paid for --help
        from dropdiag.report.page import report as written  # noqa: PLC0415

        found, unreadable = opened(groups(runs))
        asked = claim_options(dropout=dropout, gaaf=gaaf, scalar=scalar, claims=claims, alpha=alpha)
        path = written(found, out, title=title, baseline=baseline, claims=asked)
    problems[:0] = unreadable  # found first, so said first
    document = {"report": str(path), "runs": [str(run.path) for run in found], "problems": problems}
    answer(document, f"report:  {path}", as_json=as_json)
    finish(problems)
