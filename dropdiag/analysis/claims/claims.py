"""The paper's claims as tests that can fail, for any conditions of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case, Claim, Options, Part
from dropdiag.analysis.claims.effects import ClaimEffect, PairEffects
from dropdiag.analysis.claims.paper import CLAIMS
from dropdiag.analysis.claims.roles import Roles, infer_roles
from dropdiag.analysis.claims.rules import UNDECIDED, jointly
from dropdiag.analysis.compare.measurements import Measurements
from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.errors import ArgumentError

TABLE: Final = ["claim", "statement", "condition", "baseline", "verdict", "reason", "n"]
PARTS: Final = [
    "claim", "statement", "condition", "baseline", "layer", "call", "measure", "effect", "low", "high", "interval",
    "joint_low", "joint_high", "threshold", "p", "p_holm", "p_attainable", "verdict", "n", "n_baseline", "paired",
    "scale",
]  # fmt: skip
_Evaluation: TypeAlias = tuple[dict[str, Any], list[dict[str, Any]]]
"""A claim on one condition: its row of the table, and its numbers."""
VALIDATION: Final = re.compile(r"(?<![a-z])(val|valid|validation|dev)(?![a-z])", re.IGNORECASE)
"""A scalar of images that were held out to choose by: what test images say is not chosen by them."""


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
    measurements: Measurements,
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
    measurements : Measurements
        Of a `Comparison`, whose method ``claims`` gives them.
    dropout, gaaf : str, optional
        Conditions that play these parts in (e) and (f); inferred from their names, which the reason states. Where
        several conditions have "gaaf" in their name, the claims are put to each. Claims (a) to (d) are put to every
        condition but the baseline.
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
    options = Options(alpha, correlation_margin, published_factor, flow_margin, share_margin)
    roles = infer_roles(measurements.conditions, dropout, gaaf)
    found = list(_evaluations(measurements, roles, options, _scalar(measurements, scalar)))
    order = {claim.letter: i for i, claim in enumerate(CLAIMS)}
    table = pd.DataFrame([row for row, _ in found], columns=TABLE)
    table = table.sort_values("claim", key=lambda letters: letters.map(order), kind="stable", ignore_index=True)
    numbers = [number for _, several in found for number in several]
    layers, overall = (pd.DataFrame([one for one in numbers if (one["layer"] is None) == whole], columns=PARTS)
                       for whole in (False, True))  # fmt: skip
    return Claims(table, layers, overall, {claim.letter: claim.rule_of(options) for claim in CLAIMS}, roles)


def _evaluations(
    measurements: Measurements, roles: Roles, options: Options, scalar: str | None
) -> Iterator[_Evaluation]:
    """Put each claim to the conditions that it speaks of."""
    pairs = [(condition, measurements.baseline, False) for condition in measurements.conditions[1:]]
    pairs += [(gaaf, roles.dropout, True) for gaaf in roles.gaafs if roles.dropout is not None]
    for condition, baseline, of_gaaf in pairs:
        # one case for all of them: what its effects are taken from is gathered once
        case = Case(PairEffects(measurements, condition, baseline), options, scalar)
        yield from (_evaluate(claim, case, roles) for claim in CLAIMS if claim.of_gaaf == of_gaaf)
    if roles.dropout is None or not roles.gaafs:
        yield from (_without_role(claim, roles, gaaf) for claim in CLAIMS if claim.of_gaaf
                    for gaaf in roles.gaafs or ("",))  # fmt: skip


def _evaluate(claim: Claim, case: Case, roles: Roles) -> _Evaluation:
    condition, baseline = case.effects.condition, case.effects.baseline
    parts, words = claim.judge(case)
    said = [*words, *map(reasons.contrary, parts)]
    # the numbers first, then what limits them: people read the start of a sentence
    said += reasons.caveats(parts, case.options.alpha)
    said += roles.guesses(condition) if claim.of_gaaf else []
    head = {"claim": claim.letter, "statement": claim.statement, "condition": condition, "baseline": baseline}
    n = min((part.effect.effect.n for part in parts if part.effect is not None), default=0)
    reason = "; ".join(filter(None, said)) + "."
    row = {"verdict": jointly([part.verdict for part in parts]), "reason": reason[0].upper() + reason[1:], "n": n}
    return head | row, [head | _numbers(case, part, *judged) for part in parts for judged in part.judged]


def _numbers(case: Case, part: Part, one: ClaimEffect, verdict: str) -> dict[str, Any]:
    """Return the numbers of one verdict; an equivalence is judged by its interval, without a p."""
    low, high = one.joint
    numbers = {
        **asdict(one.effect), "layer": one.layer, "call": one.call, "measure": one.measure, "joint_low": low,
        "joint_high": high, "threshold": one.bounds.threshold, "p_holm": one.p_holm, "verdict": verdict,
        "scale": case.effects.measurements.measure(one.measure).scale,
    }  # fmt: skip
    if part.margin is not None:
        # one p for two sides of a margin would be two tests: the interval says both at once
        numbers |= {"threshold": part.margin, "p": np.nan, "p_holm": np.nan, "p_attainable": np.nan}
    return numbers


def _without_role(claim: Claim, roles: Roles, gaaf: str) -> _Evaluation:
    """Return an undecided row, because no condition has a role that the claim needs."""
    who = [role for role in ("dropout", "gaaf") if getattr(roles, role) is None]
    reason = f"No condition plays {' or '.join(who)} by its name; name it with {', '.join(f'{w}=' for w in who)}."
    values = claim.letter, claim.statement, gaaf, roles.dropout or "", UNDECIDED, reason, 0
    return dict(zip(TABLE, values, strict=True)), []


def _scalar(measurements: Measurements, wanted: str | None) -> str | None:
    prefix = "epochs_to_best:"
    measures: list[str] = measurements.measured["measure"].unique().tolist()
    names = [name.removeprefix(prefix) for name in measures if name.startswith(prefix)]
    if wanted is not None and wanted not in names:
        raise ArgumentError(f"no scalar {wanted!r} of held-out data; there are {', '.join(map(repr, names)) or 'none'}")
    if wanted is not None or not names:
        return wanted
    return sorted(
        names, key=lambda name: ("acc" not in name.lower(), not VALIDATION.search(name), less_is_better(name))
    )[0]
