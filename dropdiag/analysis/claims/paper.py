"""The claims of the paper. To add one: its function and an entry in `CLAIMS` here, and a row in docs/claims.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case, Claim, Judgement
from dropdiag.analysis.claims.effects import ABOVE, BELOW, Bounds
from dropdiag.analysis.claims.rules import BOTH, ONE_SIDE, UNDECIDED, WHOLE
from dropdiag.analysis.compare.values import LAST

KS, SHAPE, CORRELATION = "weight_ks_normal", "weight_shape_distance", "abs_correlation"
FLOW, SHARE = "gradient_flow", "saturation_share"


ONE_LAYER: Final = "there is one layer alone, and no higher one"

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
    "over the layers' order of execution is above 0. Undecided where that order was not recorded, where layers in "
    f"parallel branches share a rank in it, or where the runs differ in it. {BOTH} {ONE_SIDE} {WHOLE}"
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


def _gaussian(case: Case) -> Judgement:
    parts = normal, alike = case.layers(KS, BELOW), case.layers(SHAPE, BELOW)
    if normal.effect is None:
        return parts, [f"the weights' distribution {case.effects.missing(KS)}"]
    alone = "there are no two layers whose shapes could be compared"
    return parts, [reasons.joined(reasons.change("distance to the normal changes by", normal, ""),
                                  reasons.change("distance between the layers' shapes by", alike, alone))]  # fmt: skip


def _correlation(case: Case) -> Judgement:
    margin = case.options.correlation_margin
    # a lower |r| within the margin is no evidence against: contradicted is only what lies below 0 as a whole
    part = case.layers(CORRELATION, ABOVE, Bounds(-margin, 0.0))
    missing = f"node correlation {case.effects.missing(CORRELATION)}"
    within = f" (margin {margin:g})" if part.effect else ""
    return [part], [reasons.size("mean |r| changes by", part.effect, missing) + within]


def _flow(case: Case) -> Judgement:
    part = case.layers(FLOW, ABOVE)
    if part.effect is None:
        return [part], [f"gradient flow {case.effects.missing(FLOW)}"]
    factor = reasons.flow_factor(part.effect, "the baseline's", case.effects.step_range.steps)
    return [part], [factor + reasons.beside_published(part.effect, case.options.published_factor)]


def _saturation(case: Case) -> Judgement:
    share, slope = case.layers(SHARE, ABOVE), case.single(case.effects.slope(SHARE), ABOVE)
    if share.effect is None:
        return [share, slope], [f"saturation share {case.effects.missing(SHARE)}"]
    change = reasons.change("saturation share changes by", share, "")
    grows = f"more so in higher layers is undecided: {why}" if (why := case.effects.unordered(SHARE)) else ONE_LAYER
    if slope.effect is not None and np.isfinite(slope.effect.effect.effect):
        grows = reasons.change("from a layer to the next that change grows by", slope, "")
    return [share, slope], [reasons.joined(change, grows)]


def _resemblance(case: Case) -> Judgement:
    margins = {FLOW: float(np.log(case.options.flow_margin)), SHARE: case.options.share_margin}
    parts = {name: case.equivalence(name, margin) for name, margin in margins.items()}
    # equally little of nothing is no resemblance: dropout must have an effect first
    effectless = [name for name in parts if not case.baseline_has_effect(name)]
    parts |= {name: replace(parts[name], verdict=UNDECIDED) for name in effectless}
    flow, share = parts.values()
    ratio = f"gradient flow {case.effects.missing(FLOW)}"
    if flow.effect is not None:
        factor = reasons.flow_factor(flow.effect, "dropout's", case.effects.step_range.steps)
        ratio = f"{factor} ({flow.verdict})"
    both = reasons.change("saturation share differs by", share, f"saturation share {case.effects.missing(SHARE)}")
    nothing = [f"dropout's own effect on {name.replace('_', ' ')} is undecided, so there is nothing to resemble"
               for name in effectless]  # fmt: skip
    return [flow, share], [reasons.joined(ratio, both), *nothing]


def _epochs(case: Case) -> Judgement:
    name = f"epochs_to_best:{case.scalar}"
    part = case.single(case.effects.network(name), BELOW)
    if case.scalar is None:
        return [part], ["no scalar of held-out data was logged, so epochs cannot be counted"]
    what, missing = f"evaluations to the best {case.scalar} differ by", f"{case.scalar!r} {case.effects.missing(name)}"
    ended, runs = case.effects.noted(name, LAST)
    of = f"{ended} of {runs} runs" if runs > 1 else "the run"
    open_end = f"in {of} the best is the last evaluation, so that the difference may be greater or smaller than this"
    return [part], [reasons.size(what, part.effect, missing), open_end if ended else ""]


CLAIMS: Final = (
    Claim("a", "Weights become more Gaussian, and more alike across layers.", GAUSSIAN_RULE, _gaussian),
    Claim("b", "Node correlation is not lower.", CORRELATION_RULE, _correlation),
    Claim("c", "More gradient flows.", FLOW_RULE, _flow),
    Claim("d", "More net values lie in the saturation area, and more so in higher layers.",
          SATURATION_RULE, _saturation),
    Claim("e", "GAAF's effect on gradient flow and saturation resembles dropout's.",
          RESEMBLANCE_RULE, _resemblance, of_gaaf=True),
    Claim("f", "GAAF needs fewer epochs than dropout.", EPOCHS_RULE, _epochs, of_gaaf=True),
)  # fmt: skip
"""In the order of the table."""
