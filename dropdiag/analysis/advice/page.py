"""One page of advice: HTML that needs no other file and no script; small, and fit to be printed.

``one`` is an `Advice`, which is what calls this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.advice import figure
from dropdiag.analysis.advice.layers import MEASURES
from dropdiag.analysis.advice.table import INSIDE
from dropdiag.errors import ArgumentError
from dropdiag.formatting import NOTHING, minus, missing, site, typeset
from dropdiag.notebook import Table, advice
from dropdiag.pages import isolating, rendered
from dropdiag.store.new_files import new_file

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def write(one: Any, path: str | Path) -> Path:
    """Write the page; see `Advice.html`."""
    file = Path(path).expanduser()
    if file.is_dir():
        raise ArgumentError(f"{str(path)!r} is a folder; give the file to write, such as {str(file / 'advice.html')!r}")
    text = page(one)
    file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(file) as out:
        out.write(text.encode("utf-8"))
    return file


def page(one: Any) -> str:
    """Return the page."""
    case = one.case
    return rendered(
        "dropdiag", "advice.html.j2",
        one=one, outcome=case.outcome, policy=POLICY, conditions=conditions(one), findings=findings(one),
        layers=layers(one), following=following(one), missing=not_measured(one), named=isolating(_names(one)),
        drawn=figure.figure(case, one.rates, verdict=INSIDE in set(one.table["verdict"])), box=figure,
    )  # fmt: skip


def fragment(one: Any) -> str:
    """Return the advice as a notebook shows it."""
    folded = {"Findings": findings(one), "What to try next": following(one), "Not measured": not_measured(one)}
    return advice(one.sentence, _names(one), conditions(one), one.problems, folded)


def _names(one: Any) -> set[str]:
    return {*map(str, one.table["condition"]), *map(str, one.layers["layer"].unique())}


def conditions(one: Any) -> Table:
    """Return a row a condition: what it reached, how far it is behind, and its verdict."""
    outcome, axis = one.case.outcome, one.case.axis
    gap = f"gap in {one.case.gap_of}" if one.case.gap_of else "gap"
    head = [axis or "condition", "runs", outcome.name if outcome else "score", "behind the best of the others",
            "better in the last third", gap, "verdict"]  # fmt: skip
    columns = ["chosen", "behind"]
    if outcome is not None and not outcome.same:
        head.insert(3, f"{outcome.reported.data} {outcome.reported.base}")
        columns.insert(1, "reported")
    rows = []
    for row in one.table.to_dict("records"):
        label = typeset(row["dose"], ".6g") if not missing(row["dose"]) else row["condition"]
        rows.append([label, str(row["runs"]), *(_with_interval(row, name) for name in columns),
                     typeset(row["improvement"]), typeset(row["gap"]), row["verdict"]])  # fmt: skip
    return Table(head, rows, numbers=range(1, len(head) - 1))


def _with_interval(row: Any, name: str) -> str:
    if missing(row[name]):
        return NOTHING
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    ends = "" if missing(low) else f" [{typeset(low)}, {typeset(high)}]"
    return f"{typeset(row[name])}{ends}"


def findings(one: Any) -> Table:
    """Return a row a finding; what was tested has a p, adjusted over the page."""
    rows = [
        [
            found.rule,
            minus(found.what),
            minus(found.number),
            typeset(found.p, ".2g") if found.tested else "",
            found.source,
        ]
        for found in one.findings
    ]
    return Table(("rule", "what was found", "number [interval]", "p over the page", "source"), rows, numbers=(3,))


def following(one: Any) -> Table:
    """Return a row a thing to try."""
    rows = [[said.what, minus(said.why), minus(said.number), said.source] for said in one.next]
    return Table(("try", "because", "number", "source"), rows)


def not_measured(one: Any) -> Table:
    """Return a row a thing that was not measured."""
    rows = [[said.what, said.tells, said.call] for said in one.not_measured]
    return Table(("not measured", "would tell", "do"), rows)


def layers(one: Any) -> dict[str, Table]:
    """Return a table a measure of layers: a row a layer, a column a condition."""
    names = list(dict.fromkeys(one.layers["condition"]))
    order = [name for name in (*one.case.conditions, *names) if name in names]
    made = {}
    for measure, part in one.layers.groupby("measure", sort=False):
        held = [name for name in dict.fromkeys(order) if name in set(part["condition"])]
        heads = [one.case.name(name) if name in one.case.doses else name for name in held]
        rows = [[site(*key), *(_cell(of, name) for name in held)]
                for key, of in part.groupby(["layer", "call"], sort=False)]  # fmt: skip
        made[MEASURES[str(measure)]] = Table(["layer", *heads], rows, numbers=range(1, len(held) + 1))
    return made


def _cell(rows: pd.DataFrame, condition: str) -> str:
    of = rows[rows["condition"] == condition]
    if of.empty or not np.isfinite(of["value"].iloc[0]):
        return NOTHING
    return typeset(of["value"].iloc[0])
