"""What active measurements recorded (`Recorder.measure`), as tables: of the scalars that the page has read already."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from dropdiag.analysis import masks_by_weights as four_cells
from dropdiag.errors import DropdiagError
from dropdiag.formatting import some, words
from dropdiag.report.cells import SITE, Column, Table, effect, integers, numbers, table, texts
from dropdiag.report.diagnostics import SEEDS, Material, Section
from dropdiag.report.measured_numbers import GROUP, Numbers
from dropdiag.store.schema import EVAL, at, base_and_x

OUTPUTS: Final = {"weight_scaled": "weight scaling", "geometric": "geometric mean", "arithmetic": "arithmetic mean"}
TOGETHER: Final = (
    "Together is the product of weights and masks: the condition as it trains (masks on) beside {} as it trains (off)."
)
SCORES: Final = {"nll": "NLL, nats", "accuracy": "Accuracy", "calibration_error": "Calibration error"}
DIRECTIONS: Final = {
    "direction_variance": ("Variance", ".3f"), "direction_error": ("Error", ".3f"),
    "noise_scale": ("Noise scale", ".0f"),
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One measurement: its tables, figures, and what is missing."""

    section: Section
    tables: list[Table] = field(default_factory=list)
    figure: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def measured(given: Material) -> list[Measured]:
    """Return the measurements that any run holds, each with what it found at the last step of each run."""
    found = []
    for section, make, draw in MAKERS:
        tables = [one for one in make(Numbers(given, section.name)) if one.rows]
        if tables:
            figure = draw(given) if draw is not None else {}
            found.append(Measured(section, tables, figure, _missing(given, section.name)))
    return found


def _masks_by_weights(own: Numbers) -> Iterator[Table]:
    """Effects beside the baseline; the cells alone where nothing is compared."""
    given = own.given
    rows = own.layers(four_cells.OFF, four_cells.ON).rename(columns={four_cells.OFF: "off", four_cells.ON: "on"})
    others = [name for name in given.runs.conditions if name != given.baseline]
    if given.baseline is not None and others and len(rows):
        found = four_cells.effects(given.runs, rows, given.baseline, others)
        yield _factors(found, given.baseline)
    columns = [*SITE, numbers("Masks off", "off", ".2e"), numbers("Masks on", "on", ".2e"), SEEDS]
    yield table(
        "Gradient flow of the same batch, mean (sd over seeds)", own.over_runs(rows, GROUP, ["off", "on"]), columns
    )


def _factors(found: pd.DataFrame, baseline: str) -> Table:
    found = found.rename(columns={"effect": "kind"}).rename(columns={"value": "effect"})
    records = []
    for key, part in found.groupby(GROUP, sort=False):
        by = {str(row["kind"]): row for row in part.to_dict("records")}
        runs = int(part["runs"].iloc[0])
        records.append({**dict(zip(GROUP, key, strict=True)), "by": by, "runs": runs})

    def cell(kind: str) -> Column:
        return kind.capitalize(), lambda record: effect(record["by"].get(kind, {}), ratio=True)

    columns = [*SITE, *map(cell, four_cells.EFFECTS), integers("Runs of both", "runs")]
    caption = f"What weights and masks change, beside {baseline}: factors, with t intervals over seeds"
    return table(caption, records, columns, TOGETHER.format(baseline))


def _ensemble(own: Numbers) -> Iterator[Table]:
    """Weight scaling beside the means over masks, and what masks add to the loss."""
    parts = pd.concat([_of_output(own, output).assign(output=called) for output, called in OUTPUTS.items()])
    records = own.over_runs(parts, ["condition", "output"], ["kl", "bias", *SCORES, "information"], ["masks"])
    columns = [
        texts("Condition", "condition"), texts("Output", "output"), numbers("KL to weight scaling, nats", "kl", ".3g"),
        numbers("Taken off it for few masks", "bias", ".2g"),
        *(numbers(head, score, ".4g") for score, head in SCORES.items()),
        numbers("Mutual information, nats", "information", ".3g"), integers("Masks", "masks"), SEEDS,
    ]  # fmt: skip
    yield table("The output without masks beside the means over masks, mean (sd over seeds)", records, columns)
    records = own.over_runs(own.last("regulariser"), GROUP, ["regulariser"])
    for record in records:
        record["dropout"] = record["layer"] or "all together"
    added = numbers("R, loss units", "regulariser", ".3g")
    columns = [texts("Condition", "condition"), texts("Dropout", "dropout"), added, SEEDS]
    yield table("What masks add to the loss, mean (sd over seeds)", records, columns)


def _of_output(own: Numbers, output: str) -> pd.DataFrame:
    """Scores of one of the outputs of each run; of a mean over masks also how far it is from weight scaling."""
    kl = f"ensemble_kl_{output}"
    names = {f"{kl}_bias": "bias", "ensemble_masks": "masks", **{f"{score}_{output}": score for score in SCORES}}
    if output == "arithmetic":
        names["mutual_information"] = "information"
    frame = own.network(kl, *names).rename(columns=names)
    frame = frame.assign(kl=frame[kl] - frame["bias"])
    return frame.reindex(columns=[*GROUP, "run", "kl", "bias", *SCORES, "information", "masks"])


def _by_number(own: Numbers, names: Iterable[str], caption: str) -> Table:
    """Rows of numbers of the network, a number after another, the conditions under each other."""
    records = []
    for name in names:
        known = own.given.described(name)
        called = {"number": _called(name, words(known.label)), "unit": "" if known.unit == "1" else known.unit}
        rows = own.over_runs(own.network(name).rename(columns={name: "value"}), ["condition"], ["value"])
        records += [{**row, **called} for row in rows]
    columns = [texts("Number", "number"), texts("Condition", "condition"), numbers("Mean", "value", ".3g"),
               texts("Unit", "unit"), SEEDS]  # fmt: skip
    return table(f"{caption}, mean (sd over seeds)", records, columns)


def _called(name: str, label: str) -> str:
    base, x = base_and_x(name)
    if base != "hessian_eigenvalue" or x is None:
        return label
    return "largest eigenvalue of the Hessian" if x == 1 else f"eigenvalue {x:g} of the Hessian"


def _flatness(own: Numbers) -> Iterator[Table]:
    names = ["relative_flatness"]
    for base in ("loss_rise", "hessian_eigenvalue"):
        names += [at(base, x) for x in own.members(base)]
    names += ["hessian_trace", *(at("sam_sharpness", x) for x in own.members("sam_sharpness"))]
    yield _by_number(own, names, "Flatness without masks")
    records = own.over_runs(own.layers("relative_flatness"), GROUP, ["relative_flatness"])
    columns = [*SITE, numbers("Relative flatness, loss units", "relative_flatness", ".3g"), SEEDS]
    yield table("Relative flatness by layer, mean (sd over seeds)", records, columns)


def _robustness(own: Numbers) -> Iterator[Table]:
    records = []
    clean = at("noisy_loss", 0.0)
    for x in own.members("noisy_loss"):
        names = {at("noisy_loss", x): "loss", at("noisy_accuracy", x): "accuracy"}
        frame = own.network(*dict.fromkeys([*names, clean]))
        frame = frame.assign(rise=frame[at("noisy_loss", x)] - frame[clean] if x else np.nan).rename(columns=names)
        records += [{**row, "noise": x} for row in own.over_runs(frame, ["condition"], ["loss", "rise", "accuracy"])]
    columns = [
        numbers("Noise, sd of the inputs", "noise", ".3g"), texts("Condition", "condition"),
        numbers("Loss", "loss", ".4g"), numbers("Added by noise", "rise", ".3g"),
        numbers("Accuracy", "accuracy", ".4g"), SEEDS,
    ]  # fmt: skip
    yield table("Loss and accuracy under noise on the inputs, mean (sd over seeds)", records, columns)


def _ablation(own: Numbers) -> Iterator[Table]:
    name = "ablation_interaction"
    names = {name: "interaction", f"{name}_null": "lot"}
    frame = own.layers(*names).rename(columns=names)
    frame = frame.assign(apart=(frame["interaction"] - frame["lot"]).abs())
    beside = own.last("multiple_correlation", phase=EVAL).rename(columns={"multiple_correlation": "multiple"})
    for other, column in ((_correlations(own.given), "r"), (beside, "multiple")):
        frame = frame.merge(other[[*GROUP, "run", column]], on=[*GROUP, "run"], how="left")
    heads = {"interaction": "I", "lot": "I by lot", "apart": "|I − by lot|", "r": "Mean |r|", "multiple": "Multiple R²"}
    records = own.over_runs(frame, GROUP, list(heads))
    columns = [*SITE, *(numbers(head, name) for name, head in heads.items()), SEEDS]
    yield table("Three definitions of co-adaptation, mean (sd over seeds)", records, columns)
    yield _half_ablated(own)


def _half_ablated(own: Numbers) -> Table:
    """Loss and accuracy with no node, and with about half of them ablated: the middle of the curve."""
    half = min(own.members("ablated_loss"), key=lambda x: abs(x - 0.5), default=0.5)
    columns, names = [], {}
    for share, told in ((0.0, "none ablated"), (half, f"{100 * half:g} % ablated")):
        for score in ("loss", "accuracy"):
            name = f"{score}_{share:g}"
            names[at(f"ablated_{score}", share)] = name
            columns.append(numbers(f"{score.capitalize()}, {told}", name, ".4g"))
    records = own.over_runs(own.layers(*names).rename(columns=names), GROUP, list(names.values()))
    return table(
        "What the network is without nodes of a layer, mean (sd over seeds)", records, [*SITE, *columns, SEEDS]
    )


def _correlations(given: Material) -> pd.DataFrame:
    """Mean |r| of each run and layer at its last evaluation."""
    try:
        made = given.distributions.of("node_correlation").table
    except DropdiagError:  # its own section says why there is none
        return pd.DataFrame(columns=[*GROUP, "run", "r"])
    return made.rename(columns={"mean_abs_r": "r"})


def _gradient_direction(own: Numbers) -> Iterator[Table]:
    """Early and late, with masks on and off."""
    records: list[dict[Any, Any]] = []
    steps: set[float] = set()
    for masks in ("on", "off"):
        late = {f"gradient_{name}_masks_{masks}": f"{name} late" for name in DIRECTIONS}
        frame = own.network(*late).rename(columns=late)
        for name, column in late.items():
            known, when = own.early(name)
            steps |= when
            frame = frame.assign(**{column.replace("late", "early"): frame["run"].map(known).astype("float64")})
        values = [f"{name} {when}" for name in DIRECTIONS for when in ("early", "late")]
        records += [{**row, "masks": masks} for row in own.over_runs(frame, ["condition"], values)]
    columns = [numbers(f"{head}, {when}", f"{name} {when}", digits)
               for name, (head, digits) in DIRECTIONS.items() for when in ("early", "late")]  # fmt: skip
    columns = [texts("Condition", "condition"), texts("Masks", "masks"), *columns, SEEDS]
    yield table("Do mini-batches agree on the direction? Mean (sd over seeds)", records, columns, _when(steps))


def _when(steps: set[float]) -> str:
    known = some([f"{step:,.0f}" for step in sorted(steps)], 6)
    told = f"at step{'' if len(steps) == 1 else 's'} {known}" if steps else "where nothing was measured"
    return f"Early: mean over the first tenth of training without step 0, {told}. Late: the last measurement."


def _flows_over_training(given: Material) -> dict[str, Any]:
    tracks = {"masks off": four_cells.OFF, "masks on": four_cells.ON}
    made = {f"gradient flow, {called}": given.series(track, name) for called, name in tracks.items()
            if (track := given.scalars.tracks.get((name, four_cells.PHASE))) is not None}  # fmt: skip
    figure = given.packed({called: one for called, one in made.items() if one is not None})
    return {"measures": figure} if figure else {}


def _direction_over_training(given: Material) -> dict[str, Any]:
    curves = []
    for name in ("direction_variance_masks_on", "direction_variance_masks_off"):
        track = given.scalars.tracks.get((f"gradient_{name}", "gradient_direction"))
        made = None if track is None else given.series(track, f"gradient_{name}")
        if made is not None and len(made.steps) > 1:
            title = name.replace("direction_variance_masks", "variance of the direction, masks").replace("_", " ")
            curves.append({"quantity": title, "title": title, **made.packed(given.blob)})
    return {"curves": curves} if curves else {}


def _missing(given: Material, phase: str) -> list[str]:
    """Say what a measurement has not, of which conditions, and why."""
    told: dict[tuple[str, str], dict[str, None]] = {}
    for run in given.runs:
        for one in run.meta.get("missing") or ():
            if one["phase"] == phase:
                names = [name if layer is None else f"{name} of {layer}" for name, layer in one["of"]]
                told.setdefault((str(one["why"]), some(names, 4)), {})[run.condition] = None
    return [f"{', '.join(conditions)}: {names} missing: {why}." for (why, names), conditions in told.items()]


_Maker: TypeAlias = Callable[[Numbers], Iterator[Table]]
_Drawer: TypeAlias = Callable[[Material], dict[str, Any]]
_WEIGHTS = Section("masks_by_weights", "The masks, or the weights that they led to", "node")
MAKERS: Final[Sequence[tuple[Section, _Maker, _Drawer | None]]] = (
    (_WEIGHTS, _masks_by_weights, _flows_over_training),
    (Section("gradient_direction", "Direction of the gradient"), _gradient_direction, _direction_over_training),
    (Section("ensemble", "The mean over masks"), _ensemble, None),
    (Section("flatness", "Flatness"), _flatness, None),
    (Section("robustness", "Robustness to noise"), _robustness, None),
    (Section("ablation", "Co-adaptation by ablation", "node"), _ablation, None),
)
"""In the order of the page."""
