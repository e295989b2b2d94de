"""The claims of a report: their verdicts, the parts of each, and the numbers that these rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from dropdiag.analysis.claims.claims import Claims, Unrecorded
from dropdiag.analysis.compare.measures import COUNTERS, OF_NETWORK
from dropdiag.formatting import LOG_RATIO, minus, site, text, whole
from dropdiag.report.cells import ABSENT, Cell, Table, effect, interval, number
from dropdiag.report.cells import text as cell
from dropdiag.store.schema import base_and_x

MARKS: Final = {"supported": "✔", "contradicted": "✘", "in part": "◐", "undecided": "?", "not recorded": "–",
                "not judged": "·"}  # fmt: skip
EFFECTS: Final = (
    "condition", "layer", "call", "measure", "quantity", "scale", "unit", "effect", "low", "high", "interval", "value",
    "baseline_value", "p", "p_attainable", "p_holm", "test", "n", "n_baseline", "paired", "note",
)  # fmt: skip
HEADS: Final = (
    "Part or layer", "Measure", "Effect [interval]", "Joint interval", "Threshold", "p", "p, adjusted", "Attainable p",
    "Verdict",
)  # fmt: skip
SLOPE: Final = "_slope"
UNDECIDED, NOT_RECORDED = "undecided", "not recorded"


@dataclass(frozen=True)
class Part:
    """One part of a claim: what it says in short, its verdict, and the number of that verdict in a sentence.

    ``beside`` says that it has a verdict on which the claim's does not rest; ``p`` is p over the family, in words;
    ``others`` are the other numbers that belong to it, a sentence.
    """

    name: str
    verdict: str
    mark: str
    look: str
    provisional: bool
    beside: bool
    reason: str
    p: str
    others: str = ""


@dataclass(frozen=True)
class Verdict:
    """One claim for one condition, and what decides it: part by part, over all layers and layer by layer.

    ``condition`` is empty where no condition plays the part that the claim speaks of. ``provisional`` says that so few
    seeds leave the decision to Student's t. ``caveats`` are the end of ``reason``: what no part says. ``tested`` is
    False where nothing was recorded that could decide. ``look`` is the page's class for it.
    """

    claim: str
    statement: str
    condition: str
    baseline: str
    verdict: str
    mark: str
    look: str
    reason: str
    caveats: str
    n: str
    rule: str
    layers: Table
    anchor: str
    parts: list[Part]
    provisional: bool
    tested: bool


@dataclass(frozen=True)
class Judged:
    """A claim with its verdicts, a condition each; ``why`` says why it cannot be tested, where no verdict is tested."""

    claim: str
    statement: str
    rule: str
    verdicts: list[Verdict]

    @property
    def tested(self) -> bool:
        """Whether the runs could decide it for any condition."""
        return any(one.tested for one in self.verdicts)

    @property
    def why(self) -> str:
        """Reasons of its verdicts, each once."""
        return " ".join(dict.fromkeys(one.reason for one in self.verdicts))


def verdicts(claims: Claims) -> list[Verdict]:
    """Rows of ``Claims.table``, each with its parts of ``Claims.parts`` and ``Claims.layers``."""
    made: list[Verdict] = []
    for row in claims.table.to_dict("records"):
        claim, verdict, condition = str(row["claim"]), str(row["verdict"]), row["condition"]
        layers, parts = (_of(frame, claim, condition) for frame in (claims.layers, claims.parts))
        own = [_part(part) for part in parts.to_dict("records")]
        # a claim of which nothing was measured has no number that stands behind it
        measured = any(part.verdict != NOT_RECORDED for part in own)
        made.append(Verdict(
            claim, str(row["statement"]), text(condition), text(row["baseline"]), verdict, MARKS.get(verdict, "?"),
            look(verdict, bool(row["provisional"])), minus(str(row["reason"])), minus(text(row["caveats"])),
            whole(row["n"]), minus(claims.rules[claim]), _evidence(parts[parts["effect"].notna()], layers),
            f"claim-{len(made) + 1}", own, bool(row["provisional"]), bool(text(condition)) and measured,
        ))  # fmt: skip
    return [*made, *(_unrecorded(one) for one in claims.unrecorded)]


def _unrecorded(one: Unrecorded) -> Verdict:
    """Return a claim that was not asked, with what is to be recorded for it."""
    rule = minus(f"Record {one.record}. {one.rule}")
    return Verdict(
        one.claim, one.statement, "", "", UNDECIDED, MARKS[UNDECIDED], look(UNDECIDED, provisional=False),
        "No run holds what it takes.", "", whole(0), rule, Table("", HEADS, [], ""), f"claim-{one.claim}", [],
        provisional=False, tested=False,
    )  # fmt: skip


def by_claim(made: Sequence[Verdict]) -> list[Judged]:
    """Gather verdicts by claim, in the order in which the claims come."""
    names = dict.fromkeys(one.claim for one in made)
    groups = [[one for one in made if one.claim == name] for name in names]
    return [Judged(own[0].claim, own[0].statement, own[0].rule, own) for own in groups]


def look(verdict: str, provisional: bool) -> str:
    """Return the classes that a page gives to a verdict: a provisional one never looks like a firm one."""
    return verdict.replace(" ", "-") + (" provisional" if provisional else "")


def _part(row: Mapping[Any, Any]) -> Part:
    """Return one row of ``Claims.parts``."""
    verdict, provisional = str(row["verdict"]), bool(row["provisional"])
    p = number(row["p_family"], ".2g")
    return Part(
        str(row["part"]), verdict, MARKS.get(verdict, "?"), look(verdict, provisional), provisional,
        not row["counts"] and verdict != NOT_RECORDED, minus(text(row["reason"])),
        "" if p is ABSENT else f"p = {p.shown} over the family",
        _sentence(minus(text(row.get("beside")))),
    )  # fmt: skip


def _sentence(said: str) -> str:
    return said and f"{said[0].upper()}{said[1:]}."


def _of(frame: pd.DataFrame, claim: str, condition: Any) -> pd.DataFrame:
    """Rows of one claim and condition."""
    own: pd.DataFrame = frame[(frame["claim"] == claim) & (frame["condition"] == condition)]
    return own


def _evidence(parts: pd.DataFrame, layers: pd.DataFrame) -> Table:
    """Return the numbers of one verdict as a table: over all layers first; those of a log ratio as factors."""
    rows = [_row(row) for frame in (parts, layers) for row in frame.to_dict("records")]
    note = (
        "The joint interval holds for all layers together (Bonferroni). p is adjusted over layers (Holm), that of a "
        "part over all parts of all claims that were asked at once."
    )
    return Table("Over all layers, and layer by layer", HEADS, rows, note if len(layers) else "")


def _row(row: Mapping[Any, Any]) -> list[Cell]:
    measure, ratio = str(row["measure"]), row["scale"] == LOG_RATIO
    joint = interval(row.get("joint_low"), row.get("joint_high"), ratio=ratio)
    early = ", provisional" if row.get("provisional") else ""
    return [
        cell(_place(row, measure)), cell(measure.replace("_", " ")), effect(row, ratio=ratio), joint,
        effect({"effect": row["threshold"]}, ratio=ratio), number(row["p"]),
        number(row.get("p_holm", row.get("p_family"))), number(row["p_attainable"]), cell(f"{row['verdict']}{early}"),
    ]  # fmt: skip


def _place(row: Mapping[Any, Any], measure: str) -> str:
    """Say what a row is of: a layer, or a part, taken over all layers."""
    if isinstance(row.get("layer"), str):
        return site(row["layer"], row.get("call"))
    if ":" in measure or base_and_x(measure)[0] in OF_NETWORK:  # of a scalar, which belongs to the network
        return f"{row['part']}, network"
    return f"{row['part']}, {'slope' if measure.endswith(SLOPE) else 'mean'} over layers"


def effects(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Return the effects table as JSON, column by column; columns that it lacks are null.

    Measures of scalars that only count (`COUNTERS`) are left out.
    """
    table = table[~table["measure"].map(lambda name: str(name).rpartition(":")[2] in COUNTERS)]
    found = table.reindex(columns=list(EFFECTS)).astype(object)
    return {str(name): column for name, column in found.where(found.notna(), None).to_dict("list").items()}
