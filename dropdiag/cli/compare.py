"""``dropdiag compare``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

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
    check_file,
    claim_options,
    clear_errors,
    echo_json,
    finish,
    groups,
    say,
)
from dropdiag.cli.completion import layers
from dropdiag.cli.terminal import Page, grouped
from dropdiag.cli.verdicts import verdicts
from dropdiag.errors import ArgumentError, warned
from dropdiag.formatting import effect, notes, text
from dropdiag.store.schema import base_and_x

if TYPE_CHECKING:
    import pandas as pd

CURVE: Final = 4
"""With more values than this a number of layers is a curve: a row for each value and layer would be pages of them."""


@clear_errors()
def compare(
    runs: GroupsArgument,
    *,
    baseline: Baseline = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the whole report, one HTML file.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN", autocompletion=layers, help="Print layers whose name matches, as in 'layer2.*'."
        ),
    ] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Print measures whose name matches, as in 'weight_*'.")
    ] = None,
    dropout: Dropout = None,
    gaaf: Gaaf = None,
    scalar: Scalar = None,
    claims: Letters = None,
    alpha: Alpha = None,
    as_json: AsJson = False,
) -> None:
    """Compare conditions over seeds: a verdict on each of the paper's claims, and every effect behind it.

    Verdicts are one family: any false one has a probability of at most alpha. One that so few seeds leave to Student's
    t is provisional. An effect stands with its interval over seeds and its p, Holm-adjusted over layers; **least p** is
    the smallest p that so many seeds can give. Of the gradient flow it is a factor; `--json` has its logarithm. One
    seed gives an effect and no p. The baseline is the condition whose name has "no", "without", "base" or a 0 in it;
    else the only one whose runs recorded no dropout above 0, else the smallest of rates, else the first NAME=. Runs
    that cannot be read or have diverged are named, copies of a run count once, and the exit code is then 1.

    **Examples**

    - `dropdiag compare "No dropout=runs/base-*" "Dropout=runs/drop-*" --out report.html`
    - `dropdiag compare runs --baseline A` : all runs below a folder, each under the condition in its config
    - `dropdiag compare "a-*" "b-*" --baseline a` : the same, or where no config names one, conditions "a" and "b"
    - `dropdiag compare "A=runs/a-*" "B=runs/b-*" --baseline B --measure gradient_flow`
    - `dropdiag compare "A=runs/a-*" "B=runs/b-*" --json | jq '.claims[] | {claim, verdict}'`
    """
    out = None if out is None else check_file(out)
    with warned() as problems:
        from dropdiag.analysis.comparison import compare as compared  # noqa: PLC0415 - pandas is not paid for --help

        level = claim_options(alpha=alpha)
        found = compared(groups(runs), baseline=baseline, on_unreadable="ignore", **level)
        asked = claim_options(dropout=dropout, gaaf=gaaf, scalar=scalar, claims=claims)
        judged = found.claims(**asked)
        effects = _chosen(_chosen(found.table, "layer", layer), "measure", measure)
        if out is not None:
            from dropdiag.report.page import report  # noqa: PLC0415

            out = report(found, out, claims=asked)
    problems[:0] = found.problems  # compare() was told to stay silent: here is where they are said
    if as_json:
        echo_json({
            "baseline": found.baseline, "conditions": found.conditions, "runs": [str(run.path) for run in found.runs],
            "alpha": judged.alpha, "headline": judged.headline,
            "claims": judged.table.to_dict("records"), "claims_by_part": judged.parts.to_dict("records"),
            "claims_by_layer": judged.layers.to_dict("records"), "rules": judged.rules,
            "effects": effects.to_dict("records"), "unmatched": found.unmatched.to_dict("records"),
            "problems": problems, "report": None if out is None else str(out),
        })  # fmt: skip
    else:
        _print(repr(found.runs), judged, *((effects, {}) if measure else _without_curves(effects)), found.unmatched)
        if out is not None:
            say(f"report:  {out}")
    finish(problems)


def _chosen(table: pd.DataFrame, column: str, pattern: str | None) -> pd.DataFrame:
    if pattern is None:
        return table
    names = [str(name) for name in table[column].unique()]
    if not any(fnmatchcase(name, pattern) for name in names):
        raise ArgumentError(f"no {column} matches {pattern!r}; there are {', '.join(names) or 'none'}")
    # scalars of the network have the layer None, which matches no pattern
    return table[[isinstance(name, str) and fnmatchcase(name, pattern) for name in table[column]]]


def _without_curves(effects: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Leave out the curves of layers, a number at so many values of something, and say how many values each has."""
    families = {str(name): base_and_x(str(name)) for name in effects.loc[effects["layer"].notna(), "measure"].unique()}
    counts = Counter(base for base, x in families.values() if x is not None)
    curves = {base: n for base, n in counts.items() if n > CURVE}
    left_out = [name for name, (base, _) in families.items() if base in curves]
    return effects[~effects["measure"].isin(left_out)], curves


def _print(
    runs: str, claims: Any, effects: pd.DataFrame, curves: Mapping[str, int], unmatched: pd.DataFrame
) -> None:  # fmt: skip
    page = Page()
    page.line(runs.strip("<>"), style="bold")
    page.line(claims.headline)
    page.line()
    verdicts(page, claims)
    level = f"{100 * (1 - claims.alpha):g} % interval"
    columns = {"measure, layer": "left", "effect": "right", level: "right", "p (Holm)": "right", "least p": "right",
               "n": "right"}  # fmt: skip
    # the tables are as wide as a terminal of 80 columns: one a condition, in place of a column for it
    for (condition, baseline), part in effects.groupby(["condition", "baseline"], sort=False):
        page.table(columns, grouped(_by_measure(part)), title=f"{condition}, beside {baseline}")
        page.line()
    for name, n in curves.items():
        page.line(f"not printed: {name}, at {n} values; --measure '{name}@*' prints them")
    for note in notes(effects):
        page.line(f"note: {note}")
    for row in unmatched.itertuples():
        page.line(f"not compared: {text(row.layer)} of {text(row.condition)}: {text(row.reason)}")
    page.show()


def _by_measure(effects: pd.DataFrame) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield each measure with its layers' texts."""
    for _, part in effects.groupby("measure", sort=False):
        rows = [effect(row) for row in part.itertuples()]
        yield rows[0][0], [row[1:] for row in rows]
