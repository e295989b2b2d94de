"""The reasons of verdicts: one sentence with numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from dropdiag.analysis.claims.effects import Evidence

Part = tuple[str, Evidence | None]
"""The verdict of a part of a claim, and the number that it rests on."""
_DOES: Final = {"supported": "supports", "contradicted": "contradicts"}


def gaussian(normal: Part, alike: Part, *, missing: str) -> str:
    """Say how far weights are from normal, and layers from each other, and what each part comes to."""
    if normal[1] is None:
        return f"the weights' distribution {missing}"
    return _joined(
        _part("distance to the normal changes by", normal, ""),
        _part("distance between the layers' shapes by", alike,
              "there are no two layers whose shapes could be compared"),
    )  # fmt: skip


def correlation(one: Evidence | None, margin: float, *, missing: str) -> str:
    """Say how much the mean |r| differs."""
    change = _change("mean |r| changes by", one, f"node correlation {missing}")
    return f"{change} (margin {margin:g})" if one else change


def flow(one: Evidence | None, published: float, *, steps: int | None, missing: str) -> str:
    """Say by what factor the gradient flow differs, over which steps, and where the published factor lies."""
    if one is None:
        return f"gradient flow {missing}"
    over = f" over the first {steps:,} training steps" if steps else ""
    effect, low, high = np.exp([one.effect.effect, one.effect.low, one.effect.high])
    if np.isnan(low):
        return f"gradient flow is {effect:.3g} times the baseline's{over} (published: about {published:g})"
    where = "below" if high < published else "above" if low > published else "not distinguished from"
    factor = f"{effect:.3g} times the baseline's [{low:.3g}, {high:.3g}]{over}"
    return f"gradient flow is {factor}, {where} the published {published:g}"


def saturation(share: Part, slope: Part, *, missing: str) -> str:
    """Say how the saturation share differs, and how that goes with height, and what each part comes to."""
    if share[1] is None:
        return f"saturation share {missing}"
    verdict, one = slope
    rising = one if one is None or np.isfinite(one.effect.effect) else None
    return _joined(
        _part("saturation share changes by", share, ""),
        _part("from a layer to the next that change grows by", (verdict, rising),
              "there is one layer alone, and no higher one"),
    )  # fmt: skip


def resemblance(flow_: Part, share: Part, *, steps: int | None, missing: tuple[str, str]) -> str:
    """Say how far GAAF is from dropout, and what each part comes to."""
    ratio = f"gradient flow {missing[0]}"
    if flow_[1] is not None:
        numbers = np.exp([flow_[1].effect.effect, flow_[1].effect.low, flow_[1].effect.high])
        over = f" over the first {steps:,} training steps" if steps else ""
        ratio = f"gradient flow is {numbers[0]:.3g} times dropout's{_interval(*numbers[1:])}{over} ({flow_[0]})"
    return _joined(ratio, _part("saturation share differs by", share, f"saturation share {missing[1]}"))


def nothing_to_resemble(name: str) -> str:
    """Say that dropout has no effect of its own."""
    return f"dropout's own effect on {name.replace('_', ' ')} is undecided, so there is nothing to resemble"


def epochs(one: Evidence | None, scalar: str | None, *, missing: str) -> str:
    """Say how many epochs more or fewer are needed."""
    if scalar is None:
        return "no scalar of held-out data was logged, so epochs cannot be counted"
    return _change(f"evaluations to the best {scalar} differ by", one, f"{scalar!r} {missing}")


def censored(ended: int, runs: int) -> str:
    """Say that runs ended with their best evaluation, so that the true best may be later."""
    of = f"{ended} of {runs} runs" if runs > 1 else "the run"
    return f"in {of} the best is the last evaluation, so that the difference may be greater or smaller than this"


def contrary(measure: str, verdict: str, layers: Sequence[str]) -> str:
    """Say which layers keep a verdict on the average from being that of the whole."""
    names = ", ".join(map(repr, layers[:3])) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
    other = {"supported": "contradict", "contradicted": "support"}[verdict] + ("s" if len(layers) == 1 else "")
    return f"on average {measure.replace('_', ' ')} {_DOES[verdict]} the claim, but {names} {other} it"


def caveats(known: Sequence[Evidence], alpha: float, *, tested: bool) -> list[str]:
    """Say how many seeds there are, what p came out, and what so few could not show."""
    if not known:
        return []
    effect = known[0].effect
    what = f"{effect.n} pairs of seeds" if effect.paired else f"{effect.n} and {effect.n_baseline} seeds"
    if effect.test == "none":
        return ["one seed on a side: undecided, whatever the effect"]
    if any(one.effect.without_spread for one in known):
        return [what, "the seeds do not differ at all, so they say nothing about chance"]
    if not tested:
        return [what]
    p = ", ".join(f"{_p(one):.2g}" for one in known)
    least = max(one.effect.p_attainable for one in known)
    alone = f", the attainable p is {least:.2g}: the interval alone decides" if least > alpha else ""
    return [f"{what}, p = {p}{alone}"]


def _p(one: Evidence) -> float:
    """Return the p of the bound that the interval lies beyond: that which contradicts, where it is below that alone."""
    below = one.effect.low <= one.bounds.threshold < one.bounds.against and one.effect.high < one.bounds.against
    return one.p_against if below else one.effect.p


def _part(what: str, part: Part, missing: str) -> str:
    verdict, one = part
    return missing if one is None else f"{_change(what, one, missing)} ({verdict})"


def _change(what: str, one: Evidence | None, missing: str) -> str:
    if one is None:
        return missing
    return f"{what} {one.effect.effect:+.3g}" + _interval(one.effect.low, one.effect.high)


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
