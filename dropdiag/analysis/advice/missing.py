"""What was not measured: what it would tell, and the call that records it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dropdiag.analysis.advice.case import MASKED, Case
from dropdiag.analysis.advice.convergence import FEWEST, Convergence
from dropdiag.analysis.advice.finding import NotMeasured, listed
from dropdiag.analysis.advice.layers import FLOW

OF_LAYERS: Final = {
    "regulariser": NotMeasured(
        "the regulariser of each dropout", "which site regularises, and by how much",
        'rec.measure("ensemble", x, targets=y) at the end of runs with a rate above 0, on one batch, the same in all',
    ),
    FLOW: NotMeasured(
        "the gradient flow", "what dropout does to the gradient of each layer",
        'Recorder(model, path), whose default probes="paper" records it',
    ),
    "dropout_noise_to_signal": NotMeasured(
        "the noise of each dropout's masks", "where masks vary nodes more than the data do",
        'Recorder(model, path), whose default probes="paper" records it for dropouts with a rate above 0',
    ),
    "net_variance_mean": NotMeasured(
        "the net variance", "how far masks move the net values of each layer",
        "rec.net_variance(x) at the end of runs with a rate above 0, on one batch, the same in all",
    ),
    "ablation_dependence": NotMeasured(
        "what ablating nodes does", "whether nodes depend on their partners, which dropout is said to prevent",
        'rec.measure("ablation", (x, y)) at the end of training',
    ),
    "dead_share": NotMeasured(
        "dead nodes", "which layers have nodes that no gradient reaches",
        'Recorder(model, path, probes=["paper", "dead_nodes"])',
    ),
    "saturation_share": NotMeasured(
        "saturation", "which share of net values passes hardly any gradient on",
        "with rec.evaluation(): model.eval(); model(x)",
    ),
}  # fmt: skip
"""Measure of layers -> what is missing where no run has it."""


def missing(case: Case, convergence: Convergence | None) -> list[NotMeasured]:
    """Return what the runs do not hold, the most telling first."""
    return [*_outcome(case), *_convergence(case, convergence), *_gap(case), *_layers(case), *_sites(case), *_gaaf(case)]


def _outcome(case: Case) -> Iterator[NotMeasured]:
    log = "with rec.evaluation({!r}): model.eval(); rec.log(accuracy=..., loss=...)"
    if case.outcome is None:
        yield NotMeasured("a score on held-out data", "which rate is best", log.format("validation"))
    elif case.outcome.same:
        data = "test" if case.outcome.chosen.data != "test" else "validation"
        tells = "what the chosen rate reaches on data that did not choose it"
        yield NotMeasured(f"{case.outcome.chosen.base} on {data} data", tells, log.format(data))


def _convergence(case: Case, found: Convergence | None) -> Iterator[NotMeasured]:
    unknown = found.unknown if found is not None else []
    if case.outcome is not None and unknown:
        where = "" if len(unknown) == len(case.conditions) else f" at {listed([case.at(name) for name in unknown])}"
        yield NotMeasured(
            f"whether training had converged{where}", "whether a verdict is one on trained networks",
            f"{case.outcome.chosen.base} once an epoch: {FEWEST} evaluations or more in the last third of training",
        )  # fmt: skip


def _gap(case: Case) -> Iterator[NotMeasured]:
    call = "with rec.evaluation('training data'): model.eval(); rec.log(loss=...) on some training data"
    if not len(case.gaps):
        yield NotMeasured("the gap between training and held-out data", "whether there is anything to regularise", call)
    elif case.gap_on == MASKED:
        yield NotMeasured("the training loss without masks", "the gap itself, in place of a number beside it", call)


def _layers(case: Case) -> Iterator[NotMeasured]:
    held = set(case.layers.loc[case.layers["value"].notna(), "measure"])
    for measure, one in OF_LAYERS.items():
        # a network without dropouts has no masks that could be measured
        if measure not in held and (case.dropouts or measure in (FLOW, "dead_share", "saturation_share")):
            yield one


def _sites(case: Case) -> Iterator[NotMeasured]:
    if case.axis and len(case.dropouts) > 1:
        names = case.dropouts[:8]
        rate = min((dose for dose in case.doses.values() if dose > 0.0), default=0.5)
        one = ", ".join(f'"dropout:{name}": {rate if name == names[0] else 0:g}' for name in names)
        yield NotMeasured(
            "single sites", "which of the dropouts the effect is of",
            f'dd.sweep("train.py:train", over=[{{{one}}}, ...], out=...), a dict a site, each with another one above 0',
        )  # fmt: skip


def _gaaf(case: Case) -> Iterator[NotMeasured]:
    if not case.gaafs:
        yield NotMeasured(
            "GAAF", "whether it does what dropout does, at equal budget",
            "runs of a condition 'GAAF', with dd.gaaf.replace(model, {nn.ReLU: dd.GAAF('relu')})",
        )  # fmt: skip
