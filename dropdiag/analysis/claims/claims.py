"""The paper's claims as tests that can fail, for any conditions of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.effects import ABOVE, BELOW, ZERO, Bounds, Evidence, Pair
from dropdiag.analysis.claims.roles import Roles, cast
from dropdiag.analysis.claims.rules import (
    STATEMENTS,
    UNDECIDED,
    Numbers,
    Options,
    equivalent,
    jointly,
    one_sided,
    over_layers,
    rules,
)
from dropdiag.analysis.compare.comparison import Comparison
from dropdiag.analysis.compare.measures import LAST, less_is_better, measure_of
from dropdiag.errors import ArgumentError

TABLE: Final = ["claim", "statement", "condition", "baseline", "verdict", "reason", "n"]
PARTS: Final = [
    "claim", "statement", "condition", "baseline", "layer", "call", "measure", "effect", "low", "high", "interval",
    "joint_low", "joint_high", "threshold", "p", "p_holm", "p_attainable", "verdict", "n", "n_baseline", "paired",
    "scale",
]  # fmt: skip
VALIDATION: Final = re.compile(r"(?<![a-z])(val|valid|validation|dev)(?![a-z])", re.IGNORECASE)
"""A scalar of images that were held out to choose by: what test images say is not chosen by them."""
Judge = Callable[[Evidence], str]


@dataclass(frozen=True, repr=False, eq=False)
class Claims:
    """Verdicts on the paper's claims, with the numbers they rest on.

    Attributes
    ----------
    table : DataFrame
        One row a claim and condition: claim ("a" to "f"), statement, condition, baseline, verdict ("supported",
        "contradicted", "undecided"), reason (with numbers), n (runs of the condition). Where no condition plays
        dropout or GAAF, (e) and (f) have a row with an empty condition or baseline.
    layers : DataFrame
        One row a claim, condition, layer and measure: effect, low, high, interval; joint_low, joint_high (the interval
        for all layers together); threshold, p (of the threshold), p_holm (over layers), p_attainable, verdict, n,
        n_baseline, paired, scale ("log ratio": exp of effect, interval and threshold are factors; "difference").
    overall : DataFrame
        The same for what is taken over all layers (average, slope) or belongs to the network; layer is missing.
    rules : dict of str to str
        The rule of each claim, in words.
    roles : Roles
        Which condition plays dropout and which play GAAF.
    """

    table: pd.DataFrame
    layers: pd.DataFrame
    overall: pd.DataFrame
    rules: dict[str, str]
    roles: Roles

    def __repr__(self) -> str:
        told = ", ".join(f"({row.claim}) {row.condition}: {row.verdict}" for row in self.table.itertuples())
        return f"<Claims: {told}>"


def claims(
    comparison: Comparison,
    *,
    dropout: str | None = None,
    gaaf: str | None = None,
    scalar: str | None = None,
    alpha: float = 0.05,
    correlation_margin: float = 0.02,
    published_factor: float = 5.0,
    flow_margin: float = 1.5,
    share_margin: float = 0.1,
) -> Claims:
    """Put the paper's claims to the test.

    Parameters
    ----------
    comparison : Comparison
    dropout, gaaf : str, optional
        Conditions that play these parts in (e) and (f); guessed by name, and said so. Where several conditions have
        "gaaf" in their name, each is heard. Claims (a) to (d) are put to every condition but the baseline.
    scalar : str, optional
        Scalar whose best held-out value ends the counting of epochs in (f); by default an accuracy, best one of
        validation data (``val`` in its name), else the first there is.
    alpha : float
        Greatest p of a verdict.
    correlation_margin : float
        In (b), a mean |r| that is lower by no more than this is not lower.
    published_factor : float
        What the factor of (c) is set beside.
    flow_margin : float
        In (e), greatest factor between two gradient flows that resemble each other.
    share_margin : float
        In (e), greatest difference of two saturation shares that do.

    Returns
    -------
    Claims

    Raises
    ------
    ArgumentError
        For an unknown condition or scalar, or a number that cannot be.

    Notes
    -----
    The rules are in docs/claims.md and in ``Claims.rules``. A verdict is about the seeds, data and networks of these
    runs. "Undecided" is no evidence for the contrary.
    """
    options = _checked(Options(alpha, correlation_margin, published_factor, flow_margin, share_margin))
    roles = cast(comparison.conditions, dropout, gaaf)
    court = _Court(comparison, options, roles)
    for condition in comparison.conditions[1:]:
        pair = Pair(comparison, condition, comparison.baseline)
        for claim in (court.gaussian, court.correlation, court.flow, court.saturation):
            claim(pair)
    held_out = _scalar(comparison, scalar)
    if roles.gaafs and roles.dropout is not None:
        for playing in roles.gaafs:
            beside = Pair(comparison, playing, roles.dropout)
            court.resemblance(beside)
            court.epochs(beside, held_out)
    else:
        court.absent("e")
        court.absent("f")
    return court.ruling()


class _Court:
    """Hears the claims, one after the other, and keeps the rows."""

    def __init__(self, comparison: Comparison, options: Options, roles: Roles) -> None:
        self._comparison, self._options, self._roles = comparison, options, roles
        self._table: list[tuple[Any, ...]] = []
        self._layers: list[tuple[Any, ...]] = []
        self._overall: list[tuple[Any, ...]] = []
        self._remarks: list[str] = []

    def ruling(self) -> Claims:
        order = {claim: i for i, claim in enumerate(STATEMENTS)}
        table = pd.DataFrame(self._table, columns=TABLE)
        table = table.sort_values("claim", key=lambda c: c.map(order), kind="stable").reset_index(drop=True)
        layers, overall = (pd.DataFrame(rows, columns=PARTS) for rows in (self._layers, self._overall))
        return Claims(table, layers, overall, rules(self._options), self._roles)

    def gaussian(self, pair: Pair) -> None:
        parts = [self._part("a", pair, name, BELOW) for name in ("weight_ks_normal", "weight_shape_distance")]
        words = [reasons.gaussian(parts[0], parts[1], missing=pair.missing("weight_ks_normal"))]
        self._rule("a", pair, words, [verdict for verdict, _ in parts], parts)

    def correlation(self, pair: Pair) -> None:
        margin = self._options.correlation_margin
        part = self._part("b", pair, "abs_correlation", ABOVE, Bounds(-margin, 0.0))
        words = [reasons.correlation(part[1], margin, missing=pair.missing("abs_correlation"))]
        self._rule("b", pair, words, [part[0]], [part])

    def flow(self, pair: Pair) -> None:
        part = self._part("c", pair, "gradient_flow", ABOVE)
        missing, steps = pair.missing("gradient_flow"), pair.window.steps
        words = [reasons.flow(part[1], self._options.published_factor, steps=steps, missing=missing)]
        self._rule("c", pair, words, [part[0]], [part])

    def saturation(self, pair: Pair) -> None:
        part = self._part("d", pair, "saturation_share", ABOVE)
        slope = pair.slope("saturation_share")
        rising = UNDECIDED if slope is None else self._judge(ABOVE)(slope)
        self._note("d", pair, slope, rising)
        words = [reasons.saturation(part, (rising, slope), missing=pair.missing("saturation_share"))]
        self._rule("d", pair, words, [part[0], rising], [part, (rising, slope)])

    def resemblance(self, pair: Pair) -> None:
        own = Pair(self._comparison, pair.baseline, self._comparison.baseline)
        margins = {
            "gradient_flow": float(np.log(self._options.flow_margin)),
            "saturation_share": self._options.share_margin,
        }
        verdicts, parts, words = [], [], []
        for name, margin in margins.items():
            verdict, average = self._equivalence(pair, name, margin)
            effect = own.average(name)
            if effect is None or self._judge(ABOVE)(effect) == UNDECIDED:
                verdict = UNDECIDED
                words.append(reasons.nothing_to_resemble(name))
            verdicts.append(verdict)
            parts.append((verdict, average))
        missing = (pair.missing("gradient_flow"), pair.missing("saturation_share"))
        said = reasons.resemblance(parts[0], parts[1], steps=pair.window.steps, missing=missing)
        self._rule("e", pair, [said, *words], verdicts, parts)

    def epochs(self, pair: Pair, scalar: str | None) -> None:
        name = f"epochs_to_best:{scalar}"
        found = pair.network(name)
        verdict = UNDECIDED if found is None else self._judge(BELOW)(found)
        self._note("f", pair, found, verdict)
        ended, runs = pair.noted(name, LAST)
        words = [reasons.epochs(found, scalar, missing=pair.missing(name))]
        words += [reasons.censored(ended, runs)] if ended else []
        self._rule("f", pair, words, [verdict], [(verdict, found)])

    def _part(self, claim: str, pair: Pair, name: str, side: int, bounds: Bounds = ZERO) -> tuple[str, Evidence | None]:
        """Judge each layer and their average; return the verdict of the whole, and the average."""
        judge = self._judge(side)
        return self._whole(claim, pair, pair.layers(name, bounds), pair.average(name, bounds), judge)

    def _equivalence(self, pair: Pair, name: str, margin: float) -> tuple[str, Evidence | None]:
        def judge(one: Evidence) -> str:
            return equivalent(*one.joint, margin)

        return self._whole("e", pair, pair.layers(name), pair.average(name), judge, margin=margin)

    def _whole(
        self, claim: str, pair: Pair, layers: Sequence[Evidence], average: Evidence | None, judge: Judge, *,
        margin: float | None = None,
    ) -> tuple[str, Evidence | None]:  # fmt: skip
        verdicts = [judge(one) for one in layers]
        verdict = UNDECIDED if average is None else judge(average)
        for one, said in zip([*layers, average], [*verdicts, verdict], strict=True):
            self._note(claim, pair, one, said, margin)
        whole = over_layers(verdict, verdicts)
        if whole != verdict:
            pairs = zip(layers, verdicts, strict=True)
            contrary = [str(one.layer) for one, said in pairs if said not in (verdict, UNDECIDED)]
            self._remarks.append(reasons.contrary(layers[0].measure, verdict, contrary))
        return whole, average

    def _judge(self, side: int) -> Judge:
        def judge(one: Evidence) -> str:
            tested = one.attainable <= self._options.alpha
            ends = (one.effect.low, one.effect.high) if tested else one.joint
            low, high = sorted(side * end for end in ends)
            threshold, against = (side * bound for bound in one.bounds)
            numbers = Numbers(low, high, threshold, against, one.p_holm, one.p_against, one.attainable)
            return one_sided(numbers, self._options.alpha)

        return judge

    def _note(self, claim: str, pair: Pair, one: Evidence | None, verdict: str, margin: float | None = None) -> None:
        """Keep the numbers of one verdict; an equivalence is told by its interval, without a p."""
        if one is None:
            return
        e = one.effect
        p = (e.p, one.p_holm, e.p_attainable) if margin is None else (np.nan,) * 3
        threshold = one.bounds.threshold if margin is None else margin
        row = (
            claim, STATEMENTS[claim], pair.condition, pair.baseline, one.layer, one.call, one.measure, e.effect, e.low,
            e.high, e.interval, *one.joint, threshold, *p, verdict, e.n, e.n_baseline, e.paired,
            measure_of(one.measure).scale,
        )  # fmt: skip
        (self._overall if one.layer is None else self._layers).append(row)

    def _rule(
        self, claim: str, pair: Pair, words: Sequence[str], verdicts: Sequence[str],
        parts: Sequence[tuple[str, Evidence | None]],
    ) -> None:  # fmt: skip
        known = [one for _, one in parts if one is not None]
        words, self._remarks = [*words, *self._remarks], []
        words = [*words, *reasons.caveats(known, self._options.alpha, tested=claim != "e")]
        if claim in ("e", "f"):
            words = [*words, *self._roles.guesses(pair.condition)]
        n = min((one.effect.n for one in known), default=0)
        reason = "; ".join(filter(None, words)) + "."
        reason = reason[0].upper() + reason[1:]
        row = (claim, STATEMENTS[claim], pair.condition, pair.baseline, jointly(verdicts), reason, n)
        self._table.append(row)

    def absent(self, claim: str) -> None:
        """Say who is not there; the row is that of the condition which plays GAAF, or of none."""
        who = [role for role in ("dropout", "gaaf") if getattr(self._roles, role) is None]
        reason = f"No condition plays {' or '.join(who)} by its name; name it with {', '.join(f'{w}=' for w in who)}."
        for gaaf in self._roles.gaafs or ("",):
            row = (claim, STATEMENTS[claim], gaaf, self._roles.dropout or "", UNDECIDED, reason, 0)
            self._table.append(row)


def _scalar(comparison: Comparison, wanted: str | None) -> str | None:
    prefix = "epochs_to_best:"
    measures: list[str] = comparison.measured["measure"].unique().tolist()
    names = [name.removeprefix(prefix) for name in measures if name.startswith(prefix)]
    if wanted is not None and wanted not in names:
        raise ArgumentError(f"no scalar {wanted!r} of held-out data; there are {', '.join(map(repr, names)) or 'none'}")
    if wanted is not None or not names:
        return wanted
    return sorted(
        names, key=lambda name: ("acc" not in name.lower(), not VALIDATION.search(name), less_is_better(name))
    )[0]


def _checked(options: Options) -> Options:
    if not 0.0 < options.alpha < 1.0:
        raise ArgumentError(f"alpha must lie between 0 and 1, got {options.alpha!r}")
    for name in ("correlation_margin", "share_margin"):
        if not getattr(options, name) >= 0.0:
            raise ArgumentError(f"{name} must not be negative, got {getattr(options, name)!r}")
    for name in ("published_factor", "flow_margin"):
        if not getattr(options, name) > 1.0:
            raise ArgumentError(f"{name} is a factor and must be above 1, got {getattr(options, name)!r}")
    return options
