"""The figures and the table of each diagnostic, from what was read of the runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis import correlation, saturation
from dropdiag.analysis.compare.measures import COUNTERS
from dropdiag.analysis.seeds import over_seeds
from dropdiag.errors import DropdiagError
from dropdiag.formatting import words
from dropdiag.histograms.histogram import Histogram
from dropdiag.report import flows, sections
from dropdiag.report.binary import Blob
from dropdiag.report.cells import Cell, Table, integer, layer, number, text
from dropdiag.report.densities import Densities
from dropdiag.report.distributions import Distributions, Measures
from dropdiag.report.sections import Section
from dropdiag.report.series import Scalars, Series, Track, per_run
from dropdiag.store.reader import Runs
from dropdiag.store.schema import QUANTITIES, TRAIN, UNCOMPARED, Quantity

FLOW: Final = "net_grad_abs_mean"
LEFT, RIGHT = "saturation_share_left", "saturation_share_right"
COUNTS: Final = {"samples": "node_correlation_samples", "nodes": "node_correlation_nodes",
                 "constant_nodes": "constant_nodes"}  # fmt: skip
USUAL: Final = ("loss", "test_loss", "accuracy")
SITE: Final = ["condition", "layer", "call"]
Maker = Callable[[Section, "Material"], "Diagnostic"]
Column = tuple[str, Callable[[Mapping[Any, Any]], Cell]]


@dataclass(frozen=True)
class Material:
    """What was read of the runs, and where the figures' numbers go."""

    runs: Runs
    comparison: Any
    baseline: str
    keep: Callable[[str], bool]
    quantities: Mapping[str, Quantity]
    scalars: Scalars
    distributions: Distributions
    blob: Blob


@dataclass(frozen=True)
class Diagnostic:
    """A section with its figures (JSON; empty if there are none), its table, and why a part of it is not there."""

    section: Section
    figure: dict[str, Any] = field(default_factory=dict)
    table: Table | None = None
    reason: str = ""

    @property
    def shown(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.figure or (self.table is not None and self.table.rows))


def diagnostics(given: Material) -> list[Diagnostic]:
    """Return every diagnostic, those of dropdiag's own first, then one for each other quantity that the runs hold."""
    own = [name for name in given.distributions.quantities if name not in MEASURES]
    makers: dict[Section, Maker] = {
        sections.LEARNING: learning, sections.GRADIENT_FLOW: gradient_flow, sections.NET_VALUES: net_values,
        sections.WEIGHTS: weights, sections.NODE_CORRELATION: node_correlation,
        **{sections.of_quantity(_described(given, name)): partial(distribution, name=name) for name in own},
        sections.OTHER_SCALARS: other_scalars,
    }  # fmt: skip
    return [_made(section, make, given) for section, make in makers.items()]


def _made(section: Section, make: Maker, given: Material) -> Diagnostic:
    try:
        return make(section, given)
    except DropdiagError as error:
        return Diagnostic(section, reason=str(error))


def learning(section: Section, given: Material) -> Diagnostic:
    """Scalars of the network as a whole: a curve a quantity and phase."""
    # of the network dropdiag itself only times and counts: the rest was given to step() and log()
    known = [
        name for name in given.scalars.names(network=True) if name not in QUANTITIES and name.lower() not in COUNTERS
    ]
    names = [*(name for name in USUAL if name in known), *(name for name in known if name not in USUAL)]
    tracks = [(name, given.scalars.tracks[name, phase]) for name in names for phase in given.scalars.phases(name)]
    curves = [{"quantity": name, **made.packed(given.blob)} for name, track in tracks
              if (made := track.series(unit=_unit(given, name))) is not None]  # fmt: skip
    return Diagnostic(section, {"curves": curves} if curves else {})


def gradient_flow(section: Section, given: Material) -> Diagnostic:
    """Mean |dL/dz| over training; the table has the numbers of the comparison."""
    track = given.scalars.tracks.get((FLOW, TRAIN))
    made = None if track is None else track.series(given.keep, unit=QUANTITIES[FLOW].unit)
    figure = {} if made is None else {"measures": {"gradient flow": made.packed(given.blob)}}
    return Diagnostic(section, figure, flows.table(given.runs, given.comparison, given.baseline, given.keep))


def net_values(section: Section, given: Material) -> Diagnostic:
    """Distribution of the net values with the saturation areas, and the exact saturation shares."""
    shares = _shares(given)
    measures: dict[str, Any] = {} if shares is None else _packed({"saturation share": shares}, given)
    try:
        made = given.distributions.of("net_value")
    except DropdiagError as error:
        return Diagnostic(section, {"measures": measures} if measures else {}, _share_table(given, None), str(error))
    part = _figure(made, given)
    part["measures"] = {**measures, **part["measures"]}
    return Diagnostic(section, part | {"areas": _areas(made, given.runs)}, _share_table(given, made))


def weights(section: Section, given: Material) -> Diagnostic:
    """Distribution of the weights, and the shape of each run's last ones."""
    made = given.distributions.of("weight")
    counts = made.table.groupby(SITE, sort=False)["weights"].first().reset_index()
    columns = [_mean("Mean", "mean", ".2g"), _mean("Standard deviation", "sd", ".4f"),
               _mean("Excess kurtosis", "excess_kurtosis", ".2f"), _mean("Peak density", "peak_density", ".2f"), SEEDS,
               _count("Weights", "weights")]  # fmt: skip
    frame = over_seeds(made.table, SITE, ["mean", "sd", "excess_kurtosis", "peak_density"]).merge(counts, on=SITE)
    return Diagnostic(section, _figure(made, given), _table("Weights at the last step", frame, columns))


def node_correlation(section: Section, given: Material) -> Diagnostic:
    """Distribution of r over pairs of nodes, beside what independent nodes show."""
    made = given.distributions.of("node_correlation")
    frame = over_seeds(made.table, SITE, ["mean_abs_r", "sd_r"])
    frame = frame.merge(_mean_counts(made, given), on=SITE, how="left")
    frame["chance"] = [correlation.null_mean_abs(n) for n in frame["samples"]]
    chance = frame.groupby(["layer", "call"], sort=False)["chance"].mean().to_dict()
    columns = [_mean("Mean |r|", "mean_abs_r"), _mean("By chance", "chance"), _mean("sd of r", "sd_r"), SEEDS,
               *(_count(name.replace("_", " ").capitalize(), name) for name in COUNTS)]  # fmt: skip
    figure = _figure(made, given) | {"chance": [chance.get(site) for site in made.sites]}
    return Diagnostic(section, figure, _table("Node correlation at the last evaluation", frame, columns))


def distribution(section: Section, given: Material, name: str) -> Diagnostic:
    """Distribution of another quantity, and the moments of each run's last one."""
    made = given.distributions.of(name)
    columns = [_mean("Mean", "mean", ".3g"), _mean("Standard deviation", "sd", ".3g"), SEEDS, _count("Values", "n")]
    counts = made.table.groupby(SITE, sort=False)["n"].first().reset_index()
    frame = over_seeds(made.table, SITE, ["mean", "sd"]).merge(counts, on=SITE)
    figure = _figure(made, given)
    figure["density"]["label"] = words(_described(given, name).label)
    return Diagnostic(section, figure, _table(f"{section.title} at the last step", frame, columns))


def other_scalars(section: Section, given: Material) -> Diagnostic:
    """Every other scalar of layers, over training, and each run's last value."""
    others = [name for name in given.scalars.names(network=False) if _is_other(given, name)]
    measures: dict[str, Series] = {}
    frames = []
    for (name, phase), track in sorted(given.scalars.tracks.items()):
        if name not in others:
            continue
        title = words(_described(given, name).label)
        made = track.series(given.keep, unit=_unit(given, name))
        if made is not None:
            # no phase is chosen here: "masks" and "fit" are no held-out data, so no rule could
            several = f", {phase}" if len(given.scalars.phases(name)) > 1 else ""
            measures[f"{title}{several}" if f"{title}{several}" not in measures else f"{name}{several}"] = made
            frame = over_seeds(_last(track, given), SITE, ["value"])
            frames.append(frame.assign(title=title, unit=made.unit or "1", phase=phase))
    if not frames:
        return Diagnostic(section)
    columns = [_text("Measure", "title"), _text("Unit", "unit"), _text("Phase", "phase"), *SITE_COLUMNS,
               _mean("Last value", "value", ".3g"), SEEDS]  # fmt: skip
    caption = "Other measures at the last step, mean (sd over seeds)"
    return Diagnostic(
        section, {"measures": _packed(measures, given)}, _rows(caption, pd.concat(frames, ignore_index=True), columns)
    )


def _is_other(given: Material, name: str) -> bool:
    """Whether no other section shows a scalar of layers, and it is none of dropdiag's own that only count."""
    # a user's own quantity is shown whatever its scale: that says only how it is compared
    counts = name in QUANTITIES and given.quantities[name].scale == UNCOMPARED
    return name != FLOW and not counts


def _shares(given: Material) -> Series | None:
    """Saturation share, left and right together."""
    # a sum of means is the mean of the sums, for both sides are recorded at the same steps
    left = given.scalars.common(LEFT, "saturation_share")
    right = None if left is None else given.scalars.tracks.get((RIGHT, left.phase))
    if left is None or right is None:
        return None
    one, other = left.series(given.keep), right.series(given.keep)
    return None if one is None or other is None else one + other


def _share_table(given: Material, made: Densities | None) -> Table | None:
    """Shares at each run's last step; none of a run whose net values are not finite there."""
    left = given.scalars.common(LEFT, "saturation_share")
    right = None if left is None else given.scalars.tracks.get((RIGHT, left.phase))
    if left is None or right is None or left.sites != right.sites:
        return None
    values = {"left": left.last, "right": right.last, "share": left.last + right.last}
    frame = per_run(given.runs, left.sites, left.last_steps >= 0, values)
    frame = frame[frame["layer"].map(given.keep).astype(bool)]
    # a network that has diverged has no share: NaN is neither in the area nor outside
    if made is not None and len(frame):
        lost = made.table.loc[made.table["not_finite"] > 0, ["layer", "call", "run"]]
        keys = pd.MultiIndex.from_frame(frame[["layer", "call", "run"]])
        frame.loc[keys.isin(list(lost.itertuples(index=False, name=None))), list(values)] = np.nan
    columns = [_mean("Share", "share"), _mean("Left", "left"), _mean("Right", "right"), SEEDS]
    return _table("Saturation share at the last step", over_seeds(frame, SITE, list(values)), columns)


def _areas(made: Densities, runs: Runs) -> list[list[list[float | None]]]:
    """Intervals of the saturation area of each site, of all conditions."""
    known = saturation.areas_of(runs, made.table.assign(quantity=made.quantity))
    found = []
    for name, call in made.sites:
        rows = known[(known["layer"] == name) & (known["call"] == call)]
        found.append(rows[["low", "high"]].drop_duplicates().to_numpy().tolist())
    return found


def _mean_counts(made: Densities, given: Material) -> pd.DataFrame:
    """Average samples and nodes over the runs of each condition and site."""
    frame = made.table[[*SITE, "run"]]
    for name, quantity in COUNTS.items():
        track = given.scalars.tracks.get((quantity, made.phase))
        counts = _last(track, given) if track is not None else pd.DataFrame(columns=[*SITE, "run", "value"])
        frame = frame.merge(counts.rename(columns={"value": name}), on=[*SITE, "run"], how="left")
    return frame.groupby(SITE, sort=False)[list(COUNTS)].mean().reset_index()


def _last(track: Track, given: Material) -> pd.DataFrame:
    """Return the value at each run's last step, of the layers that are wanted."""
    frame = per_run(given.runs, track.sites, track.last_steps >= 0, {"value": track.last})
    return frame[frame["layer"].map(given.keep).astype(bool)]


def _figure(made: Densities, given: Material) -> dict[str, Any]:
    return {"density": made.packed(given.blob), "measures": _packed(made.measures, given)}


def _packed(measures: Mapping[str, Series], given: Material) -> dict[str, Any]:
    return {name: one.packed(given.blob) for name, one in measures.items()}


def _described(given: Material, name: str) -> Quantity:
    return given.quantities.get(name) or Quantity(name, "scalar", "1", name.replace("_", " "))


def _unit(given: Material, name: str) -> str:
    """Return the unit of a quantity that someone described; nothing for a pure number."""
    unit = given.quantities[name].unit if name in given.quantities else ""
    return "" if unit == "1" else unit


def _table(caption: str, frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    return _rows(f"{caption}, mean (sd over seeds)", frame, [*SITE_COLUMNS, *columns])


def _rows(caption: str, frame: pd.DataFrame, columns: Sequence[Column]) -> Table:
    rows = [[make(row) for _, make in columns] for row in frame.to_dict("records")]
    return Table(caption, [head for head, _ in columns], rows)


def _mean(head: str, name: str, digits: str = ".3f") -> Column:
    return head, lambda row: number(row.get(name), digits, row.get(f"{name}_sd"))


def _count(head: str, name: str) -> Column:
    return head, lambda row: integer(row.get(name))


def _text(head: str, name: str) -> Column:
    return head, lambda row: text(row.get(name))


SITE_COLUMNS: Final[tuple[Column, ...]] = (_text("Condition", "condition"), ("Layer", layer))
SEEDS: Final = _count("Seeds", "seeds")


def _peak(histogram: Histogram) -> float:
    return float(histogram.kde().density.max()) if histogram.n_finite else float("nan")


def _mean_abs(histogram: Histogram) -> float:
    return correlation.mean_abs(*histogram.bounds())


SPREAD: Final = {"standard deviation": Histogram.std}
MOMENTS: Final = {"mean": Histogram.mean, "sd": Histogram.std}
# "through" is taken of every histogram that is shown, so it must be cheap; "last" once a run and layer.
MEASURES: Final = {
    "weight": Measures(
        {"excess kurtosis": Histogram.excess_kurtosis, **SPREAD},
        {**MOMENTS, "excess_kurtosis": Histogram.excess_kurtosis, "peak_density": _peak, "weights": lambda h: h.n},
    ),
    "node_correlation": Measures(
        {"mean |r|": _mean_abs, "sd of r": Histogram.std}, {"mean_abs_r": _mean_abs, "sd_r": Histogram.std},
        correlation.SUPPORT,
    ),
    "net_value": Measures(SPREAD, {"not_finite": lambda h: h.n - h.n_finite}),
}  # fmt: skip
OTHERS: Final = Measures({"mean": Histogram.mean, **SPREAD}, {**MOMENTS, "n": lambda h: h.n})


def measures_of(quantity: str) -> Measures:
    """Return what the page takes from the histograms of a quantity."""
    return MEASURES.get(quantity, OTHERS)
