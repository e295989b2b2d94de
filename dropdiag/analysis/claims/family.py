"""All questions that are asked at once, decided as one family: any false verdict has a probability of alpha at most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.claims.questions import Answer, Question
from dropdiag.analysis.claims.rules import weighted_holm


def decide(asked: Sequence[Sequence[Question]], alpha: float) -> list[list[Answer]]:
    """Decide all questions.

    Parameters
    ----------
    asked : sequence of sequence of Question
        The parts of each claim, put to each condition. Each claim has one share of alpha, which those of its parts
        divide that can be tested.
    alpha : float

    Returns
    -------
    list of list of Answer
        In the same order.
    """
    shares = {id(one): 1.0 / len(own) for questions in asked
              if (own := [one for one in questions if one.testable and not one.reading]) for one in own}  # fmt: skip
    tested = [one for questions in asked for one in questions if id(one) in shares]
    weights = np.array([shares[id(one)] for one in tested])
    # which p is taken follows from the numbers of seeds and of questions alone, never from what came out
    first = alpha * weights / weights.sum() if tested else weights
    p = [one.lean(relabelled=one.relabelled(level)).p for one, level in zip(tested, first, strict=True)]
    adjusted, level = weighted_holm(p, weights, alpha)
    numbers = zip(first.tolist(), level.tolist(), adjusted.tolist(), strict=True)
    tests = dict(zip(map(id, tested), numbers, strict=True))
    return [_of_claim(questions, tests, alpha) for questions in asked]


def _of_claim(
    questions: Sequence[Question], tests: dict[int, tuple[float, float, float]], alpha: float
) -> list[Answer]:
    answers: list[Answer] = []
    untested = alpha, alpha, float("nan")
    before = untested
    for one in questions:
        share, level, adjusted = tests.get(id(one), before if one.reading else untested)
        before = share, level, adjusted
        if one.reading and not np.isnan(adjusted):
            # another reading of the same interval: tested at the level of the question that it follows
            adjusted = min(1.0, one.lean(relabelled=one.relabelled(share)).p * alpha / level)
        answers.append(one.answer(share, level, adjusted, alpha))
    return answers
