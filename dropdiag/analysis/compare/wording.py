"""The reasons of verdicts: one sentence with numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dropdiag.analysis.compare.evidence import Evidence


def gaussian(normal: Evidence | None, alike: Evidence | None) -> str:
    """Say how far weights are from normal, and layers from each other."""
    return _joined(
        _change("distance to the normal changes by", normal, "the weights were not recorded on both sides"),
        _change(
            "distance between the layers' shapes by", alike, "there are no two layers whose shapes could be compared"
        ),
    )


def correlation(one: Evidence | None, margin: float) -> str:
    """Say how much the mean |r| differs."""
    change = _change("mean |r| changes by", one, "node correlation was not recorded on both sides")
    return f"{change} (margin {margin:g})" if one else change


def flow(one: Evidence | None, published: float) -> str:
    """Say by what factor the gradient flow differs, and where the published factor lies."""
    if one is None:
        return "gradient flow was not recorded on both sides"
    effect, low, high = np.exp([one.effect.effect, one.effect.low, one.effect.high])
    if np.isnan(low):
        return f"gradient flow is {effect:.3g} times the baseline's (published: about {published:g})"
    where = "below" if high < published else "above" if low > published else "not distinguished from"
    factor = f"{effect:.3g} times the baseline's [{low:.3g}, {high:.3g}]"
    return f"gradient flow is {factor}, {where} the published {published:g}"


def saturation(one: Evidence | None, slope: Evidence | None) -> str:
    """Say how the saturation share differs, and how that goes with height."""
    if one is None:
        return "saturation shares were not recorded on both sides"
    rising = slope if slope is None or np.isfinite(slope.effect.effect) else None
    return _joined(
        _change("saturation share changes by", one, ""),
        _change("from a layer to the next that change grows by", rising, "there is one layer alone, and no higher one"),
    )


def resemblance(flow_: Evidence | None, share: Evidence | None) -> str:
    """Say how far GAAF is from dropout."""
    ratio = "gradient flow was not recorded on both sides"
    if flow_ is not None:
        numbers = np.exp([flow_.effect.effect, flow_.effect.low, flow_.effect.high])
        ratio = f"gradient flow is {numbers[0]:.3g} times dropout's" + _interval(*numbers[1:])
    return _joined(
        ratio, _change("saturation share differs by", share, "saturation shares were not recorded on both sides")
    )


def nothing_to_resemble(name: str) -> str:
    """Say that dropout has no effect of its own."""
    return f"dropout's own effect on {name.replace('_', ' ')} is undecided, so there is nothing to resemble"


def epochs(one: Evidence | None, scalar: str | None) -> str:
    """Say how many epochs more or fewer are needed."""
    if scalar is None:
        return "no scalar of held-out data was logged, so epochs cannot be counted"
    return _change(f"evaluations to the best {scalar} differ by", one, f"{scalar!r} was not logged on both sides")


def contrary(measure: str, verdict: str, layers: Sequence[str]) -> str:
    """Say which layers keep a verdict on the average from being that of the whole."""
    names = ", ".join(map(repr, layers[:3])) + (f" and {len(layers) - 3} more" if len(layers) > 3 else "")
    return f"{measure.replace('_', ' ')} on average is {verdict}, but the opposite holds at {names}"


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


def _change(what: str, one: Evidence | None, missing: str) -> str:
    if one is None:
        return missing
    return f"{what} {one.effect.effect:+.3g}" + _interval(one.effect.low, one.effect.high)


def _interval(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" [{low:.3g}, {high:.3g}]"


def _joined(*parts: str) -> str:
    return ", ".join(filter(None, parts))
