"""Runs and comparisons as HTML, for a notebook: escaped, and in the notebook's own colours, light or dark.

Nothing is read here but what the objects hold or their ``run.json`` says, so that showing them stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dropdiag.errors import DropdiagError
from dropdiag.formatting import disabled, effect, facts, missing, notes, plain, text
from dropdiag.pages import isolating, rendered

RUNS: Final = 30
"""Runs that are listed one by one; the others are counted."""
EFFECTS: Final = 60
"""Effects that are shown; the others are in the table."""


@dataclass(frozen=True)
class Table:
    """Headings and rows of cells; columns ``numbers`` stand to the right, before column ``dots`` a coloured dot."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: Sequence[int] = ()
    dots: int = -1


def run(one: Any) -> str:
    """Return a `Run` as HTML.

    Parameters
    ----------
    one : Run

    Returns
    -------
    str
        What it is and how it went, its warnings, its layers (folded).
    """
    meta = one.meta
    sites = [
        [site["layer"], site["call"], site["kind"], site.get("type") or "",
         " x ".join(map(str, site.get("shape") or ())), site.get("skipped")]
        for site in meta["layers"]
    ]  # fmt: skip
    seed = "none" if one.seed is None else one.seed
    ranks = {} if one.group is None else {"ranks": one.group.told}
    known = {"condition": one.condition, "seed": seed, **facts({**meta, "state": one.state}), **ranks, "path": one.path}
    layers = Table(("layer", "call", "kind", "type", "shape", "not recorded, because"), sites, numbers=(1,))
    warnings = *disabled(meta), *meta.get("warnings", ())
    names = {one.name, one.condition, *(str(site["layer"]) for site in meta["layers"])}
    return _page(
        f"Run {one.name}", names=names, facts=known, warnings=warnings, folded={f"Sites: {len(sites)}": layers}
    )


def runs(several: Any) -> str:
    """Return `Runs` as HTML.

    Parameters
    ----------
    several : Runs

    Returns
    -------
    str
        Conditions with their numbers of runs and seeds, and the first 30 runs (folded).
    """
    by: dict[str, list[Any]] = {}
    for one in several:
        by.setdefault(one.condition, []).append(one)
    conditions = [[name, len(found), _seeds(found)] for name, found in by.items()]
    listed = [
        [one.condition, one.seed, name, f"{one.meta.get('steps', 0):,}", one.state]
        for name, one in list(zip(several.labels(), several, strict=True))[:RUNS]
    ]
    each = Table(("condition", "seed", "run", "steps", "state"), listed, numbers=(1, 3))
    more = f"; the first {RUNS} of {len(several):,}" if len(several) > RUNS else ""
    title = f"{len(several):,} {'run' if len(several) == 1 else 'runs'}"
    shown = Table(("condition", "runs", "seeds"), conditions, numbers=(1,))
    return _page(title, names={*by, *several.labels()}, shown=shown, folded={f"Each run{more}": each})


def comparison(one: Any) -> str:
    """Return a `Comparison` as HTML.

    Parameters
    ----------
    one : Comparison

    Returns
    -------
    str
        Verdicts on the claims and their parts, problems, effects (folded), layers that were not compared.
    """
    others = ", ".join(name for name in one.conditions if name != one.baseline)
    columns = ("condition", "measure", "layer", "effect", "interval", "p (Holm)", "least p", "n")
    effects = [[row.condition, *effect(row)] for row in one.table.head(EFFECTS).itertuples()]
    more = f"; the first {EFFECTS} are shown, all are in .table" if len(one.table) > EFFECTS else ""
    folded = {f"Effects: {len(one.table):,}{more}": Table(columns, effects, numbers=(3, 4, 5, 6, 7))}
    unmatched = [[row.layer, row.condition, row.reason] for row in one.unmatched.itertuples()]
    if unmatched:
        folded[f"Layers not compared: {len(unmatched)}"] = Table(("layer", "condition", "why"), unmatched)
    said = [[note] for note in notes(one.table)]
    if said:
        folded[f"Notes: {len(said)}"] = Table((), said)
    title, beside = f"Comparison of {others} with {one.baseline}", f", {len(one.runs):,} runs"
    claims, problems = _claims(one)
    names = {*one.conditions, *one.table["layer"].dropna(), *one.unmatched["layer"].dropna()}
    warnings = [*problems, *one.problems]
    return _page(title, beside, names=map(str, names), shown=claims, warnings=warnings, folded=folded)


def advice(
    sentence: str, names: Iterable[str], shown: Table, warnings: Iterable[str], folded: Mapping[str, Table]
) -> str:  # fmt: skip
    """Return `Advice` as HTML.

    Parameters
    ----------
    sentence : str
    names : iterable of str
        Of conditions and layers.
    shown : Table
        A row a condition.
    warnings : iterable of str
        What was left out.
    folded : mapping of str to Table

    Returns
    -------
    str
    """
    counted = {f"{name}: {len(one.rows)}": one for name, one in folded.items() if one.rows}
    return _page(sentence, names=names, shown=shown, warnings=warnings, folded=counted)


def claims(one: Any) -> str:
    """Return `Claims` as HTML.

    Parameters
    ----------
    one : Claims

    Returns
    -------
    str
        Who is compared with whom, the verdicts and their parts, the rules (folded).
    """
    rules = Table(("", "rule"), [[claim, rule] for claim, rule in one.rules.items()])
    names = {*one.table["condition"], *one.table["baseline"]} - {""}
    return _page(one.headline, names=names, shown=_verdicts(one), folded={"Rules": rules})


def _claims(one: Any) -> tuple[Table | None, list[str]]:
    """Return the verdicts on a comparison, or why there are none."""
    try:
        return _verdicts(one.claims()), []
    except DropdiagError as error:
        return None, [f"no verdicts: {error}"]


def _verdicts(found: Any) -> Table:
    """Return the verdicts, each with those on its parts below it."""
    rows = []
    for row in found.table.itertuples():
        of = (found.parts["claim"] == row.claim) & (found.parts["condition"] == row.condition)
        parts = list(found.parts[of].itertuples())
        # parts have the numbers: what is left to say of the whole is what limits it
        rows.append([row.claim, row.statement, row.condition, _verdict(row), row.caveats if parts else row.reason])
        rows += [["", f"\u2013 {_name(part)}", "", _verdict(part), _number(part)] for part in parts]
    return Table(("", "claim, and its parts", "condition", "verdict", "why"), rows, dots=3)


def _name(part: Any) -> str:
    """Return what a part is called; a reading beside the claim is none that the claim's verdict rests on."""
    return f"{part.part}{'' if part.counts or missing(part.effect) else ' (not counted)'}"


def _number(part: Any) -> str:
    """Return the number of a part in words, with its p."""
    p = plain(part.p_family, ".2g")
    return "; ".join(filter(None, [text(part.reason), f"p = {p} over the family" if p else ""]))


def _verdict(row: Any) -> str:
    """Return a verdict; that so few seeds leave it to Student's t is said wherever it is."""
    return f"{row.verdict}, provisional" if row.provisional else str(row.verdict)


def _page(
    title: str,
    beside: str = "",
    *,
    names: Iterable[str] = (),
    facts: Mapping[str, Any] | None = None,
    shown: Table | None = None,
    warnings: Iterable[str] = (),
    folded: Mapping[str, Table],
) -> str:
    return rendered(
        "dropdiag", "notebook.html.j2",
        title=title, beside=beside, facts=facts, shown=shown, warnings=warnings, folded=folded, text=text, look=_look,
        named=isolating(names),
    )  # fmt: skip


def _look(verdict: Any) -> str:
    """Return the classes of a verdict's dot: one each for what it says, and for how sure it is."""
    return " ".join(word.strip().replace(" ", "-") for word in text(verdict).split(","))


def _seeds(found: Sequence[Any]) -> str:
    seeds = sorted({one.seed for one in found if one.seed is not None})
    if not seeds:
        return "none"
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    shown = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds[:12]))
    return shown + (", ..." if len(seeds) > 12 and not whole else "")
