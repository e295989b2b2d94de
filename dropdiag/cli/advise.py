"""``dropdiag advise``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dropdiag.cli.common import (
    Alpha,
    AsJson,
    GroupsArgument,
    check_file,
    claim_options,
    clear_errors,
    echo_json,
    finish,
    groups,
    say,
)
from dropdiag.cli.terminal import Page
from dropdiag.errors import warned
from dropdiag.formatting import missing, plain

if TYPE_CHECKING:
    from dropdiag.analysis.advice.advice import Advice

SHORT: Final = {"not told from the best": "not told", "no verdict": "no verdict"}
"""Verdict -> what it is called in a terminal of 80 columns."""


@clear_errors()
def advise(
    runs: GroupsArgument,
    *,
    x: Annotated[str, typer.Option("--x", metavar="KEY", help="Key of the config that was swept.")] = "rate",
    scalar: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Held-out scalar that runs are judged by, as in 'accuracy' or 'validation/accuracy'.",
            show_default="an accuracy, else a loss",
        ),
    ] = None,
    alpha: Alpha = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the page of advice, one HTML file.")] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say which rates of a sweep cannot be told from the best, and how sure; and what else its runs tell.

    One sentence comes first. Then what it rests on: each rate's score, how far it is behind; whether training had
    converged, the gap between training and held-out data, what each layer's dropout costs and brings; what was not
    measured, with the call that records it; and what to try next, with the reason. Tests are one family at alpha.
    RUNS may be the folder of a sweep. Runs and conditions that are left out are named, and the exit code is then 1.

    **Examples**

    - `dropdiag advise runs/sweep` : the folder of a sweep
    - `dropdiag advise "runs/**/s?" --x rate --scalar validation/accuracy --out advice.html`
    - `dropdiag advise "No dropout=runs/base-*" "Dropout=runs/drop-*" "GAAF=runs/gaaf-*"`
    - `dropdiag advise runs/sweep --json | jq -r .sentence`
    """
    out = None if out is None else check_file(out)
    with warned() as problems:
        from dropdiag.analysis.advice.advice import advise as advised  # noqa: PLC0415 - pandas is not paid for --help

        found = advised(groups(runs), x, scalar=scalar, **claim_options(alpha=alpha))
        if out is not None:
            out = found.html(out)
    problems[:0] = found.problems
    if as_json:
        echo_json(found.record() | {"problems": problems, "page": None if out is None else str(out)})
    else:
        _print(found)
        if out is not None:
            say(f"page:  {out}")
    finish(problems, "note")


def _print(found: Advice) -> None:
    page = Page()
    page.line(found.sentence, style="bold")
    page.line()
    _conditions(page, found)
    page.line("What was found", style="bold")
    for one in found.findings:
        told = [] if missing(one.value) else [one.number]
        told += [f"p {plain(one.p, '.2g')}"] if one.tested else []
        numbers = f" ({', '.join(told)})" if told else ""
        page.line(f"{one.rule}: {one.what}{numbers}", indent=2)
    if found.next:
        page.line()
        page.line("What to try next", style="bold")
        for said in found.next:
            page.line(f"{said.what} {said.why}", indent=2)
    if found.not_measured:
        page.line()
        page.line("Not measured", style="bold")
        for lacking in found.not_measured:
            page.line(f"{lacking.what} ({lacking.tells}): do {lacking.call}", indent=2)
    page.show()


def _conditions(page: Page, found: Advice) -> None:
    outcome = found.case.outcome
    level = f"{100 * (1 - found.case.alpha):g} %"
    score = outcome.chosen.base if outcome else "score"
    columns = {found.case.axis or "condition": "left", "runs": "right", score: "right", level: "right",
               "behind": "right", "p": "right", "verdict": "left"}  # fmt: skip
    rows = []
    for row in found.table.to_dict("records"):
        interval = "" if missing(row["chosen_low"]) else f"{plain(row['chosen_low'])} to {plain(row['chosen_high'])}"
        label = plain(row["dose"], ".6g") or str(row["condition"])
        verdict = SHORT.get(row["verdict"], str(row["verdict"]))
        p, behind = plain(row["p"], ".2g"), plain(row["behind"])
        rows.append([label, str(row["runs"]), plain(row["chosen"]), interval, behind, p, verdict])
    page.table(columns, rows)
    page.line()
