"""The paper's claims as tests that can fail, for any conditions of one's own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case, Claim, Options
from dropdiag.analysis.claims.effects import ClaimEffect, PairEffects
from dropdiag.analysis.claims.family import decide
from dropdiag.analysis.claims.paper import CLAIMS
from dropdiag.analysis.claims.questions import Answer, Equivalence, Question
from dropdiag.analysis.claims.roles import Roles, infer_roles
from dropdiag.analysis.claims.rules import UNDECIDED, jointly
from dropdiag.analysis.compare.measurements import Measurements
from dropdiag.analysis.compare.measures import is_accuracy, is_validation, less_is_better
from dropdiag.analysis.select import check
from dropdiag.deprecation import warn_of
from dropdiag.errors import ArgumentError
from dropdiag.formatting import some
from dropdiag.printable import printable

TABLE: Final = ["claim", "statement", "condition", "baseline", "verdict", "provisional", "reason", "caveats", "n"]
NUMBERS: Final = [
    "measure", "scale", "effect", "low", "high", "interval", "threshold", "p", "p_attainable", "test", "n",
    "n_baseline", "paired", "verdict",
]  # fmt: skip
PARTS: Final = [
    "claim", "condition", "baseline", "part", "counts", "provisional", "p_family", "reason", "note", "beside", *NUMBERS,
]  # fmt: skip
LAYERS: Final = [
    "claim", "statement", "condition", "baseline", "part", "layer", "call", "joint_low", "joint_high", "p_holm",
    *NUMBERS,
]  # fmt: skip
NAMED: Final = 4
"""So many conditions are named one by one in the headline."""


class Unrecorded(NamedTuple):
    """A claim that was not asked, for no run holds what it takes; ``record`` says what that is."""

    claim: str
    statement: str
    rule: str
    record: str


@dataclass(frozen=True, repr=False, eq=False)
class Claims:
    """Verdicts on the paper's claims, with the numbers they rest on.

    Attributes
    ----------
    table : DataFrame
        One row a claim and condition: claim ("a" to "l"), statement, condition, baseline, verdict ("supported",
        "contradicted", "in part", "undecided"), provisional (whether so few seeds leave it to Student's t), reason
        (all that led to it, with numbers), caveats (the end of it: how many seeds, and what limits all parts), n (runs
        of the condition, of (l) seeds). Of (l) the condition is all doses above the lowest, which stands for the
        baseline. Where no condition plays dropout or GAAF, (e) has a row with an empty condition or baseline.
    parts : DataFrame
        One row a claim, condition and part: part (its name), counts (whether it enters the claim's verdict),
        provisional, p_family (p, adjusted over the family), reason (its number in a sentence), note (the end of it:
        what keeps it from being decided, what is left out, or why there is no number), beside (other numbers of the
        same runs that belong to it, in words), measure, scale ("log ratio": exp of effect, interval and threshold are
        factors; "difference"), effect, low, high, interval, threshold, p, p_attainable, test, n, n_baseline, paired,
        verdict ("not recorded" where there is no number, "not judged" of one that is only shown).
    layers : DataFrame
        The same for each layer, with layer, call; p of what its verdict rests on, p_holm (adjusted over layers);
        joint_low, joint_high (the interval for all layers together).
    rules : dict of str to str
        The rule of each claim, in words.
    roles : Roles
        Which condition plays dropout and which play GAAF.
    alpha : float
        The one level: intervals cover 1 - alpha, and the family of all verdicts is tested at alpha.
    headline : str
        Who is compared with whom.
    unrecorded : tuple of Unrecorded
        Claims that were not asked, for no run holds what they take.
    """

    table: pd.DataFrame
    parts: pd.DataFrame
    layers: pd.DataFrame
    rules: dict[str, str]
    roles: Roles
    alpha: float
    headline: str
    unrecorded: tuple[Unrecorded, ...] = ()

    @property
    def overall(self) -> pd.DataFrame:
        """Former name of `parts`, of those that have a number."""
        warn_of("Claims.overall", "Claims.parts")
        return self.parts[self.parts["effect"].notna()].reset_index(drop=True)

    def __repr__(self) -> str:
        told = ", ".join(f"({row.claim}) {row.condition}: {row.verdict}" for row in self.table.itertuples())
        return printable(f"<Claims: {told}>")

    def _repr_html_(self) -> str:
        from dropdiag.notebook import claims  # noqa: PLC0415 - a notebook alone pays it

        return claims(self)

    def only(self, letters: str | Sequence[str]) -> Claims:
        """Return the verdicts on some of the claims, as they are in the family of all.

        Parameters
        ----------
        letters : sequence of str
            As ["c", "d"] or "cd".

        Returns
        -------
        Claims
            To be shown, say. `Comparison.claims` with ``claims=`` asks fewer in place of that, which is another family.

        Raises
        ------
        ArgumentError
            For a claim that was not asked.
        """
        check("claim", list(letters), list(self.rules))
        frames = {name: getattr(self, name) for name in ("table", "parts", "layers")}
        chosen = {
            name: frame[frame["claim"].isin(list(letters))].reset_index(drop=True) for name, frame in frames.items()
        }
        return replace(self, **chosen, rules={letter: self.rules[letter] for letter in letters}, unrecorded=())


def claims(
    measurements: Measurements,
    *,
    claims: str | Sequence[str] | None = None,
    dropout: str | None = None,
    gaaf: str | None = None,
    scalar: str | None = None,
    alpha: float | None = None,
    correlation_margin: float = 0.02,
    published_factor: float = 5.0,
    flow_margin: float = 1.5,
    share_margin: float = 0.1,
    far_probability: float = 0.05,
    ensemble_margin: float = 0.005,
    slope_share: float = 0.5,
    early: float = 0.1,
    rise_size: float = 0.1,
    noise: float = 0.2,
) -> Claims:
    """Put the paper's claims to the test.

    Parameters
    ----------
    measurements : Measurements
        Of a `Comparison`, whose method ``claims`` gives them.
    claims : sequence of str, optional
        Letters of the claims that are asked, as ["c", "d"] or "cd". By default (a) to (f), and those of (g) to (l) of
        which anything was recorded. They and the conditions are one family: the fewer are asked, the fewer seeds it
        takes.
    dropout, gaaf : str, optional
        Conditions that play these parts in (e) and (f); inferred from their names, which the reason states. Where
        several conditions have "gaaf" in their name, the claims are put to each. The others are put to every condition
        but the baseline.
    scalar : str, optional
        Scalar whose best held-out value ends the counting of epochs in (f); by default an accuracy, best one of
        validation data (``val`` in its name), else the first there is.
    alpha : float, optional
        Level of intervals, p and verdicts alike; that of the comparison by default.
    correlation_margin : float
        In (b), a mean |r| that is lower by no more than this is read as not lower.
    published_factor : float
        What the factor of (c) is set beside.
    flow_margin : float
        In (e), greatest factor between two gradient flows that resemble each other.
    share_margin : float
        In (e), greatest difference of two saturation shares that do.
    far_probability : float
        In (d), gradient probability below which dropout gives no gradient far out.
    ensemble_margin : float
        In (h), divergence in nats, less what so many masks add to it, below which weight scaling is the geometric mean.
        By Pinsker's inequality 0.005 says
        that the probabilities of any set of classes differ by 0.05 on average at most.
    slope_share : float
        In (i), share of the log ratio of gradient flow that phi' must account for.
    early : float
        In (k), share of training that is early.
    rise_size, noise : float
        In (g), the size of the filter-normalised step, and of the noise on the inputs (in their standard deviations),
        that was measured nearest to this decides.

    Returns
    -------
    Claims

    Raises
    ------
    ArgumentError
        For an unknown claim, condition or scalar, or a number that cannot be.

    Notes
    -----
    The rules are in docs/claims.md and in ``Claims.rules``. A verdict is about the seeds, data and networks of these
    runs. "Undecided" is no evidence for the contrary.
    """
    settings = measurements.settings if alpha is None else replace(measurements.settings, alpha=alpha)
    options = Options(
        settings.alpha, correlation_margin, published_factor, flow_margin, share_margin, far_probability,
        ensemble_margin, slope_share, early, rise_size, noise,
    )  # fmt: skip
    asked = _asked(claims)
    roles = infer_roles(measurements.conditions, dropout, gaaf)
    # one level governs everything: effects are taken anew where another one is asked for
    level = measurements if settings == measurements.settings else replace(measurements, settings=settings)
    found = [*_put(asked, level, roles, options, _scalar(measurements, scalar))]
    found.sort(key=lambda one: [claim.letter for claim in CLAIMS].index(one.claim.letter))
    left: list[Claim] = []
    if claims is None:
        asked, found, left = _recorded(asked, found)
    answers = decide([one.questions for one in found], options.alpha)
    rows = [_row(one, several, roles) for one, several in zip(found, answers, strict=True)]
    parts = [row for one, several in zip(found, answers, strict=True) for row in _parts(one, several)]
    layers = [row for one, several in zip(found, answers, strict=True) for row in _layers(one, several)]
    return Claims(
        pd.DataFrame(rows, columns=TABLE), pd.DataFrame(parts, columns=PARTS), pd.DataFrame(layers, columns=LAYERS),
        {claim.letter: claim.rule_of(options) for claim in asked}, roles, options.alpha,
        _headline(measurements, found),
        tuple(Unrecorded(claim.letter, claim.statement, claim.rule_of(options), claim.record) for claim in left),
    )  # fmt: skip


def _recorded(asked: Sequence[Claim], found: Sequence[_Asked]) -> tuple[tuple[Claim, ...], list[_Asked], list[Claim]]:
    """Leave out the claims that take measurements of their own, where there are none of any condition."""
    held = {one.claim.letter for one in found if any(question.effect is not None for question in one.questions)}
    left = [claim for claim in asked if claim.record and claim.letter not in held]
    return tuple(one for one in asked if one not in left), [one for one in found if one.claim not in left], left


class _Asked(NamedTuple):
    """A claim put to two conditions; without a case where no condition has a role that it needs."""

    claim: Claim
    condition: str
    baseline: str
    questions: Sequence[Question]
    case: Case | None


def _asked(letters: str | Sequence[str] | None) -> tuple[Claim, ...]:
    """Return the claims that are asked, in the order of the table."""
    if letters is None:
        return CLAIMS
    known = [claim.letter for claim in CLAIMS]
    wanted = re.findall(r"[^\s,]", letters) if isinstance(letters, str) else [*letters] if np.iterable(letters) else []
    unknown = [letter for letter in wanted if letter not in known]
    if unknown or not wanted:
        raise ArgumentError(f"claims= takes letters out of {', '.join(known)}, as 'cd', got {letters!r}")
    return tuple(claim for claim in CLAIMS if claim.letter in wanted)


def _put(
    asked: Sequence[Claim], measurements: Measurements, roles: Roles, options: Options, scalar: str | None
) -> Iterator[_Asked]:
    """Put each claim to the conditions that it speaks of."""
    beside = [(condition, measurements.baseline) for condition in measurements.conditions[1:]]
    gaafs = [(gaaf, roles.dropout) for gaaf in roles.gaafs if roles.dropout is not None]
    # one of each for all claims: what effects are taken from is gathered once
    pairs = {pair: PairEffects(measurements, *pair) for pair in [*beside, *gaafs]}
    for (condition, baseline), effects in pairs.items():
        case = Case(effects, options, scalar, pairs)
        for claim in [one for one in asked if one.of_axis is None]:
            # two conditions may be both: GAAF beside dropout, which is the baseline of all
            ask = (claim.alone if not gaafs else claim.ask) if claim.of_gaaf else claim.ask
            if ask is not None and (condition, baseline) in (gaafs if claim.of_gaaf and gaafs else beside):
                yield _Asked(claim, condition, baseline, ask(case), case)
    for claim in asked:
        if claim.of_axis is not None:
            # where there is no axis its parts say so, beside the first condition
            ends = claim.of_axis(measurements) or beside[0]
            case = Case(PairEffects(measurements, *beside[0]), options, scalar, pairs)
            yield _Asked(claim, *ends, claim.ask(case), case)
    if not gaafs:
        yield from (_Asked(claim, gaaf, roles.dropout or "", (), None) for claim in asked
                    if claim.of_gaaf and claim.alone is None for gaaf in roles.gaafs or ("",))  # fmt: skip


def _row(asked: _Asked, answers: Sequence[Answer], roles: Roles) -> dict[str, Any]:
    claim, case = asked.claim, asked.case
    head = {
        "claim": claim.letter,
        "statement": claim.statement,
        "condition": asked.condition,
        "baseline": asked.baseline,
    }
    if case is None:
        lacking = [role for role in ("dropout", "gaaf") if getattr(roles, role) is None]
        names = ", ".join(f"{role}=" for role in lacking)
        reason = f"No condition plays {' or '.join(lacking)} by its name; name it with {names}."
        return head | {"verdict": UNDECIDED, "provisional": False, "reason": reason, "caveats": "", "n": 0}
    parts = list(zip(asked.questions, answers, strict=True))
    counted = [one for question, answer in parts if (one := question.counts_as(answer)) is not None]
    # the numbers first, then what limits them: people read the start of a sentence
    said = list(dict.fromkeys(reasons.of_part(*part) for part in parts))
    unrecorded = claim.record and all(question.effect is None for question in asked.questions)
    said += [f"it takes {claim.record}"] if unrecorded else []
    caveats = [*reasons.caveats(parts, case.options.alpha), *(roles.guesses(asked.condition) if claim.of_gaaf else ())]
    n = min((question.effect.effect.n for question in asked.questions if question.effect is not None), default=0)
    provisional = any(answer.provisional for question, answer in parts
                      if question.counts_as(answer) not in (None, UNDECIDED))  # fmt: skip
    return head | {"verdict": jointly(counted), "provisional": provisional, "reason": _sentence([*said, *caveats]),
                   "caveats": _sentence(caveats), "n": n}  # fmt: skip


def _sentence(said: Iterable[str]) -> str:
    text = "; ".join(filter(None, said))
    return text and f"{text[0].upper()}{text[1:]}."


def _parts(asked: _Asked, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    for question, answer in zip(asked.questions, answers, strict=True):
        yield {
            "claim": asked.claim.letter, "condition": asked.condition, "baseline": asked.baseline,
            "part": question.name, "counts": question.counts_as(answer) is not None,
            "provisional": answer.provisional and answer.verdict != UNDECIDED, "p_family": answer.p_family,
            "reason": reasons.alone(question, answer), "note": "; ".join(reasons.remarks(question, answer)),
            "beside": question.beside,
            **_numbers(question, question.effect, answer.verdict), "p": answer.p,
        }  # fmt: skip


def _layers(asked: _Asked, answers: Sequence[Answer]) -> Iterator[dict[str, Any]]:
    for question, answer in zip(asked.questions, answers, strict=True):
        tested = max(sum(one.testable for one in question.layers), 1)
        for one, found in zip(question.layers, answer.layers, strict=True):
            low, high = one.interval(1.0 - one.settings.alpha / tested)
            yield {
                "claim": asked.claim.letter, "statement": asked.claim.statement, "condition": asked.condition,
                "baseline": asked.baseline, "part": question.name, "layer": one.layer, "call": one.call,
                "joint_low": low, "joint_high": high, **_numbers(question, one, found.verdict), "p": found.p,
                "p_holm": found.p_holm,
                "p_attainable": one.effect.p_attainable * tested,
            }  # fmt: skip


def _numbers(question: Question, one: ClaimEffect | None, verdict: str) -> dict[str, Any]:
    """Return the numbers of one verdict."""
    if one is None:
        return {"verdict": verdict, "n": 0, "n_baseline": 0, "test": "none", "interval": "none"}
    numbers = asdict(one.effect)
    if isinstance(question, Equivalence):
        # one p for two sides of a margin would be two tests
        numbers["p"] = np.nan
    return numbers | {
        "measure": one.measure, "scale": one.scale, "threshold": question.threshold, "verdict": verdict,
        "n_baseline": one.effect.n_baseline if one.own is None else 0,
    }  # fmt: skip


def _headline(measurements: Measurements, found: Iterable[_Asked]) -> str:
    """Say who is compared with whom."""
    others = measurements.conditions[1:]
    names = ", ".join(map(repr, others)) if len(others) <= NAMED else f"{len(others)} conditions"
    said = f"{names} compared with {measurements.baseline!r}"
    pairs: dict[str, dict[str, None]] = {}
    for one in found:
        if one.case and one.claim.of_gaaf and one.baseline != measurements.baseline:
            pairs.setdefault(one.baseline, {})[repr(one.condition)] = None
    return "; ".join([said, *(f"{some([*several], NAMED)} with {other!r}" for other, several in pairs.items())])


def _scalar(measurements: Measurements, wanted: str | None) -> str | None:
    prefix = "epochs_to_best:"
    measures: list[str] = measurements.measured["measure"].unique().tolist()
    names = [name.removeprefix(prefix) for name in measures if name.startswith(prefix)]
    if wanted is not None and wanted not in names:
        raise ArgumentError(f"no scalar {wanted!r} of held-out data; there are {', '.join(map(repr, names)) or 'none'}")
    if wanted is not None or not names:
        return wanted
    return min(names, key=lambda name: (not is_accuracy(name), not is_validation(name), less_is_better(name)))
