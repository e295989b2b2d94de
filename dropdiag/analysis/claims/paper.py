"""The claims of the paper. To add one: its functions and an entry in `CLAIMS` here, and a row in docs/claims.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case
from dropdiag.analysis.claims.claim import Claim
from dropdiag.analysis.claims.effects import ABOVE, BELOW, Bounds
from dropdiag.analysis.claims.parts import Part
from dropdiag.analysis.claims.rules import BOTH, ONE_SIDE, UNDECIDED, WHOLE
from dropdiag.analysis.compare.network_values import LAST

KS, SHAPE, CORRELATION = "weight_ks_normal", "weight_shape_distance", "abs_correlation"
FLOW, SHARE = "gradient_flow", "saturation_share"


GAUSSIAN_RULE: Final = (
    "More Gaussian: the Kolmogorov-Smirnov distance of the weights to the normal of their mean and standard deviation "
    "is smaller. More alike: so is the mean W1 between a layer's standardised weights and those of each other layer. "
    f"{BOTH} {ONE_SIDE} {WHOLE}"
)
CORRELATION_RULE: Final = (
    "Not lower: the mean |r| is not more than {correlation_margin:g} below the baseline's (non-inferiority): the "
    "interval of the difference lies above -{correlation_margin:g}. Contradicted where it lies below 0 and is not "
    f"above that margin. {ONE_SIDE} {WHOLE}"
)
FLOW_RULE: Final = (
    "The log ratio of gradient flow is above 0. The factor is then set beside the published {published_factor:g}, "
    f"which does not enter the verdict. {ONE_SIDE} {WHOLE}"
)
SATURATION_RULE: Final = (
    "More: the difference of the saturation share is above 0. More so in higher layers: the slope of that difference "
    f"over the layers' order is above 0. {BOTH} {ONE_SIDE} {WHOLE}"
)
RESEMBLANCE_RULE: Final = (
    "Resembles: GAAF's gradient flow is within a factor of {flow_margin:g} of dropout's, and its saturation share "
    "within {share_margin:g}: supported where the whole interval is within (equivalence by confidence interval; over "
    "layers Bonferroni's), contradicted where it is wholly outside. Undecided where dropout itself has no effect that "
    f"could be resembled. {BOTH} An average within counts only if no layer is outside."
)
EPOCHS_RULE: Final = (
    "The difference of the epochs (evaluations) up to the best held-out value, GAAF's less dropout's, is below 0. "
    f"{ONE_SIDE}"
)


def _gaussian(case: Case) -> Sequence[Part]:
    return case.layers(KS, BELOW), case.layers(SHAPE, BELOW)


def _gaussian_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    normal, alike = parts
    if normal.effect is None:
        return [f"the weights' distribution {case.missing(KS)}"]
    alone = "there are no two layers whose shapes could be compared"
    return [reasons.joined(reasons.change("distance to the normal changes by", normal, ""),
                           reasons.change("distance between the layers' shapes by", alike, alone))]  # fmt: skip


def _correlation(case: Case) -> Sequence[Part]:
    return (case.layers(CORRELATION, ABOVE, Bounds(-case.options.correlation_margin, 0.0)),)


def _correlation_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    effect = parts[0].effect
    margin = f" (margin {case.options.correlation_margin:g})" if effect else ""
    return [reasons.size("mean |r| changes by", effect, f"node correlation {case.missing(CORRELATION)}") + margin]


def _flow(case: Case) -> Sequence[Part]:
    return (case.layers(FLOW, ABOVE),)


def _flow_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    effect, steps = parts[0].effect, case.effects.step_range.steps
    if effect is None:
        return [f"gradient flow {case.missing(FLOW)}"]
    return [reasons.beside_published(effect, case.options.published_factor, steps)]


def _saturation(case: Case) -> Sequence[Part]:
    return case.layers(SHARE, ABOVE), case.slope(SHARE, ABOVE)


def _saturation_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    share, slope = parts
    if share.effect is None:
        return [f"saturation share {case.missing(SHARE)}"]
    alone = "there is one layer alone, and no higher one"
    if slope.effect is not None and not np.isfinite(slope.effect.effect.effect):
        slope = replace(slope, effect=None)
    return [reasons.joined(reasons.change("saturation share changes by", share, ""),
                           reasons.change("from a layer to the next that change grows by", slope, alone))]  # fmt: skip


def _resemblance(case: Case) -> Sequence[Part]:
    margins = {FLOW: float(np.log(case.options.flow_margin)), SHARE: case.options.share_margin}
    parts = {name: case.equivalence(name, margin) for name, margin in margins.items()}
    # equally little of nothing is no resemblance: dropout must have an effect first
    return [part if case.baselines_own.is_decided(name) else replace(part, verdict=UNDECIDED)
            for name, part in parts.items()]  # fmt: skip


def _resemblance_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    flow, share = parts
    ratio = f"gradient flow {case.missing(FLOW)}"
    if flow.effect is not None:
        effect, *ends = np.exp([flow.effect.effect.effect, flow.effect.effect.low, flow.effect.effect.high])
        over = reasons.over_steps(case.effects.step_range.steps)
        ratio = f"gradient flow is {effect:.3g} times dropout's{reasons.interval(*ends)}{over} ({flow.verdict})"
    both = reasons.change("saturation share differs by", share, f"saturation share {case.missing(SHARE)}")
    return [reasons.joined(ratio, both), *(
        f"dropout's own effect on {name.replace('_', ' ')} is undecided, so there is nothing to resemble"
        for name in (FLOW, SHARE) if not case.baselines_own.is_decided(name)
    )]  # fmt: skip


def _epochs(case: Case) -> Sequence[Part]:
    return (case.network(f"epochs_to_best:{case.scalar}", BELOW),)


def _epochs_reason(case: Case, parts: Sequence[Part]) -> Sequence[str]:
    if case.scalar is None:
        return ["no scalar of held-out data was logged, so epochs cannot be counted"]
    name = f"epochs_to_best:{case.scalar}"
    what, missing = f"evaluations to the best {case.scalar} differ by", f"{case.scalar!r} {case.missing(name)}"
    ended, runs = case.effects.noted(name, LAST)
    of = f"{ended} of {runs} runs" if runs > 1 else "the run"
    open_end = f"in {of} the best is the last evaluation, so that the difference may be greater or smaller than this"
    return [reasons.size(what, parts[0].effect, missing), open_end if ended else ""]


CLAIMS: Final = (
    Claim("a", "Weights become more Gaussian, and more alike across layers.",
          GAUSSIAN_RULE, _gaussian, _gaussian_reason),
    Claim("b", "Node correlation is not lower.",
          CORRELATION_RULE, _correlation, _correlation_reason),
    Claim("c", "More gradient flows.",
          FLOW_RULE, _flow, _flow_reason),
    Claim("d", "More net values lie in the saturation area, and more so in higher layers.",
          SATURATION_RULE, _saturation, _saturation_reason),
    Claim("e", "GAAF's effect on gradient flow and saturation resembles dropout's.",
          RESEMBLANCE_RULE, _resemblance, _resemblance_reason, of_gaaf=True),
    Claim("f", "GAAF needs fewer epochs than dropout.",
          EPOCHS_RULE, _epochs, _epochs_reason, of_gaaf=True),
)  # fmt: skip
"""In the order of the table."""
