"""The claims of the paper. To add one: its function and an entry in `CLAIMS`, and a row in docs/claims.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case, Claim
from dropdiag.analysis.claims.dose import DOSE
from dropdiag.analysis.claims.effects import ABOVE, BELOW, ClaimEffect
from dropdiag.analysis.claims.questions import Directional, Question
from dropdiag.analysis.claims.rules import ONE_SIDE, PARTS, WHOLE
from dropdiag.analysis.claims.why import WHY
from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.analysis.compare.resampling import Floats
from dropdiag.analysis.compare.values import LAST

KS, SHAPE, SCALE, MOVED = "weight_ks_normal", "weight_shape_distance", "weight_scale_distance", "weight_w1_from_start"
CORRELATION, SQUARED, WIDTH, VARIANCE = (
    "abs_correlation", "correlation_squared", "correlation_sd", "correlation_variance"
)  # fmt: skip
FLOW, SHARE, EXCESS, FAR = "gradient_flow", "saturation_share", "excess_net_variance", "far_gradient_probability"


NO_SCALAR: Final = "no scalar of held-out data was logged, so epochs and accuracy cannot be told"
ONE_LAYER: Final = "there is one layer alone, and no higher one"

GAUSSIAN_RULE: Final = (
    "More Gaussian: the Kolmogorov-Smirnov distance of the weights to the normal of their mean and standard deviation "
    "is smaller. More alike in shape: so is the mean W1 between a layer's standardised weights and those of each other "
    "layer. More alike in scale: so is the mean |ln| of the ratio of a layer's standard deviation to those of the "
    "others. Top layer trained more: the distance of the weights from those at step 0 (W1, in standard deviations at "
    f"step 0) grows over the layers' order of execution, in both conditions. {PARTS} {ONE_SIDE} {WHOLE}"
)
CORRELATION_RULE: Final = (
    "Higher: the mean |r| is above the baseline's. Wider: so is the standard deviation of r over pairs. Where the runs "
    "rest on unlike numbers of independent samples, r^2 and its variance, corrected for that number, must agree; "
    "beyond a factor of 2 nothing is compared. Read otherwise, and not counted: not lower by more than "
    f"{{correlation_margin:g}} (non-inferiority). {PARTS} {ONE_SIDE} {WHOLE}"
)
FLOW_RULE: Final = (
    "The log ratio of gradient flow is above 0. The factor is then set beside the published {published_factor:g}, "
    f"which does not enter the verdict. {ONE_SIDE} {WHOLE}"
)
SATURATION_RULE: Final = (
    "More: the difference of the saturation share is above 0. More so in higher layers: the slope of that difference "
    "over the layers' order of execution is above 0; not judged where that order was not recorded, where layers in "
    "parallel branches share a rank in it, or where the runs differ in it. Variance transferred upward: the measured "
    "net variance of the condition exceeds the closed form (of the masks right before a layer) above the first such "
    "layer. No gradient far out: the gradient probability of the outermost tenth of its saturated net values is below "
    f"{{far_probability:g}}. {PARTS} {ONE_SIDE} {WHOLE}"
)
RESEMBLANCE_RULE: Final = (
    "Resembles: GAAF's gradient flow is within a factor of {flow_margin:g} of dropout's, and its saturation share "
    "within {share_margin:g}. Supported where every layer is decidedly within (equivalence: both bounds are excluded), "
    "contradicted once a layer is decidedly outside (Bonferroni over layers). Undecided where dropout itself has no "
    f"effect that could be resembled. {PARTS} {ONE_SIDE}"
)
EPOCHS_RULE: Final = (
    "Fewer epochs: the difference of the epochs (evaluations) up to the best held-out value, GAAF's less dropout's, is "
    "below 0. More accurate: the best held-out value of GAAF is better than the baseline's, and so is that of dropout. "
    "Where no condition plays dropout or GAAF, the accuracy of each condition alone is judged. "
    f"{PARTS} {ONE_SIDE}"
)


def _gaussian(case: Case) -> list[Question]:
    missing = "the weights' distribution"
    alone = "there are no two layers whose weights could be compared"
    return [
        case.over_layers("more Gaussian", "distance to the normal changes by", KS, BELOW, what=missing),
        case.over_layers(
            "more alike in shape", "distance between the layers' shapes changes by", SHAPE, BELOW, alone=alone
        ),
        case.over_layers(
            "more alike in scale", "|ln| of the ratio of the layers' widths changes by", SCALE, BELOW, alone=alone
        ),
        _top_layer(case),
    ]


def _top_layer(case: Case) -> Directional:
    """Ask whether weights move more in higher layers, in both networks: by the one of which it is less clear."""
    name, what = "top layer trained more", "distance of the weights from step 0"
    found = [case.effects.own(MOVED, condition, _slopes, f"{MOVED}_slope", least=2)
             for condition in (case.effects.condition, case.effects.baseline)]  # fmt: skip
    known = [one for one in found if isinstance(one, ClaimEffect)]
    if len(known) < len(found):
        why = next(one for one in found if isinstance(one, str))
        return replace(case.single(name, "", f"{what} {why}", ABOVE), extra=True)
    first, second = sorted(known, key=lambda one: one.effect.effect)
    # both must rise, and one that falls is enough against it
    phrase = f"{what} grows from a layer to the next, least in {first.own!r}, by"
    return replace(case.single(name, phrase, first, ABOVE), also=(second,), each=True, extra=True)


def _correlation(case: Case) -> list[Question]:
    margin = case.options.correlation_margin
    higher = _of_samples(case, "higher", "mean |r| changes by", CORRELATION, SQUARED)
    wider = _of_samples(case, "wider", "standard deviation of r changes by", WIDTH, VARIANCE)
    if higher.effect is None:
        return [higher, wider]
    name = f"not lower by more than {margin:g}"
    if higher.also:  # unlike numbers of samples alone may make |r| differ by more than the margin
        return [replace(higher, remark=f"{higher.remark}, so that {name!r} is not judged"), wider]
    return [higher, replace(higher, name=name, bound=-margin, reading=True), wider]


def _of_samples(case: Case, name: str, phrase: str, measure: str, corrected: str) -> Directional:
    """Ask whether a correlation is higher; by the corrected one as well, where unlike numbers of samples are behind."""
    asked = case.over_layers(name, phrase, measure, ABOVE, what="node correlation")
    if asked.effect is None or not case.effects.unlike_items(measure):
        return asked
    beside = case.effects.average(corrected)
    if beside is None:
        why = "the runs rest on unlike numbers of samples and do not say how many of them are independent"
        return replace(asked, effect=None, layers=(), why_not=f"node correlation is not judged: {why}")
    remark = f" (corrected for unlike numbers of samples {reasons.number(beside)})"
    # a layer has no other measure to confirm it, and unlike numbers alone would make |r| of each of them differ
    return replace(asked, also=(beside,), layers=case.effects.layers(corrected), remark=remark)


def _flow(case: Case) -> list[Question]:
    asked = case.over_layers("more gradient", "gradient flow is", FLOW, ABOVE,
                             what="gradient flow")  # fmt: skip
    published = reasons.beside_published(asked.effect, case.options.published_factor)
    return [replace(asked, unit=" times the baseline's", remark=published + _over(case))]


def _over(case: Case) -> str:
    steps = case.effects.step_range.steps
    return f" over the first {steps:,} training steps" if steps else ""


def _saturation(case: Case) -> list[Question]:
    share = case.over_layers("more saturated", "saturation share changes by", SHARE, ABOVE, what="saturation share")
    why = case.effects.unordered(SHARE)
    order = (
        f"more so in higher layers is undecided: {why}" if why else share.why_not if share.effect is None else ONE_LAYER
    )
    slope = case.single("more so in higher layers", "from a layer to the next the change of saturation share grows by",
                        case.effects.slope(SHARE) or order, ABOVE)  # fmt: skip
    return [share, slope, *(replace(one, extra=True) for one in _under_masks(case))]


def _under_masks(case: Case) -> list[Directional]:
    """Ask what the condition's own net variance says: see `Recorder.net_variance`."""
    whose = case.effects.condition
    excess = case.effects.own(EXCESS, whose, _above_the_first, EXCESS, least=2)
    far = case.effects.own(FAR, whose, lambda x, _: np.asarray(x.mean(axis=1)), FAR)
    return [
        case.single("variance transferred upward", "net variance beyond the closed form, above the first layer, is",
                    f"net variance {excess}" if isinstance(excess, str) else excess, ABOVE),
        case.single("no gradient far out", "gradient probability of the outermost saturated net values is",
                    f"gradient probability {far}" if isinstance(far, str) else far, BELOW,
                    bound=case.options.far_probability),
    ]  # fmt: skip


def _slopes(values: Floats, place: Floats) -> Floats:
    return np.asarray(values @ place / (place @ place))


def _above_the_first(values: Floats, _: Floats) -> Floats:
    # right behind the first dropout there is nothing below that could send variance up
    return np.asarray(values[:, 1:].mean(axis=1))


def _resemblance(case: Case) -> list[Question]:
    margins = {FLOW: float(np.log(case.options.flow_margin)), SHARE: case.options.share_margin}
    flow = case.equivalence("gradient flow", "gradient flow is", FLOW, margins[FLOW])
    share = case.equivalence("saturation", "saturation share differs by", SHARE, margins[SHARE])
    return [replace(flow, unit=" times dropout's", remark=_over(case)), share]


def _epochs(case: Case) -> list[Question]:
    name = f"epochs_to_best:{case.scalar}"
    missing = NO_SCALAR if case.scalar is None else f"{case.scalar!r} {case.effects.missing(name)}"
    ended, runs = case.effects.noted(name, LAST)
    of = f"{ended} of {runs} runs" if runs > 1 else "the run"
    open_end = f", in {of} the best is the last evaluation, so that the difference may be greater or smaller than this"
    fewer = case.single("fewer epochs", f"evaluations to the best {case.scalar} differ by",
                        case.effects.network(name) or missing, BELOW)  # fmt: skip
    who = (case.effects.condition, case.effects.baseline)
    return [replace(fewer, remark=open_end if ended else ""), *(_accuracy(case, one) for one in who)]


def _accuracy_alone(case: Case) -> list[Question]:
    return [_accuracy(case, case.effects.condition)]


def _accuracy(case: Case, condition: str) -> Directional:
    beside, name = case.beside_the_baseline_of_all(condition), f"best:{case.scalar}"
    effect = beside.network(name) if condition != beside.baseline else None
    side = BELOW if case.scalar and less_is_better(case.scalar) else ABOVE
    itself = f"{condition!r} is the baseline itself"
    why = (
        NO_SCALAR if case.scalar is None else itself if condition == beside.baseline
        else f"{case.scalar!r} {beside.missing(name)}"
    )  # fmt: skip
    phrase = f"best {case.scalar} of {condition!r} beside {beside.baseline!r} changes by"
    return case.single(f"better {case.scalar or 'accuracy'} of {condition}", phrase, effect or why, side)


CLAIMS: Final = (
    Claim("a", "Weights become more Gaussian, and more alike across layers.", GAUSSIAN_RULE, _gaussian),
    Claim("b", "Node correlation is higher.", CORRELATION_RULE, _correlation),
    Claim("c", "More gradient flows.", FLOW_RULE, _flow),
    Claim("d", "More net values lie in the saturation area, and more so in higher layers.",
          SATURATION_RULE, _saturation),
    Claim("e", "GAAF's effect on gradient flow and saturation resembles dropout's.",
          RESEMBLANCE_RULE, _resemblance, of_gaaf=True),
    Claim("f", "GAAF needs fewer epochs than dropout, and both raise the accuracy.",
          EPOCHS_RULE, _epochs, of_gaaf=True, alone=_accuracy_alone),
    *WHY,
    DOSE,
)  # fmt: skip
"""In the order of the table."""
