"""Verdicts on claims in a terminal: one line a part, and what limits them said once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from dropdiag.cli.terminal import Page, literal
from dropdiag.formatting import LOG_RATIO, bounds, magnitude, missing, plain, text

if TYPE_CHECKING:
    import pandas as pd

STYLES: Final = {"supported": "green", "contradicted": "red", "in part": "cyan", "undecided": "yellow"}
EARLY: Final = "*"
"""Behind a part's verdict that is provisional; beside the claim's it is said in full."""


def verdicts(page: Page, claims: Any) -> None:
    """Add the verdicts of `Claims`: of each claim and condition its parts, then remarks on these, then the caveats.

    Parameters
    ----------
    page : Page
    claims : Claims
    """
    parts = claims.parts
    heads = "", "effect", f"{100 * (1 - claims.alpha):g} % interval", "p, family", ""
    # a part without a number has its reason below instead
    known = parts[parts["effect"].notna()]
    rows = {key: [_cells(row) for row in own.itertuples()] for key, own in known.groupby(["claim", "condition"])}
    # all lists of parts have the same columns, so that one can look down the page
    widths = [
        max(map(len, column)) for column in zip(heads, *(row for own in rows.values() for row in own), strict=True)
    ]
    for letter, several in claims.table.groupby("claim", sort=False):
        page.line(Text.assemble((f"({letter}) ", "bold"), several["statement"].iloc[0]))
        head = [heads]
        for row in several.itertuples():
            beside = f"{row.condition}, beside {row.baseline}: " if text(row.condition) else ""
            early = " (provisional)" if row.provisional else ""
            page.line(
                Text.assemble(literal(beside), (text(row.verdict), STYLES.get(text(row.verdict), "")), early), indent=2
            )
            own = rows.get((letter, row.condition), [])
            if not own:
                page.line(text(row.reason), indent=4)
                continue
            page.rows([*head, *own], widths, styles=STYLES, indent=4)
            head = []  # once a claim
            mine = parts[(parts["claim"] == letter) & (parts["condition"] == row.condition)]
            for remark in (*_remarks(mine), *_beside(mine)):
                page.line(remark, indent=4)
        page.line()
    said = [*_marks(known), *_caveats(claims.table), *_unrecorded(claims.unrecorded)]
    for line in [*said, ""] if said else []:
        page.line(line)


def _cells(row: Any) -> tuple[str, ...]:
    """Return a part as text: name, effect, interval, p, verdict."""
    ratio, verdict = row.scale == LOG_RATIO, text(row.verdict)
    interval = "" if missing(row.low) else " to ".join(bounds(row.low, row.high, ratio=ratio))
    shown = f"{verdict}{EARLY}" if row.provisional else verdict
    p = plain(row.p_family, ".2g")
    return row.part, magnitude(row.effect, ratio=ratio), interval, p, shown if row.counts else f"({shown})"


def _remarks(parts: pd.DataFrame) -> list[str]:
    """Return what is to be said of parts, each once."""
    told: dict[str, list[str]] = {}
    for row in parts.itertuples():
        if text(row.note):
            told.setdefault(text(row.note), []).append(text(row.part))
    return [f"{', '.join(names)}: {note}" for note, names in told.items()]


def _beside(parts: pd.DataFrame) -> list[str]:
    """Return what belongs to the parts' numbers, a line a part."""
    return [one[:1].upper() + one[1:] + "." for one in dict.fromkeys(map(text, parts["beside"])) if one]


def _marks(parts: pd.DataFrame) -> list[str]:
    lines = []
    if parts["provisional"].astype(bool).any():
        lines.append(f"{EARLY} provisional: decided by Student's t; more seeds may turn it")
    if not parts["counts"].astype(bool).all():
        lines.append("( ) read beside the claim, and not counted")
    return lines


def _unrecorded(claims: Sequence[Any]) -> list[str]:
    """Return which claims were not asked, and what they take, in a line."""
    taken = "; ".join(f"({one.claim}) {one.record}" for one in claims)
    return [f"not asked, for no run holds what they take: {taken}"] if taken else []


def _caveats(table: pd.DataFrame) -> list[str]:
    """Return what limits verdicts, each once, with the claims that it limits."""
    lines = []
    for caveats, rows in table.groupby("caveats", sort=False):
        if not text(caveats):
            continue
        limited = []
        for letter, own in rows.groupby("claim", sort=False):
            every = len(own) == int((table["claim"] == letter).sum())
            limited += [f"({letter})"] if every else [f"({letter}) {name}" for name in own["condition"]]
        lines.append(f"{', '.join(limited)}: {caveats}")
    return lines
