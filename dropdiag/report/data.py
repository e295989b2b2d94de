"""Runs, or a comparison of them, as what a page shows: tables and sentences, and figures' numbers as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, Final, TypeAlias

from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.select import check, today
from dropdiag.errors import ArgumentError, BaselineError, DropdiagError, warned
from dropdiag.pages import isolating
from dropdiag.report import run_tables
from dropdiag.report.appearances import appearances
from dropdiag.report.binary import Blob
from dropdiag.report.cache import RunCache
from dropdiag.report.cells import Table, table, texts
from dropdiag.report.diagnostics import (
    DROPOUTS,
    OTHER_SCALARS,
    Diagnostic,
    Material,
    diagnostics,
    measures_of,
    not_finite,
)
from dropdiag.report.distributions import ROOM, Distributions
from dropdiag.report.headlines import Card, cards
from dropdiag.report.measured import Measured, measured
from dropdiag.report.outcomes import outcomes
from dropdiag.report.series import Scalars
from dropdiag.report.verdicts import Judged, Verdict, by_claim, effects, verdicts
from dropdiag.store.kept import KeptHistograms
from dropdiag.store.reader import Run, Runs, as_runs
from dropdiag.store.seeds import in_javascript
from dropdiag.titles import short

Keep: TypeAlias = Callable[[str], bool]
TITLE: Final = 26
"""Characters of a layer's title: longer names lose what all of them share."""


@dataclass
class Content:
    """All that a page shows.

    Attributes
    ----------
    runs : Runs
    baseline : str or None
        None where nothing says which of several conditions it is.
    headline : str
        Who is compared with whom.
    alpha : float
        The level of the verdicts.
    verdicts, cards
        What a comparison found; empty without one.
    outcomes : Table or None
        Scores on held-out data and in training.
    diagnostics : list of Diagnostic
        Those of which anything was recorded.
    measured : list of Measured
        What active measurements found.
    absent : list of str
        Diagnostics that were not recorded, with the reason.
    facts : dict of str to Table
    coverage : str
    problems : list of str
        Runs that could not be read or compared, and what was warned while the page was made.
    figures : dict
        JSON; its arrays are in ``blob``.
    blob : Blob
    uncompared : str
        Why there is no comparison.
    """

    runs: Runs
    baseline: str | None
    verdicts: list[Verdict] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    headline: str = ""
    alpha: float = 0.0
    outcomes: Table | None = None
    diagnostics: list[Diagnostic] = field(default_factory=list)
    measured: list[Measured] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    facts: dict[str, Table] = field(default_factory=dict)
    coverage: str = ""
    problems: list[str] = field(default_factory=list)
    unmatched: Table | None = None
    figures: dict[str, Any] = field(default_factory=dict)
    blob: Blob = field(default_factory=Blob)
    uncompared: str = ""

    @property
    def judged(self) -> list[str]:
        """Conditions with a verdict on a claim that the runs can test, in the order of the tables."""
        found = {one.condition for claim in self.tested for one in claim.verdicts if one.condition}
        return [name for name in self.runs.conditions if name in found]

    @property
    def tested(self) -> list[Judged]:
        """Claims that the runs can test for some condition."""
        return [one for one in by_claim(self.verdicts) if one.tested]

    @property
    def untested(self) -> list[Judged]:
        """Claims that nobody can test with these runs."""
        return [one for one in by_claim(self.verdicts) if not one.tested]

    def isolating(self) -> Callable[[Any], Any]:
        """Return what sets the names of these runs apart in a text; see `dropdiag.pages.isolating`."""
        layers = (str(site["layer"]) for run in self.runs for site in run.meta["layers"])
        return isolating({*self.runs.conditions, *layers, *(run.name for run in self.runs)})


def gather(
    what: Any,
    *,
    baseline: str | None = None,
    layers: Sequence[str] | None = None,
    claims: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    cache: RunCache | None = None,
) -> Content:
    """Read all that a page shows.

    Parameters
    ----------
    what : Run, Runs or Comparison
        Runs are compared first, where they have two conditions or more.
    baseline : str, optional
        By default that of `dropdiag.compare`; where it cannot tell, nothing is compared and the page asks for it. Of
        a comparison, its own.
    layers : sequence of str, optional
        All, or these.
    claims : mapping of str to object, optional
        Options of `Comparison.claims`.
    problems : sequence of str
        Known beforehand: shown with those that are found.
    cache : RunCache, optional
        Of a page that is made again and again.

    Raises
    ------
    ArgumentError
        If it is none of these, a layer or the baseline does not exist, or claims have no such option.
    """
    options = _options(claims)
    with warned() as said:
        # of a page that is made again, a run that has not changed is compared by its last histograms alone
        kept = KeptHistograms(ROOM) if cache is None else None
        runs, comparison, uncompared = _compared(what, baseline, layers, options.get("alpha"), kept)
        content = Content(runs, _baseline(runs, comparison, baseline), uncompared=uncompared)
        content.figures["effects"] = None
        keep = _keep(runs, layers)
        _comparison(content, comparison, options)
        seconds = _read(content, keep, comparison, cache)
        content.facts = {
            "runs": run_tables.runs_table(runs), "settings": run_tables.settings_table(runs),
            "coverage": run_tables.coverage_table(runs), "cost": run_tables.cost_table(runs, seconds),
        }  # fmt: skip
    content.coverage = run_tables.coverage_line(content.facts["coverage"])
    own = comparison.problems if comparison is not None else ()
    found = [*problems, *content.problems, *own, *run_tables.warnings_of(runs), *said]
    content.problems = list(dict.fromkeys(found))  # the comparison and the figures meet the same torn segment
    return content


def _compared(
    what: Any, baseline: str | None, layers: Sequence[str] | None, alpha: float | None, kept: KeptHistograms | None
) -> tuple[Runs, Any, str]:
    """Return the runs, their comparison where there is one, and why there is none."""
    if not isinstance(what, (Run, Runs)):
        if not all(hasattr(what, name) for name in ("runs", "table", "claims")):
            raise ArgumentError(
                f"report() takes runs as dropdiag.load() returns them, or a Comparison, got {type(what).__name__}"
            )
        return as_runs(what.runs), what, ""
    runs = as_runs(what)
    if kept is not None:  # what is read to compare the runs is shown of them, too
        runs = Runs([run.keeping(kept) for run in runs], ordered=runs.ordered)
    if baseline is not None:
        check("condition", [baseline], runs.conditions)
    if len(runs.conditions) < 2:
        return runs, None, "All runs are of one condition: there is nothing to compare."
    from dropdiag.analysis.comparison import compare  # noqa: PLC0415 - a report of one condition needs no statistics

    try:
        # the verdicts and the table of the gradient flow are this comparison's: nothing is computed twice
        options: dict[str, Any] = {} if alpha is None else {"alpha": alpha}
        found = compare(runs, baseline=baseline, layers=layers, **options)
    except DropdiagError as error:
        # what was asked for cannot be met; where only a baseline is missing, the rest of the page is right without
        if isinstance(error, ArgumentError) and not isinstance(error, BaselineError):
            raise
        return runs, None, f"The runs could not be compared: {error}"
    # where all were compared, with their scalars, which were read: what could not be is among the problems
    return found.runs if list(found.runs) == list(runs) else runs, found, ""


def _baseline(runs: Runs, comparison: Any, asked: str | None) -> str | None:
    try:
        own = baseline_of(runs) if comparison is None else str(comparison.baseline)
    except BaselineError:  # the page says so, where it says why nothing is compared
        return asked
    if comparison is not None and asked is not None and asked != own:
        raise ArgumentError(
            f"the comparison's baseline is {own!r}, got baseline={asked!r}; compare() anew with that one"
        )
    return own if asked is None else asked


def _keep(runs: Runs, layers: Sequence[str] | None) -> Keep:
    if layers is None:
        return lambda _: True
    known = {str(entry["layer"]) for run in runs for entry in run.meta["layers"]}
    return set(check("layer", today(runs, layers), sorted(known))).__contains__


def _options(claims: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check the options of claims by name; what they hold is checked by the claims."""
    if claims is None:
        return {}
    if not isinstance(claims, Mapping):
        raise ArgumentError(f"claims must be a mapping of options, such as {{'gaaf': 'GAAF'}}, got {claims!r}")
    from dropdiag.analysis.claims.claims import claims as judge  # noqa: PLC0415 - as above

    known = list(signature(judge).parameters)[1:]
    unknown = [str(name) for name in claims if name not in known]
    if unknown:
        raise ArgumentError(f"claims have no option {', '.join(map(repr, unknown))}; there are {', '.join(known)}")
    return dict(claims)


def _comparison(content: Content, comparison: Any, options: Mapping[str, Any]) -> None:
    if comparison is None:
        return
    content.figures["effects"] = effects(comparison.table)
    if len(comparison.unmatched):
        columns = texts("Condition", "condition"), texts("Layer", "layer"), texts("Why", "reason")
        content.unmatched = table("Layers that were not compared", comparison.unmatched.to_dict("records"), columns)
    claims = None
    try:
        claims = comparison.claims(**options)
    except DropdiagError as error:
        if options and isinstance(error, ArgumentError):
            raise
        content.problems.append(f"The claims could not be judged: {error}")
    if claims is not None:
        content.alpha, content.headline = claims.alpha, f"{claims.headline}."
        content.verdicts = verdicts(claims)
    content.cards = cards(comparison.table, claims, comparison.conditions)


def _read(content: Content, keep: Keep, comparison: Any, cache: RunCache | None) -> dict[tuple[str, str], float]:
    """Read the runs' scalars and histograms, make every diagnostic of them, and return `Scalars.seconds`."""
    runs = content.runs
    # where two runs describe one quantity differently, the first run's words stand
    quantities = {name: one for run in reversed(runs) for name, one in run.quantities.items()}
    distributions = Distributions(runs, measures_of, keep=keep, cache=cache)
    scalars = Scalars(runs, quantities)
    given = Material(runs, comparison, content.baseline, keep, quantities, scalars, distributions, content.blob)
    found = diagnostics(given)
    content.measured = measured(given)
    content.outcomes = outcomes(scalars, runs)
    content.problems += not_finite(given)
    content.diagnostics = [one for one in found if one.shown]
    content.absent = [f"{one.section.title}: {one.reason or 'nothing was recorded'}." for one in found
                      if not one.shown and (one.reason or one.section not in (OTHER_SCALARS, DROPOUTS))]  # fmt: skip
    conditions = {name: place for place, name in enumerate(runs.conditions)}
    content.figures |= {
        "baseline": content.baseline,
        "titles": _titles(runs),
        "ordered": all(run.meta.get("order") for run in runs),
        "conditions": [{"name": name, **look, "runs": sum(run.condition == name for run in runs)}
                       for name, look in zip(conditions, appearances(list(conditions)), strict=True)],
        "runs": [{"name": run.name, "condition": conditions[run.condition], "seed": in_javascript(run.seed)}
                 for run in runs],
        "sections": {
            **{one.section.name: one.figure for one in content.diagnostics if one.figure},
            **{one.section.name: one.figure for one in content.measured if one.figure},
        },
    }  # fmt: skip
    return scalars.seconds


def _titles(runs: Runs) -> dict[str, str]:
    """Return the short titles of the layers that have one."""
    made = short(dict.fromkeys(str(row["layer"]) for run in runs for row in run.meta["layers"]), TITLE)
    return {name: title for name, title in made.items() if title != name}
