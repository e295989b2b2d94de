"""Phrases that the reasons of verdicts are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.claims.effects import ClaimEffect
from dropdiag.analysis.claims.questions import Answer, Question
from dropdiag.analysis.claims.rules import OPPOSITE, SUPPORTED, UNDECIDED
from dropdiag.formatting import some
from dropdiag.store.schema import LOG_RATIO

Answered = tuple[Question, Answer]


def of_part(question: Question, answer: Answer) -> str:
    """Say of one part what its number is and what that comes to, or why there is none."""
    if question.effect is None:
        return question.why_not
    family = "" if np.isnan(answer.p_family) else f", p = {answer.p_family:.2g} over the family"
    mark = ", provisional" if answer.provisional and answer.verdict != UNDECIDED else ""
    # another reading has the number of the question before it
    said = question.name if question.reading else _measured(question, question.effect)
    told = [*remarks(question, answer), *filter(None, [question.beside])]
    return "; ".join([f"{said} ({answer.verdict}{mark}{family})", *told])


def alone(question: Question, answer: Answer) -> str:
    """Say the same where the verdict and p stand beside it, and no other part before it."""
    if question.effect is None:
        return question.why_not
    return "; ".join([_measured(question, question.effect), *remarks(question, answer)])


def remarks(question: Question, answer: Answer) -> list[str]:
    """Say what keeps one part from being decided, and what its number leaves out; why there is none."""
    if question.effect is None:
        return [question.why_not]
    return [one for one in (_contrary(question, answer), answer.why, question.effect.note) if one]


def _measured(question: Question, one: ClaimEffect) -> str:
    size, interval = _number(one)
    return f"{question.phrase} {size}{question.unit}{interval}{question.remark}"


def number(one: ClaimEffect) -> str:
    """Write an effect with its interval; a log ratio as the factor that it stands for."""
    return "".join(_number(one))


def _number(one: ClaimEffect) -> tuple[str, str]:
    values = np.array([one.effect.effect, one.effect.low, one.effect.high])
    with np.errstate(over="ignore"):  # the interval of two seeds may reach to infinity and to 0
        size, low, high = np.exp(values) if one.scale == LOG_RATIO else values
    shown = f"{size:.3g}" if one.scale == LOG_RATIO or one.own is not None else f"{size:+.3g}"
    return shown, "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"


def beside_published(one: ClaimEffect | None, published: float) -> str:
    """Say where the published factor of the gradient flow lies."""
    if one is None:
        return ""
    with np.errstate(over="ignore"):
        low, high = np.exp([one.effect.low, one.effect.high])
    if np.isnan(low):
        return f" (published: about {published:g})"
    where = "below" if high < published else "above" if low > published else "not distinguished from"
    return f", {where} the published {published:g}"


def caveats(parts: Sequence[Answered], alpha: float) -> list[str]:
    """Say how many seeds there are, and what so few could not show."""
    known = [(question.effect, answer) for question, answer in parts if question.effect is not None]
    if not known:
        return []
    if all(not one.testable for one, _ in known):
        return ["one seed on a side: undecided, whatever the effect"]
    said = [_seeds(known[0][0])]
    if any(one.effect.without_spread for one, _ in known):
        said.append("the seeds do not differ at all, so they say nothing about chance")
    least = max((one.effect.p_attainable for one, answer in known if answer.provisional), default=0.0)
    if least:
        said.append(f"the attainable p of relabelled seeds is {least:.2g}, too great for this family at {alpha:g}, so "
                    "that Student's t decides: provisional")  # fmt: skip
    return said


def _seeds(one: ClaimEffect) -> str:
    effect = one.effect
    if one.own is not None:
        return f"{effect.n} seeds"
    return f"{effect.n} pairs of seeds" if effect.paired else f"{effect.n} and {effect.n_baseline} seeds"


def _contrary(question: Question, answer: Answer) -> str:
    """Say which layers keep a verdict on the average from being that of the whole; nothing where none does."""
    if not answer.contrary or question.effect is None:
        return ""
    places = {id(one): found.verdict for one, found in zip(question.layers, answer.layers, strict=True)}
    average = OPPOSITE[places[id(answer.contrary[0])]]
    does, opposes = ("supports", "contradict") if average == SUPPORTED else ("contradicts", "support")
    ending = "s" if len(answer.contrary) == 1 else ""
    layers = some([repr(one.layer) for one in answer.contrary])
    return f"on average {question.effect.measure.replace('_', ' ')} {does} the claim, but {layers} {opposes}{ending} it"
