"""Phrases that the reasons of verdicts are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.claims.case import Part
from dropdiag.analysis.claims.effects import ClaimEffect
from dropdiag.analysis.claims.rules import SUPPORTED
from dropdiag.formatting import some


def joined(*phrases: str) -> str:
    """Join phrases with commas; empty ones are left out."""
    return ", ".join(filter(None, phrases))


def change(what: str, part: Part, missing: str) -> str:
    """Say by how much a number differs, and what that comes to; else why there is none."""
    return missing if part.effect is None else f"{size(what, part.effect, missing)} ({part.verdict})"


def size(what: str, one: ClaimEffect | None, missing: str) -> str:
    """Say by how much a number differs; else why there is none."""
    if one is None:
        return missing
    return f"{what} {one.effect.effect:+.3g}" + interval(one.effect.low, one.effect.high)


def interval(low: float, high: float) -> str:
    """Write an interval in brackets; nothing where there is none."""
    return "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"


def flow_factor(one: ClaimEffect, whose: str, steps: int | None) -> str:
    """Say by what factor the gradient flow differs, and over which training steps."""
    # a log ratio is told as the factor that it stands for
    effect, low, high = np.exp([one.effect.effect, one.effect.low, one.effect.high])
    over = f" over the first {steps:,} training steps" if steps else ""
    return f"gradient flow is {effect:.3g} times {whose}{interval(low, high)}{over}"


def beside_published(one: ClaimEffect, published: float) -> str:
    """Say where the published factor of the gradient flow lies."""
    low, high = np.exp([one.effect.low, one.effect.high])
    if np.isnan(low):
        return f" (published: about {published:g})"
    where = "below" if high < published else "above" if low > published else "not distinguished from"
    return f", {where} the published {published:g}"


def contrary(part: Part) -> str:
    """Say which layers keep a verdict on the average from being that of the whole; nothing where none does."""
    if not part.contrary:
        return ""
    average, verdict = part.judged[-1]
    does, opposes = ("supports", "contradict") if verdict == SUPPORTED else ("contradicts", "support")
    ending = "s" if len(part.contrary) == 1 else ""
    layers = some(list(map(repr, part.contrary)))
    return f"on average {average.measure.replace('_', ' ')} {does} the claim, but {layers} {opposes}{ending} it"


def caveats(parts: Sequence[Part], alpha: float) -> list[str]:
    """Say how many seeds there are, what p came out, and what so few could not show."""
    known = [part.effect for part in parts if part.effect is not None]
    if not known:
        return []
    effect = known[0].effect
    what = f"{effect.n} pairs of seeds" if effect.paired else f"{effect.n} and {effect.n_baseline} seeds"
    if effect.test == "none":
        return ["one seed on a side: undecided, whatever the effect"]
    if any(one.effect.without_spread for one in known):
        return [what, "the seeds do not differ at all, so they say nothing about chance"]
    if any(part.margin is not None for part in parts):
        # an equivalence is judged by its interval alone
        return [what]
    p = ", ".join(f"{_p(one):.2g}" for one in known)
    least = max(one.effect.p_attainable for one in known)
    alone = f", the attainable p is {least:.2g}: the interval alone decides" if least > alpha else ""
    return [f"{what}, p = {p}{alone}"]


def _p(one: ClaimEffect) -> float:
    """Return the p of the bound that the interval lies beyond: that which contradicts, where it is below that alone."""
    below = one.effect.low <= one.bounds.threshold < one.bounds.against and one.effect.high < one.bounds.against
    return one.p_against if below else one.effect.p
