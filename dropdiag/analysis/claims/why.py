"""Claims on why dropout works, of which the paper's text has no measurement: they take active ones, and say which."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np

from dropdiag.analysis.claims import reasons
from dropdiag.analysis.claims.case import Case, Claim
from dropdiag.analysis.claims.early import early
from dropdiag.analysis.claims.effects import ABOVE, BELOW, ClaimEffect
from dropdiag.analysis.claims.explained import Explained
from dropdiag.analysis.claims.questions import Directional, Question
from dropdiag.analysis.claims.rules import ONE_SIDE, PARTS, WHOLE
from dropdiag.analysis.compare.active import BY_GAAF, CORRECTED, DIRECTION, KLS, NOISY_RISE
from dropdiag.analysis.compare.measures import FLOW_TERMS
from dropdiag.store.schema import LOG_RATIO, at, base_and_x

FLATNESS, RISE, EIGENVALUE = "relative_flatness", "loss_rise", at("hessian_eigenvalue", 1)
SLOPE, TOTAL, BEYOND = FLOW_TERMS["slope"], FLOW_TERMS["total"], "flow_slope_beyond"
INTERACTION, DEPENDENCE = "ablation_interaction", "ablation_dependence"
SQUARED: Final = f"{DEPENDENCE}_squared"
DEFINITIONS: Final = {"abs_correlation": "mean |r|", "multiple_correlation": "multiple correlation R²"}
"""What else is called co-adaptation."""

FLAT_RULE: Final = (
    "Flatter: the relative flatness (of which less is flatter) is below the baseline's, and so is the loss rise along "
    "filter-normalised directions, at one size. More robust: so is what noise of one size on the inputs adds to the "
    "loss. A rescaling of the weights that leaves the function as it is changes none of the three. Which size decides "
    "is said with the part: the measured one nearest to {rise_size:g}, of noise to {noise:g}. The largest eigenvalue "
    "of the Hessian, which rescaling does change, is shown and not judged. Curvature is not compared where GAAF is in "
    f"the network. {PARTS} {ONE_SIDE}"
)
ENSEMBLE_RULE: Final = (
    "The divergence KL of the geometric mean over masks, renormalised, to the weight-scaled output of the condition "
    "itself, less what the number of masks adds to it, is below {ensemble_margin:g} nats; a divergence cannot be "
    "negative, so that one bound makes it an equivalence. Contradicted where it is above. That to the arithmetic mean "
    "is shown beside it and not judged. Undecided where there is no dropout to average over. The two are equal exactly "
    f"only where one masked layer stands right before the softmax. {ONE_SIDE}"
)
MECHANISM_RULE: Final = (
    "Of the log ratio of gradient flow, as it is decomposed: the part of the slopes phi', from a layer up to the "
    "output, is above 0, and it is more than {slope_share:g} of the whole. Both are decided only where the whole "
    "itself is decidedly above 0: where no more gradient flows there is nothing to explain, and the claim is "
    f"undecided. {PARTS} {ONE_SIDE} {WHOLE}"
)
ABLATION_RULE: Final = (
    "Dependence on particular nodes is how far the interaction I of ablated groups that vary together is from that of "
    "groups drawn by lot, to either side: above it partners back each other up, below it each is of use only with the "
    "other. |I - by lot| is below the baseline's, and so is its square without what chance gives. Whether dropout "
    "prevents co-adaptation depends on the definition: I with its sign, the node correlation of (b) and the multiple "
    f"correlation are said beside it. {ONE_SIDE} {WHOLE}"
)
DIRECTION_RULE: Final = (
    "The variance of the gradient's direction over mini-batches is below the baseline's, averaged over what was "
    "measured in the first {early:g} of training, step 0 left out. The gradient is that of training: with masks on, of "
    "a network that has no dropout as it is. The error of the direction, to the mean gradient without masks, is shown "
    f"beside it and not judged. {ONE_SIDE}"
)


_OF_DIRECTION: Final = "{} of the gradient's direction, early, changes by"


class _Chosen(NamedTuple):
    """The member of a family that decides; without one, why."""

    measure: str
    size: str
    why: str


def _flat(case: Case) -> list[Question]:
    flatness = case.single("lower relative flatness", "relative flatness is", _network(case, FLATNESS), BELOW)
    rise, noisy = "loss rise with weights moved by", "loss rise with input noise of"
    return [
        replace(flatness, unit=_times(flatness), extra=_by_gaaf(case, FLATNESS)),
        _at_size(case, rise, _chosen(case, RISE, case.options.rise_size)),
        _at_size(case, noisy, _chosen(case, NOISY_RISE, case.options.noise)),
        replace(case.single("largest Hessian eigenvalue", "largest Hessian eigenvalue changes by",
                            _network(case, EIGENVALUE), BELOW), shown=True),
    ]  # fmt: skip


def _times(asked: Question) -> str:
    """Return what is said behind a number, of which a log ratio is shown as a factor."""
    return " times the baseline's" if asked.effect is not None and asked.effect.scale == LOG_RATIO else ""


def _network(case: Case, measure: str) -> ClaimEffect | str:
    """Return the effect on a number of the network; a text says why there is none."""
    called = base_and_x(measure)[0].replace("_", " ")
    return case.effects.network(measure) or f"{called} {case.effects.missing(measure)}"


def _chosen(case: Case, base: str, near: float) -> _Chosen:
    """Choose the member of a family that decides: by what was measured, and never by what came out."""
    known = [base_and_x(site.measure) for site in case.effects.sites if site.layer is None]
    sizes = sorted({x for name, x in known if name == base and x is not None and x > 0.0})
    if not sizes:
        return _Chosen("", "", "was not recorded on both sides")
    x = min(sizes, key=lambda x: abs(np.log(x / near)))
    return _Chosen(at(base, x), f" {x:g}", "")


def _at_size(case: Case, called: str, chosen: _Chosen) -> Directional:
    if chosen.why:
        bare = called.rpartition(" ")[0]  # without the word before the size
        return case.single(f"lower {bare}", "", f"{bare} {chosen.why}", BELOW)
    found = _network(case, chosen.measure)
    return case.single(f"lower {called}{chosen.size}", f"{called}{chosen.size} changes by", found, BELOW)


def _by_gaaf(case: Case, measure: str) -> bool:
    """Whether a number is missing for GAAF: what cannot be compared is then not missed."""
    rows = case.effects.measured
    return bool((rows.loc[rows["measure"] == measure, "note"] == BY_GAAF).any())


def _ensemble(case: Case) -> list[Question]:
    geometric, arithmetic = (_divergence(case, measure) for measure in KLS)
    exact = "the two are equal only where one masked layer stands right before the softmax"
    return [
        replace(geometric, beside=f"{geometric.beside}; {exact}" if geometric.beside else ""),
        replace(arithmetic, shown=True),
    ]


def _divergence(case: Case, measure: str) -> Directional:
    """Ask how far the output is from a mean over masks, without what the number of masks adds to that."""
    whose, name = case.effects.condition, measure.rpartition("_")[2]
    whole, found = (case.effects.own_of_network(one, whose) for one in (measure, f"{measure}{CORRECTED}"))
    phrase = f"KL of the {name} mean over masks to the weight-scaled output, corrected for the number of masks, is"
    asked = case.single(f"{name} mean", phrase, f"KL of the {name} mean over masks {found}"
                        if isinstance(found, str) else found, BELOW, bound=case.options.ensemble_margin)  # fmt: skip
    if isinstance(whole, str) or isinstance(found, str):
        return replace(asked, unit=" nats")
    off = whole.effect.effect - found.effect.effect
    return replace(asked, unit=" nats", beside=f"the {name} mean's KL is {whole.effect.effect:.3g} nats as measured, "
                   f"{off:.2g} of them for the finite number of masks")  # fmt: skip


def _mechanism(case: Case) -> list[Question]:
    effects, share = case.effects, case.options.slope_share
    effects.derive(BEYOND, (SLOPE, TOTAL), lambda slope, total: _beyond(slope, total, share))
    whole, of_layers = effects.average(TOTAL), effects.layers(TOTAL)
    lacking = "the gradient flow is not decidedly larger, so there is nothing that the slope could explain"
    parts = []
    for name, phrase, measure in (
        ("phi' gives more", "the part of phi' is", SLOPE),
        (f"phi' gives more than {share:g} of it", f"log ratio of phi' less {share:g} of the whole is", BEYOND),
    ):
        asked = case.over_layers(name, phrase, measure, ABOVE, what="decomposition of the gradient flow")
        told = {one: getattr(asked, one) for one in ("name", "phrase", "effect", "why_not", "layers", "side")}
        parts.append(Explained(**told, subject=whole, subjects=of_layers, lacking=lacking))
    missing = f"decomposition of the gradient flow {effects.missing(SLOPE)}" if parts[0].effect is None else ""
    return [
        replace(parts[0], unit=" times the baseline's", beside=_terms(case)),
        replace(parts[1], why_not=missing) if missing else parts[1],
    ]


def _beyond(slope: float, total: float, share: float) -> float:
    return float(np.log(slope) - share * np.log(total)) if slope > 0.0 and total > 0.0 else float("nan")


def _terms(case: Case) -> str:
    """Say what all terms of the decomposition are: factors, geometric means over layers."""
    found = {name: case.effects.average(measure) for name, measure in FLOW_TERMS.items()}
    factors = {name: float(np.exp(one.effect.effect)) for name, one in found.items() if one is not None}
    whole = factors.pop("total", None)
    made = ", ".join(f"{name} ×{x:.3g}" for name, x in factors.items())
    return "" if whole is None else f"over layers the gradient flow's factor of {whole:.3g} is made of {made}"


def _ablation(case: Case) -> list[Question]:
    asked = case.over_layers("less dependence on particular nodes", "|I - by lot| of ablated nodes changes by",
                             DEPENDENCE, BELOW, what="interaction of ablated nodes")  # fmt: skip
    corrected = case.effects.average(SQUARED)
    if asked.effect is None:
        return [asked]
    if corrected is None:
        why = "interaction of ablated nodes is not judged: the runs do not say how much that of random groups varies"
        return [replace(asked, effect=None, layers=(), why_not=why)]
    remark = f" (its square without what chance gives {reasons.number(corrected)})"
    return [replace(asked, also=(corrected,), remark=remark, beside="; ".join([*_signs(case), *_definitions(case)]))]


def _signs(case: Case) -> list[str]:
    """Say what the interaction is in each condition, with its sign and beside that of groups drawn by lot."""
    sizes, signs = [], {}
    for name in (case.effects.condition, case.effects.baseline):
        of_runs = [one for _, values in case.effects.sites_of(INTERACTION) for one in values.values()]
        pairs = np.array([(one.value, one.null) for one in of_runs if one.condition == name]).reshape(-1, 2)
        pairs = pairs[np.isfinite(pairs).all(axis=1)]
        if len(pairs):
            observed, null = pairs.mean(axis=0)
            sizes.append(f"{observed:+.3g} in {name!r} (by lot {null:+.3g})")
            signs[name] = "back each other up" if observed > null else "need each other"
    said = [f"in {name!r} partners {means}" for name, means in signs.items()]
    if len(signs) == 2 and len({*signs.values()}) == 1:
        said = [f"in both partners {next(iter(signs.values()))}"]
    return [f"I is {' and '.join(sizes)}: {', '.join(said)} more than groups drawn by lot"] if sizes else []


def _definitions(case: Case) -> list[str]:
    """Say what the other definitions of co-adaptation say."""
    known = {called: case.effects.average(name) for name, called in DEFINITIONS.items()}
    said = [f"{called} changes by {reasons.number(one)}" for called, one in known.items() if one is not None]
    return [f"by other definitions of co-adaptation {' and '.join(said)}"] if said else []


def _direction(case: Case) -> list[Question]:
    variance, error = (early(case.effects, name, case.options.early) for name in DIRECTION)
    return [
        case.single("less variance of direction", _OF_DIRECTION.format("variance"), variance, BELOW),
        replace(case.single("error of direction", _OF_DIRECTION.format("error"), error, BELOW), shown=True),
    ]


WHY: Final = (
    Claim("g", "The minimum is flatter, and the network more robust to noise.", FLAT_RULE, _flat,
          record='rec.measure("flatness"), rec.measure("robustness")'),
    Claim("h", "Weight scaling gives the geometric mean of the masked networks.", ENSEMBLE_RULE, _ensemble,
          record='rec.measure("ensemble")'),
    Claim("i", "The extra gradient is due to phi' under net variance.", MECHANISM_RULE, _mechanism,
          record='probes="paper"'),
    Claim("j", "Nodes co-adapt less: they depend less on particular other nodes.", ABLATION_RULE, _ablation,
          record='rec.measure("ablation")'),
    Claim("k", "The gradient's direction is more consistent early in training.", DIRECTION_RULE, _direction,
          record='rec.measure("gradient_direction") early'),
)  # fmt: skip
"""In the order of the table."""
