"""Compare runs: effects over seeds, layer by layer."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Final

import pandas as pd

from dropdiag.analysis.baseline import baseline_of
from dropdiag.analysis.claims.claims import Claims, claims
from dropdiag.analysis.compare.lenient import Problems, opened
from dropdiag.analysis.compare.matching import as_frame
from dropdiag.analysis.compare.measurements import CompareSettings, Measurements
from dropdiag.analysis.compare.step_ranges import StepRanges
from dropdiag.analysis.compare.table import as_table, rows_of
from dropdiag.analysis.gradient_flow import Steps
from dropdiag.analysis.measuring import measure_runs
from dropdiag.analysis.select import check
from dropdiag.errors import ArgumentError, DropdiagWarning, RunError
from dropdiag.store.reader import Runs

_UNSET: Final[Any] = object()


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Comparison(Measurements):
    """Conditions side by side, as `compare` returns them: measurements, and what was made of them.

    Attributes
    ----------
    table : DataFrame
        One row a condition (other than the baseline), layer and measure; see `compare`.
    unmatched : DataFrame
        Columns condition, layer, reason: layers that stand beside no other.
    problems : tuple of str
        What could not be read or compared, and why, a sentence each.
    runs, baseline, conditions, layers, measured, histograms, step_ranges, settings, quantities, names,
    places, series
        As of all `Measurements`; ``runs`` are those that could be read.

    Examples
    --------
    >>> comparison = dd.compare(runs)
    >>> comparison.baseline, comparison.conditions
    ('No dropout', ('No dropout', 'Dropout'))
    """

    table: pd.DataFrame
    unmatched: pd.DataFrame
    problems: tuple[str, ...]

    @property
    def windows(self) -> StepRanges:
        """Former name of `step_ranges`."""
        warnings.warn("Comparison.windows is now called step_ranges", DeprecationWarning, stacklevel=2)
        return self.step_ranges

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
        """Put the paper's claims to the test; see `dropdiag.analysis.claims.claims.claims` for the options.

        Examples
        --------
        >>> verdicts = dd.compare(runs).claims().table
        >>> verdicts["claim"].tolist()
        ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
        """
        return claims(self, **options)


def compare(
    runs: Any,
    *more: Any,
    baseline: str | None = None,
    layers: Sequence[str] | None = None,
    match: Mapping[str, str] | None = None,
    steps: Steps = None,
    alpha: float = 0.05,
    seed: int = 0,
    on_unreadable: str = "warn",
    confidence: float = _UNSET,
    n_boot: int = _UNSET,
) -> Comparison:
    """Compare conditions with a baseline: how large each effect is, and how sure over seeds.

    Parameters
    ----------
    runs : Runs, or what `load` takes
        A dict condition -> paths or patterns, a list of paths, or one path or pattern. Runs that cannot be read are
        left out and named, copies count once.
    *more
        Further runs, paths or patterns, as if all were given as one list: ``compare("a-*", "b-*")``.
    baseline : str, optional
        Condition that the others are compared with. By default the one whose name says so ("no", "without", "base",
        "baseline" or "none" as a word, or a rate of 0), else the only one whose runs recorded no dropout above 0, else
        the smallest of names that are rates; else the first one of a dict (``dropdiag.analysis.baseline``).
    layers : sequence of str, optional
        Layers of the baseline; all by default.
    match : mapping of str to str, optional
        Layer of the baseline -> layer of the other conditions, where neither name nor position tells.
    steps : collection of int, or mapping of str to collection of int, optional
        Training steps over which the gradient flow is averaged, for all runs or by the run's path; all by default.
        `dropdiag.analysis.flow_decomposition.steps` has those of a decomposition, whose totals are then these effects.
    alpha : float
        The one level, in (0, 1): intervals cover 1 - alpha, and alpha is the greatest p of a claim's verdict.
    seed : int
        Of all that is drawn: the same runs give the same numbers.
    on_unreadable : {"warn", "raise", "ignore"}
        What to do with what is named in ``problems``.
    confidence : float
        Former name of 1 - alpha.
    n_boot : int
        Ignored, and gone in the next version: intervals are Student's t whatever the number of runs.

    Returns
    -------
    Comparison
        Its ``table`` has columns condition, baseline; layer (None for scalars of the network), call; quantity,
        measure; scale ("log ratio", "difference" or "distance"), unit; effect, low, high, interval ("t", "none");
        value, baseline_value (means over runs); null, baseline_null (what independent nodes would give);
        p, p_attainable (the smallest that so many seeds can give), p_t (Student's or Welch's), p_holm (of p, over
        layers), test ("sign flip", "permutation", "none"); n, n_baseline, paired; steps (last training step of the
        gradient flow); note.

        Measures: gradient_flow (log ratio of the means over the training steps that the completed runs of the two
        conditions share; runs that have not reached the last of them, or diverged, are left out and named),
        saturation_share, abs_correlation, correlation_squared and correlation_variance (corrected for the number of
        samples), correlation_sd, participation_ratio, effective_rank, excess_net_variance, weight_excess_kurtosis,
        weight_ks_normal, weight_shape_distance, weight_scale_distance, weight_w1_from_start (differences), weight_w1,
        net_value_w1 (distances between the seeds' pooled distributions), flow_output_error, flow_transport, flow_mask,
        flow_slope, flow_total ... (log ratios: what the gradient flow is made of, down to the layer), and of each
        scalar of the network final:NAME, best:NAME and epochs_to_best:NAME (differences). Every other quantity that a
        probe records, your own too, comes
        under its own name on the scale that it carries (`Quantity.scale`): a scalar of layers by its last value, or in
        training by the mean over the last tenth of its rows, a histogram as NAME_w1; so does what `Recorder.measure`
        recorded of layers and of the network.

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
    effect, no interval and no p. Intervals are Student's t over seeds. docs/claims.md has the formulas, the measured
    coverage, and how each number misleads.

    Examples
    --------
    >>> comparison = dd.compare(runs, baseline="No dropout")
    >>> flow = comparison.table.query("measure == 'gradient_flow'")
    >>> flow[["condition", "layer", "n", "paired"]].reset_index(drop=True)
      condition layer  n  paired
    0   Dropout  act1  3    True
    1   Dropout  act2  3    True
    """
    settings = _settings(alpha, confidence, n_boot, seed, on_unreadable)
    every, problems = opened([runs, *more] if more else runs)
    base = _baseline(every, baseline, problems)
    measurements, matches = measure_runs(
        every, base, problems, settings, layers=layers, match=match, steps=_check_steps(steps)
    )
    rows = [row for name, beside in matches.items() for row in rows_of(measurements.pair(name, base), beside)]
    _tell(problems, on_unreadable)
    return Comparison(**vars(measurements), table=as_table(rows), unmatched=as_frame(matches), problems=tuple(problems))


def _settings(alpha: float, confidence: Any, n_boot: Any, seed: int, on_unreadable: str) -> CompareSettings:
    if n_boot is not _UNSET:
        message = "compare(n_boot=) is ignored: intervals are Student's t. Leave it out; the next version refuses it"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
    if confidence is not _UNSET:
        message = f"compare(confidence={confidence!r}) is now alpha=, the one level: write 1 - {confidence!r}"
        warnings.warn(message, DeprecationWarning, stacklevel=3)
        if not 0.0 < confidence < 1.0:
            raise ArgumentError(f"confidence must lie between 0 and 1, got {confidence!r}")
        alpha = 1.0 - confidence
    if on_unreadable not in ("warn", "raise", "ignore"):
        raise ArgumentError(f"on_unreadable must be 'warn', 'raise' or 'ignore', got {on_unreadable!r}")
    return CompareSettings(alpha, seed)


def _check_steps(steps: Steps) -> Steps:
    several = steps.values() if isinstance(steps, Mapping) else [] if steps is None else [steps]
    if not all(isinstance(one, Collection) and all(isinstance(step, Integral) for step in one) for one in several):
        raise ArgumentError(
            "steps must be training steps, such as range(10, 1001, 10), or a dict path of a run -> its steps, "
            f"got {steps!r}"
        )
    return steps


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
        return baseline_of(runs)
    return check("condition", [baseline], runs.conditions)[0]


def _tell(problems: Problems, on_unreadable: str) -> None:
    if on_unreadable == "raise" and problems:
        raise RunError(" ".join(problems))
    if on_unreadable == "warn":
        for problem in problems:
            warnings.warn(problem, DropdiagWarning, stacklevel=3)
