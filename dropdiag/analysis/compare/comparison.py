"""Compare runs: effects over seeds, layer by layer."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pandas as pd

from dropdiag.analysis.baseline import certain
from dropdiag.analysis.compare.matching import Matched, as_frame, check_match, matched, sites, strangers
from dropdiag.analysis.compare.measures import gather
from dropdiag.analysis.compare.opening import Problems, opened
from dropdiag.analysis.compare.pairing import sides
from dropdiag.analysis.compare.step_ranges import Windows, windows
from dropdiag.analysis.compare.table import Compared, Settings, as_table, rows_of
from dropdiag.analysis.select import check
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.reader import Runs

if TYPE_CHECKING:
    from dropdiag.analysis.claims.claims import Claims


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Conditions side by side, as `compare` returns them.

    Attributes
    ----------
    runs : Runs
        Those that could be read.
    baseline : str
    conditions : tuple of str
        All of them, the baseline first.
    table : DataFrame
        One row a condition (other than the baseline), layer and measure; see `compare`.
    unmatched : DataFrame
        Columns condition, layer, reason: layers that stand beside no other.
    problems : tuple of str
        What could not be read or compared, and why, a sentence each.
    measured : DataFrame
        What the effects are taken from, one row a run, layer and measure: condition, seed, run, layer (called as
        in the baseline), call, quantity, measure, value (NaN for a run that is left out), null, until (last step that
        counts; of the gradient flow there is a row a window), note (why a value is missing).
    layers : tuple of str
        Layers of the baseline that are compared, in network order.
    settings : Settings
        Confidence, bootstrap draws and seed.
    windows : mapping of frozenset of str to Window
        Two conditions -> the training steps over which their gradient flow is compared.
    """

    runs: Runs
    baseline: str
    conditions: tuple[str, ...]
    table: pd.DataFrame
    unmatched: pd.DataFrame
    problems: tuple[str, ...]
    measured: pd.DataFrame
    layers: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    windows: Windows = field(default_factory=dict)

    def __repr__(self) -> str:
        others = ", ".join(map(repr, self.conditions[1:]))
        told = f", {len(self.problems)} problems" if self.problems else ""
        return (
            f"<Comparison of {others} with {self.baseline!r}: {len(self.table)} effects, {len(self.runs)} runs{told}>"
        )

    def _repr_html_(self) -> str:
        from dropdiag.notebook import comparison  # noqa: PLC0415 - a notebook alone pays it

        return comparison(self)

    def claims(self, **options: Any) -> Claims:
        """Put the paper's claims to the test; see `dropdiag.analysis.claims.claims.claims` for the options."""
        from dropdiag.analysis.claims.claims import claims  # noqa: PLC0415 - claims knows comparisons

        return claims(self, **options)


def compare(
    runs: Any,
    *,
    baseline: str | None = None,
    layers: Sequence[str] | None = None,
    match: Mapping[str, str] | None = None,
    n_boot: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
    on_unreadable: str = "warn",
) -> Comparison:
    """Compare conditions with a baseline: how large each effect is, and how sure over seeds.

    Parameters
    ----------
    runs : Runs, or what `load` takes
        A dict condition -> paths or patterns, a list of paths, or one path or pattern. Runs that cannot be read are
        left out and named.
    baseline : str, optional
        Condition that the others are compared with. By default the one whose name says so: "no", "without", "base",
        "baseline" or "none" as a word, or a rate of 0 (``dropdiag.analysis.baseline``); where none does, the first one
        of a dict of conditions.
    layers : sequence of str, optional
        Layers of the baseline; all by default.
    match : mapping of str to str, optional
        Layer of the baseline -> layer of the other conditions, where neither name nor position tells.
    n_boot : int
        Bootstrap draws, where the interval is BCa.
    confidence : float
        Of the intervals, in (0, 1).
    seed : int
        Of all that is drawn: the same runs give the same numbers.
    on_unreadable : {"warn", "raise", "ignore"}
        What to do with what is named in ``problems``.

    Returns
    -------
    Comparison
        Its ``table`` has columns condition, baseline; layer (None for scalars of the network), call; quantity,
        measure; scale ("log ratio", "difference" or "distance"), unit; effect, low, high, interval ("t", "bca",
        "none"); value, baseline_value (means over runs); null, baseline_null (what independent nodes would give);
        p, p_attainable (the smallest that so many seeds can give), p_holm (over layers), test ("sign flip",
        "permutation", "none"); n, n_baseline, paired; steps (last training step of the gradient flow); note.

        Measures: gradient_flow (log ratio of the means over the training steps that the completed runs of the two
        conditions share; runs that have not reached the last of them, or diverged, are left out and named),
        saturation_share, abs_correlation, participation_ratio, effective_rank, weight_excess_kurtosis,
        weight_ks_normal, weight_shape_distance (differences), weight_w1, net_value_w1, weight_energy, net_value_energy,
        weight_js_bits, net_value_js_bits (distances between the seeds' pooled distributions), and of each scalar
        of the network final:NAME, best:NAME and epochs_to_best:NAME (differences).

    Raises
    ------
    ArgumentError
        For options that cannot be, an unknown layer or condition, or fewer than two conditions; a `BaselineError`
        where no name or several say which condition is the baseline, and ``runs`` is no dict.
    RunError
        If too few conditions have a run that can be read; with ``on_unreadable="raise"`` for any problem.

    Warns
    -----
    DropdiagWarning
        For each problem, with ``on_unreadable="warn"``.

    Notes
    -----
    The seed is the unit: n counts runs. Conditions are paired where the seeds are the same. One seed gives an
    effect, no interval and no p. Intervals are Student's t below 100 runs a side, for BCa covers less there (five
    seeds: 0.84 for 0.95). docs/claims.md has the formulas, the measured coverage, and how each number misleads.
    """
    settings = _settings(n_boot, confidence, seed, on_unreadable)
    every, problems = opened(runs)
    base = _baseline(every, baseline, problems)
    check_match(every, base, match)
    names = check("layer", layers, sites(every, base))
    problems += strangers(every)
    spans = windows(every)
    values, distributions = gather(every, problems, {window.until for window in spans.values()})
    matches = {name: matched(every, base, name, match) for name in every.conditions if name != base}
    values, distributions = (
        _as_in_baseline(values, matches),
        {q: _as_in_baseline(f, matches) for q, f in distributions.items()},
    )
    rows: list[dict[str, Any]] = []
    for name, beside in matches.items():
        pair = Compared(name, base, sides(every, name, base), settings, spans[frozenset((name, base))])
        rows += rows_of(values, distributions, pair, beside, names)
    _tell(problems, on_unreadable)
    conditions = base, *matches
    return Comparison(
        every,
        base,
        conditions,
        as_table(rows),
        as_frame(matches),
        tuple(problems),
        values,
        tuple(names),
        settings,
        spans,
    )


def _settings(n_boot: int, confidence: float, seed: int, on_unreadable: str) -> Settings:
    if not 0.0 < confidence < 1.0:
        raise ArgumentError(f"confidence must lie between 0 and 1, got {confidence!r}")
    try:
        draws = operator.index(n_boot)
    except TypeError:
        draws = 0
    if draws < 100:
        raise ArgumentError(f"n_boot must be a whole number of at least 100, got {n_boot!r}")
    if on_unreadable not in ("warn", "raise", "ignore"):
        raise ArgumentError(f"on_unreadable must be 'warn', 'raise' or 'ignore', got {on_unreadable!r}")
    return Settings(confidence, draws, seed)


def _baseline(runs: Runs, baseline: str | None, problems: Problems) -> str:
    told = f" What could not be read: {' '.join(problems)}" if problems else ""
    if len(runs.conditions) < 2:
        error = RunError if problems else ArgumentError
        raise error(
            f"a comparison needs two conditions, and there is {runs.conditions[0]!r} alone; name each group, as in "
            f'compare({{"No dropout": "runs/base-*", "Dropout": "runs/drop-*"}}).{told}'
        )
    if baseline is not None and baseline not in runs.conditions and problems:
        raise RunError(f"no run of the baseline {baseline!r} can be read.{told}")
    if baseline is None:
        return certain(runs.conditions, ordered=runs.ordered)
    return check("condition", [baseline], runs.conditions)[0]


def _as_in_baseline(frame: pd.DataFrame, matches: Mapping[str, Matched]) -> pd.DataFrame:
    """Call the layers of each condition as the baseline does; those that match none are left out."""
    parts = []
    for condition, part in frame.groupby("condition", sort=False):
        if condition in matches:
            names = {other: one for one, other in matches[str(condition)].layers.items()}
            kept = part[part["layer"].isna() | part["layer"].isin(names)]
            called = kept["layer"].map(names).astype("object")
            parts.append(kept.assign(layer=called.where(called.notna(), None)))
        else:
            parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else frame


def _tell(problems: Problems, on_unreadable: str) -> None:
    if on_unreadable == "raise" and problems:
        raise RunError(" ".join(problems))
    if on_unreadable == "warn":
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=3)
