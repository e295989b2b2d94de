"""Runs and comparisons as HTML, for a notebook: escaped, and in the notebook's own colours, light or dark.

Nothing is read here but what the objects hold or their ``run.json`` says, so that showing them stays cheap.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dropdiag.errors import DropdiagError
from dropdiag.formatting import effect, notes, plain, text

RUNS: Final = 30
"""Runs that are listed one by one; the others are counted."""
EFFECTS: Final = 60
"""Effects that are shown; the others are in the table."""
DOTS: Final = {"supported": "#2e9e5b", "contradicted": "#e0533d", "undecided": "#c79a1e"}

# Colours are those of the page around, so that it suits light and dark themes alike.
_STYLE: Final = (
    "<style>"
    ".dropdiag{color:inherit;font-size:13px;line-height:1.4;max-width:100%;overflow-x:auto}"
    ".dropdiag table{border-collapse:collapse;margin:.4em 0;color:inherit;background:transparent;border:0;"
    "font-size:inherit}"
    ".dropdiag th,.dropdiag td{text-align:left!important;vertical-align:top;padding:2px 10px 2px 0;"
    "background:transparent;border:0;border-bottom:1px solid rgba(128,128,128,.35);color:inherit;max-width:36em;"
    "overflow-wrap:break-word;white-space:normal}"
    ".dropdiag td.n,.dropdiag th.n{text-align:right!important;font-variant-numeric:tabular-nums;white-space:nowrap}"
    ".dropdiag summary{cursor:pointer;margin:.3em 0}"
    ".dropdiag .warn{border-left:3px solid #c79a1e;padding-left:8px;margin:.3em 0}"
    ".dropdiag .dot{font-size:.9em;margin-right:.35em}"
    "</style>"
)


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
    config = {key: value for key, value in meta["config"].items() if key not in ("condition", "seed")}
    facts = [
        ("condition", one.condition),
        ("seed", "none" if one.seed is None else one.seed),
        ("state", f"{meta['state']}, {meta.get('steps', 0):,} steps" + _joined(": ", meta.get("error"))),
        ("when", f"{meta.get('created', 'unknown')}" + _joined(" to ", meta.get("ended"))),
        ("cost", _share(meta.get("cost"))),
        ("config", ", ".join(f"{key}={value}" for key, value in config.items())),
        ("path", one.path),
    ]
    known = [(name, value) for name, value in facts if value not in ("", None)]
    sites = [
        [site["layer"], site["call"], site["kind"], site["type"], _shape(site.get("shape")), site.get("skipped") or ""]
        for site in meta["layers"]
    ]
    layers = _table(("layer", "call", "kind", "type", "shape", "not recorded, because"), sites, numbers=(1,))
    return _page(
        f"<strong>Run {_text(one.name)}</strong>",
        _table((), known, heads=True),
        _warnings([*(f"a probe was disabled: {probe}" for probe in meta.get("disabled_probes", ())),
                   *meta.get("warnings", ())]),
        _folded(f"Sites: {len(sites)}", layers),
    )  # fmt: skip


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
        [one.condition, "" if one.seed is None else one.seed, name, f"{one.meta.get('steps', 0):,}", one.meta["state"]]
        for name, one in list(zip(several.labels(), several, strict=True))[:RUNS]
    ]
    each = _table(("condition", "seed", "run", "steps", "state"), listed, numbers=(1, 3))
    more = f"; the first {RUNS} of {len(several):,}" if len(several) > RUNS else ""
    return _page(
        f"<strong>{len(several):,} {'run' if len(several) == 1 else 'runs'}</strong>",
        _table(("condition", "runs", "seeds"), conditions, numbers=(1,)),
        _folded(f"Each run{more}", each),
    )


def comparison(one: Any) -> str:
    """Return a `Comparison` as HTML.

    Parameters
    ----------
    one : Comparison

    Returns
    -------
    str
        Verdicts on the claims, problems, effects (folded), layers that were not compared.
    """
    others = ", ".join(_text(name) for name in one.conditions if name != one.baseline)
    columns = ("condition", "measure", "layer", "effect", "interval", "p (Holm)", "least p", "n")
    effects = [[row.condition, *effect(row)] for row in one.table.head(EFFECTS).itertuples()]
    more = f"; the first {EFFECTS} are shown, all are in .table" if len(one.table) > EFFECTS else ""
    said = notes(one.table)
    unmatched = [[row.layer, row.condition, row.reason] for row in one.unmatched.itertuples()]
    return _page(
        f"<strong>Comparison of {others} with {_text(one.baseline)}</strong>, {len(one.runs):,} runs",
        _claims(one),
        _warnings(one.problems),
        _folded(f"Effects: {len(one.table):,}{more}", _table(columns, effects, numbers=(3, 4, 5, 6, 7))),
        _folded(f"Layers not compared: {len(unmatched)}", _table(("layer", "condition", "why"), unmatched))
        if unmatched else "",
        _folded(f"Notes: {len(said)}", "".join(f"<div>{_text(note)}</div>" for note in said)) if said else "",
    )  # fmt: skip


def _claims(one: Any) -> str:
    try:
        found = one.claims().table
    except DropdiagError as error:
        return _warnings([f"no verdicts: {error}"])
    rows = [
        f"<tr><td>{_text(row.claim)}</td><td>{_text(row.statement)}</td><td>{_text(row.condition)}</td>"
        f"<td>{_dot(row.verdict)}{_text(row.verdict)}</td><td>{_text(row.reason)}</td></tr>"
        for row in found.itertuples()
    ]
    head = "".join(f"<th>{name}</th>" for name in ("", "claim", "condition", "verdict", "why"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _dot(verdict: str) -> str:
    colour = DOTS.get(verdict, "currentColor")
    return f'<span class="dot" style="color:{colour}" aria-hidden="true">&#9679;</span>'


def _page(*parts: str) -> str:
    return f'{_STYLE}<div class="dropdiag">{"".join(parts)}</div>'


def _table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Sequence[int] = (), heads: bool = False
) -> str:
    """Return a table of escaped cells: columns ``numbers`` to the right, with ``heads`` the first cell a heading."""
    kinds = dict.fromkeys(numbers, ' class="n"')
    top = "".join(f"<th{kinds.get(i, '')}>{_text(name)}</th>" for i, name in enumerate(head))
    body = "".join(
        "<tr>"
        + "".join(
            f"<th>{_text(cell)}</th>" if heads and i == 0 else f"<td{kinds.get(i, '')}>{_text(cell)}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def _folded(summary: str, inside: str) -> str:
    return f"<details><summary>{_text(summary)}</summary>{inside}</details>"


def _warnings(sentences: Iterable[str]) -> str:
    return "".join(f'<div class="warn">{_text(sentence)}</div>' for sentence in sentences)


def _text(value: Any) -> str:
    return html.escape(text(value))


def _joined(before: object, after: object) -> str:
    """Return two parts of a text, or nothing where one of them is empty."""
    return f"{before}{after}" if before and after else ""


def _share(cost: Any) -> str:
    return _joined(plain((cost or {}).get("share"), ".1%"), " of the time of training")


def _shape(shape: Any) -> str:
    return " x ".join(map(str, shape)) if shape else ""


def _seeds(found: Sequence[Any]) -> str:
    seeds = sorted({one.seed for one in found if one.seed is not None})
    if not seeds:
        return "none"
    whole = len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1))
    shown = f"{seeds[0]} to {seeds[-1]}" if whole else ", ".join(map(str, seeds[:12]))
    return shown + (", ..." if len(seeds) > 12 and not whole else "")
