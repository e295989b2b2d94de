"""Numbers and effects as text: one way for the command line, reports, notebooks and tables.

Two forms of a number: `plain` for terminals and notebooks, which people copy into programs, and `typeset` for pages.
Imports nothing heavy: ``dropdiag --help`` comes by here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from dropdiag.printable import well_formed

NOTHING: Final = "–"
"""What a page shows where a number is missing."""
LOG_RATIO: Final = "log ratio"
"""Scale of effects that are shown as the factor that they are the logarithm of."""


def missing(value: Any) -> bool:
    """Whether a cell of a frame holds nothing: None, or NaN."""
    return bool(value is None or value != value)  # noqa: PLR0124 - NaN is not itself


def text(value: Any) -> str:
    """Return a cell as text; nothing where it is missing."""
    return "" if missing(value) else str(value)


def plain(value: Any, digits: str = ".3g") -> str:
    """Format a number in ASCII, so that it can be copied; nothing where it is missing.

    Parameters
    ----------
    value : float or None
    digits : str
        A format specification, as ``".3g"`` or ``".1%"``.
    """
    return "" if missing(value) else format(value, digits)


def typeset(value: Any, digits: str = ".3g") -> str:
    """Format a number for a page: a true minus sign, an exponent without padding.

    Parameters
    ----------
    value : float, str or None
        A text stays as it is; what is missing or infinite becomes a dash.
    digits : str
        A format specification.
    """
    if isinstance(value, str):
        return value
    if missing(value) or not math.isfinite(value):
        return NOTHING
    made = format(value, digits)
    # "1.80e-05" is Python's way; the last digit tells it from what ends in a sign, as ".1%" does
    if made[-1].isdigit() and "e" in made:
        mantissa, exponent = made.split("e")
        made = f"{mantissa}e{int(exponent)}"
    return made.replace("-", "−")


def whole(value: Any) -> str:
    """Format a whole number for a page, with thin spaces between the thousands."""
    if missing(value):
        return NOTHING
    exact = value if isinstance(value, int) else round(float(value))  # a float has no room for a seed of 64 bits
    return f"{exact:,}".replace(",", "\u202f").replace("-", "−")


def words(label: str) -> str:
    r"""Return an axis label of matplotlib's mathtext as plain text: ``$|\partial L/\partial z|$`` is ``|∂L/∂z|``."""
    plain_text = label.replace("\\partial ", "∂").replace("\\phi", "φ").replace("\\sigma", "σ")
    plain_text = plain_text.replace("\\Sigma", "Σ").replace("^2", "²")
    return re.sub(r"[${}]|\\(?:mathrm|,)?", "", plain_text).replace("'", "′" if "$" in label else "'")


def minus(sentence: str) -> str:
    """Write a true minus sign before the numbers of a sentence, as `typeset` has it."""
    return re.sub(r"(?<![\w.\-])-(?=\d)|(?<=\de)-0*(?=\d)", "−", sentence)


def some(names: Sequence[str], most: int = 3) -> str:
    """List the first names, and say how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def size(number: int) -> str:
    """Return bytes as text, in powers of 1000: ``1.2 MB``."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 999.5:  # 999.6 would be shown as 1000 of this unit
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 99.5 else f"{amount:.2g} {unit}"
        amount /= 1000.0
    return f"{amount:,.1f} TB"


def moment(when: Any, *, seconds: bool = True) -> str:
    """Return a time of ``run.json`` with its zone: ``2026-11-24 12:00:40 UTC``; what is no time stays as it is.

    Parameters
    ----------
    when : str or None
        ISO 8601. One without a zone is written by no Recorder; "zone unknown" then stands behind it.
    seconds : bool
    """
    try:
        known = datetime.fromisoformat(str(when).replace("Z", "+00:00"))
    except ValueError:
        return text(when)
    shown = known.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")
    return f"{shown} {known.tzname() or '(zone unknown)'}"


def facts(meta: Mapping[str, Any]) -> dict[str, str]:
    """Return what a ``run.json`` says of its run, by name: state, when, probes, cost, and config if there is one."""
    config = ", ".join(f"{key}={value}" for key, value in meta["config"].items() if key not in ("condition", "seed"))
    error = f": {meta['error']}" if meta.get("error") else ""
    every = f"; histograms at {meta['every']}" if "every" in meta else ""
    known = {
        "state": f"{meta['state']}{error}, {meta.get('steps', 0):,} steps",
        "when": moment(meta.get("created") or "unknown")
        + (f" to {moment(meta['ended'])}" if meta.get("ended") else ", not ended"),
        "probes": ", ".join(meta.get("probes", ())) + every,
        "cost": _cost(meta.get("cost")),
    }
    changed = "; ".join(map(_intervention, meta.get("interventions") or ()))
    return known | ({"dropouts": changed} if changed else {}) | ({"config": config} if config else {})


def _intervention(told: Mapping[str, Any]) -> str:
    """Return what was done to which dropouts, at which rates or by which schedule, and from which step to which."""
    rates = [f"{rate:g}" for rate in dict.fromkeys(told.get("rates") or ())]
    schedules = [f"{kind} {values}" for kind, values in (told.get("schedule") or {}).items()]
    until = "" if told.get("until") is None else f" to {told['until']}"
    return f"{told['what']} {some(told['sites'])} ({', '.join([*rates, *schedules])}) from step {told['step']}{until}"


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None or cost.get("share") is None:
        return "not known before the run has ended" if cost is None else "no step was timed"
    left_out = [f"{cost[key]:,} steps {what}" for key, what in (("thinned_steps", "without histograms"),
                ("rested_steps", "not recorded")) if cost.get(key)]  # fmt: skip
    budget = "" if cost.get("budget") is None else f" (budget {cost['budget']:.1%})"
    return ", ".join([f"{cost['share']:.1%} of the time of training{budget}", *left_out])


def disabled(meta: Mapping[str, Any]) -> list[str]:
    """Return a line for each probe that a run had to do without."""
    return ["disabled: " + (one if isinstance(one, str) else ", ".join(f"{key} {value}" for key, value in one.items()))
            for one in meta.get("disabled_probes", ())]  # fmt: skip


def jsonable(value: Any) -> Any:
    """Return what strict JSON can hold: numbers that are not finite become null, arrays lists, the unknown text.

    Half of a surrogate pair, which no UTF-8 and so no strict reader has, becomes its escape as text.
    """
    if isinstance(value, dict):
        return {well_formed(str(key)): jsonable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(one) for one in value]
    if hasattr(value, "tolist"):  # a number or an array of numpy's, which is not imported here
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (bool, int)):
        return value
    return None if missing(value) else well_formed(str(value))


def site(layer: Any, call: Any) -> str:
    """Name a site: its layer, and its call where that is not the first."""
    return f"{layer}, call {int(call) + 1}" if not missing(call) and call else str(layer)


def factor(log: float) -> float:
    """Return the factor that a log ratio stands for; infinity where a float has no room for it."""
    try:
        return math.exp(log)
    except OverflowError:
        return math.inf


def magnitude(value: Any, *, ratio: bool, form: Callable[[Any, str], str] = plain, sign: bool = False) -> str:
    """Return an effect as text: the factor ``×1.82`` of a log ratio, else the difference.

    Parameters
    ----------
    value : float or None
    ratio : bool
        Whether it is a log ratio.
    form : callable
        `plain` or `typeset`.
    sign : bool
        Whether a difference above 0 has a plus sign.
    """
    if ratio and not missing(value):
        return f"×{form(factor(value), '.3g')}"
    return form(value, "+.3g" if sign and value else ".3g")


def bounds(low: Any, high: Any, *, ratio: bool, form: Callable[[Any, str], str] = plain) -> tuple[str, str]:
    """Return the ends of an effect's interval as text; of a log ratio as factors, without their sign."""
    first, last = (magnitude(end, ratio=ratio, form=form).removeprefix("×") for end in (low, high))
    return first, last


def effect(row: Any) -> list[str]:
    """Return a row of a comparison's table as text: measure, layer, effect, interval, p (Holm), least p, n.

    Parameters
    ----------
    row : named tuple
        As ``Comparison.table.itertuples()`` yields it. A log ratio is shown as the factor that it is the logarithm of.
    """
    ratio = row.scale == LOG_RATIO
    layer = row.layer if isinstance(row.layer, str) else ""
    call = f"#{row.call:.0f}" if layer and row.call else ""
    interval = "" if missing(row.low) else " to ".join(bounds(row.low, row.high, ratio=ratio))
    # pairs have one n; unpaired conditions may have lost runs of their own
    seeds = str(row.n) if row.n == row.n_baseline else f"{row.n} and {row.n_baseline}"
    return [
        row.measure + (" (factor)" if ratio else ""), f"{layer}{call}", magnitude(row.effect, ratio=ratio), interval,
        plain(row.p_holm), plain(row.p_attainable), seeds,
    ]  # fmt: skip


def notes(table: Any) -> list[str]:
    """Return the notes of a comparison's table, each once: condition, measure, the layers unless all have it, note."""
    told: list[str] = []
    for (condition, measure), part in table.groupby(["condition", "measure"], sort=False):
        # said once for the measure where all of its layers have the note
        for note, rows in part.groupby("note", sort=False):
            if note:
                layers = [name for name in rows["layer"] if isinstance(name, str)]
                of = f" ({', '.join(layers[:3])}{', ...' if len(layers) > 3 else ''})" if len(rows) < len(part) else ""
                told.append(f"{condition}, {measure}{of}: {note}")
    return told
