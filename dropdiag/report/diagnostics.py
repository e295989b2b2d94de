"""The figures and the table of each diagnostic, from what was read of the runs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis import correlation, saturation, weights
from dropdiag.analysis import dropouts as dropout_sites
from dropdiag.analysis.compare.active import usual_phase
from dropdiag.analysis.compare.measures import COUNTERS
from dropdiag.analysis.flow.chain import RECORDED
from dropdiag.analysis.seeds import over_seeds
from dropdiag.errors import DropdiagError, NotRecordedError
from dropdiag.formatting import site as site_name
from dropdiag.formatting import typeset, words
from dropdiag.histograms.histogram import Histogram
from dropdiag.report import cells, flows
from dropdiag.report.binary import Blob
from dropdiag.report.cells import Table, integers, numbers, texts, with_interval
from dropdiag.report.densities import Densities
from dropdiag.report.densities import not_finite as not_finite_share
from dropdiag.report.distributions import Distributions, Measures
from dropdiag.report.series import Scalars, Series, Track
from dropdiag.store.reader import Runs
from dropdiag.store.schema import TRAIN, UNCOMPARED, Quantity, quantity_of

FLOW: Final = "net_grad_abs_mean"
LEFT, RIGHT = "saturation_share_left", "saturation_share_right"
COUNTS: Final = {"samples": "node_correlation_samples", "nodes": "node_correlation_nodes",
                 "constant_nodes": "constant_nodes"}  # fmt: skip
USUAL: Final = ("loss", "test_loss", "accuracy")
SITE: Final = ["condition", "layer", "call"]
SEEDS: Final = integers("Seeds", "seeds")
UNMEASURED: Final = "no run recorded the rate of its dropouts, or what they do"


@dataclass(frozen=True)
class Section:
    """One diagnostic; how to read it, and how it misleads, is in ``templates/sections.html.j2``.

    Attributes
    ----------
    name : str
        Its anchor and key.
    title : str
    group : str
        Sections of one group show the same layers: ``"weight"`` (weight matrices), ``"node"`` (activations). Of a
        user's own distribution it is the quantity.
    label, unit : str
        Of a user's own distribution.
    """

    name: str
    title: str
    group: str = ""
    label: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Material:
    """What was read of the runs, and where the figures' numbers go."""

    runs: Runs
    comparison: Any
    baseline: str | None
    keep: Callable[[str], bool]
    quantities: Mapping[str, Quantity]
    scalars: Scalars
    distributions: Distributions
    blob: Blob

    def described(self, name: str) -> Quantity:
        """Return what the runs say of a quantity; of one that nobody described its name."""
        return quantity_of(name, self.quantities) or Quantity(name, "scalar", "1", name.replace("_", " "))

    def packed(self, measures: Mapping[str, Series]) -> dict[str, Any]:
        """Return series as JSON, their values in the block."""
        return {name: one.packed(self.blob) for name, one in measures.items()}

    def figure(self, made: Densities) -> dict[str, Any]:
        """Return densities and their measures as JSON."""
        return {"density": made.packed(self.blob), "measures": self.packed(made.measures)}

    def series(self, track: Track, name: str) -> Series | None:
        """Return a quantity of the wanted layers over training, with its unit unless it is a pure number."""
        unit = self.described(name).unit
        # the network as a whole has no layer: it is shown whatever layers were asked for
        return track.series(lambda layer: not layer or self.keep(layer), unit="" if unit == "1" else unit)


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
    makers: list[tuple[Section, Callable[[Section, Material], Diagnostic]]] = [
        (Section("learning", "Learning curves"), learning),
        (Section("gradient_flow", "Gradient flow", "node"), gradient_flow),
        (Section("flow_decomposition", "Where the gradient comes from", "node"), flow_decomposition),
        (Section("net_values", "Net values and saturation", "node"), net_values),
        (Section("weights", "Weights", "weight"), partial(distribution, name="weight")),
        (Section("node_correlation", "Node correlation", "node"), node_correlation),
        (DROPOUTS, dropouts),
        *((section, partial(distribution, name=name)) for name, section in _own_sections(given, own).items()),
        (OTHER_SCALARS, other_scalars),
    ]
    return [_made(section, make, given) for section, make in makers]


DROPOUTS: Final = Section("dropouts", "Dropouts", "dropout")
OTHER_SCALARS: Final = Section("other_scalars", "Other measures of layers", "other")


def not_finite(given: Material) -> list[str]:
    """Say of which distributions a part is missing, because it is not finite: a curve of the rest alone hides it."""
    said = []
    for quantity in given.distributions.quantities:
        try:
            made = given.distributions.of(quantity)
        except DropdiagError:
            continue  # the section says why it is not shown
        losses: dict[str, list[tuple[float, str]]] = {}
        for condition, site, share in made.losses():
            losses.setdefault(condition, []).append((share, site_name(*site)))
        for condition, found in losses.items():
            (share, layer), label = max(found), words(given.described(quantity).label)
            others = len(found) - 1
            more = f" (and some of {others} more layer{'s' if others > 1 else ''})" if others else ""
            rest = ", and there is no saturation share where any is" if quantity == "net_value" else ""
            said.append(
                f"{condition}: up to {typeset(100.0 * share)} % of the values of {label} of {layer}{more} are NaN or "
                f"infinite; curves and numbers are of the finite ones alone{rest}."
            )
    return said


def _own_sections(given: Material, names: Iterable[str]) -> dict[str, Section]:
    """Return the section of each distribution that none of its own describes, as a user's own probe records it."""
    found: dict[str, Section] = {}
    for name in names:
        anchor = "distribution-" + re.sub(r"[^\w-]", "-", name)
        # an anchor is an element's id, which two names may not share
        again = any(one.name == anchor for one in found.values())
        found[name] = _own_section(given.described(name), f"{anchor}-{len(found) + 1}" if again else anchor)
    return found


def _own_section(quantity: Quantity, anchor: str) -> Section:
    label = words(quantity.label)
    return Section(anchor, label[:1].upper() + label[1:], quantity.name, label, quantity.unit)


def _made(section: Section, make: Callable[[Section, Material], Diagnostic], given: Material) -> Diagnostic:
    try:
        return make(section, given)
    except DropdiagError as error:
        return Diagnostic(section, reason=str(error))


def learning(section: Section, given: Material) -> Diagnostic:
    """Scalars of the network as a whole: a curve a quantity and phase."""
    # of the network dropdiag itself only times and counts: the rest was given to step() and log()
    known = [
        name for name in given.scalars.names(network=True)
        if quantity_of(name) is None and name.lower() not in COUNTERS
    ]  # fmt: skip
    names = [*(name for name in USUAL if name in known), *(name for name in known if name not in USUAL)]
    tracks = [(name, given.scalars.tracks[name, phase]) for name in names for phase in given.scalars.phases(name)]
    curves = [{"quantity": name, **made.packed(given.blob)} for name, track in tracks
              if (made := given.series(track, name)) is not None]  # fmt: skip
    return Diagnostic(section, {"curves": curves} if curves else {})


def gradient_flow(section: Section, given: Material) -> Diagnostic:
    """Mean |dL/dz| over training; the table has the numbers of the comparison."""
    track = given.scalars.tracks.get((FLOW, TRAIN))
    made = None if track is None else given.series(track, FLOW)
    figure = {} if made is None else {"measures": {"gradient flow": made.packed(given.blob)}}
    return Diagnostic(section, figure, flows.table(given.runs, given.comparison, given.baseline, given.keep))


def flow_decomposition(section: Section, given: Material) -> Diagnostic:
    """Terms of each condition's ratio of the gradient flow to the baseline."""
    return Diagnostic(section, *flows.decomposition(given.runs, given.baseline, given.keep))


def net_values(section: Section, given: Material) -> Diagnostic:
    """Distribution of the net values with the saturation areas, and the exact saturation shares."""
    shares = _shares(given)
    try:
        made = given.distributions.of("net_value")
    except DropdiagError as error:
        measures: dict[str, Any] = {} if shares is None else given.packed({"saturation share": shares})
        return Diagnostic(section, {"measures": measures} if measures else {}, _share_table(given, None), str(error))
    part = given.figure(made)
    measures = {} if shares is None else given.packed({"saturation share": _where_finite(shares, made)})
    part["measures"] = {**measures, **part["measures"]}
    return Diagnostic(section, part | {"areas": _areas(made, given.runs)}, _share_table(given, made))


def distribution(section: Section, given: Material, name: str) -> Diagnostic:
    """Distribution of the weights or of a user's own quantity, and the shape of each run's last ones."""
    made, columns = given.distributions.of(name), SHAPES.get(name, SHAPE)
    counts = made.table.groupby(SITE, sort=False)["n"].first().reset_index()
    wanted = [*measures_of(name).last, *measures_of(name).together]
    frame = over_seeds(made.table, SITE, [one for one in wanted if one != "n"]).merge(counts, on=SITE)
    figure = given.figure(made)
    if section.label:
        figure["density"]["label"] = section.label
    columns = (*columns, LOST) if (frame["not_finite"] > 0.0).any() else columns
    return Diagnostic(section, figure, _table(f"{section.title} at the last step", frame, *columns))


def node_correlation(section: Section, given: Material) -> Diagnostic:
    """Distribution of r over pairs of nodes, beside what independent nodes show."""
    made = given.distributions.of("node_correlation")
    frame = over_seeds(made.table, SITE, ["mean_abs_r", "sd_r"])
    frame = frame.merge(_mean_counts(made, given), on=SITE, how="left")
    frame["chance"] = [correlation.null_mean_abs(n) for n in frame["samples"]]
    chance = frame.groupby(["layer", "call"], sort=False)["chance"].mean().to_dict()
    columns = [numbers("Mean |r|", "mean_abs_r"), numbers("By chance", "chance"), numbers("sd of r", "sd_r"), SEEDS,
               *(integers(name.replace("_", " ").capitalize(), name) for name in COUNTS)]  # fmt: skip
    figure = given.figure(made) | {"chance": [chance.get(site) for site in made.sites]}
    return Diagnostic(section, figure, _table("Node correlation at the last evaluation", frame, *columns))


def dropouts(section: Section, given: Material) -> Diagnostic:
    """Rate, dropped share and noise-to-signal ratio of each dropout; nothing where the networks have none."""
    try:
        frame = dropout_sites.table(given.runs)
    except NotRecordedError:
        return Diagnostic(section)
    frame = dropout_sites.recorded(frame[frame["layer"].map(given.keep)])
    tracks = {name: given.scalars.tracks.get((name, TRAIN)) for name in dropout_sites.QUANTITIES}
    measures = {
        words(given.described(name).label): given.series(track, name) for name, track in tracks.items() if track
    }
    figure = given.packed({title: made for title, made in measures.items() if made is not None})
    columns = [
        *cells.SITE, texts("Type", "type"), texts("Grain", "grain"), texts("Applied to", "applied_to"),
        texts("Feeds", "feeds"), numbers("Rate, first", "rate_first", ".3g"), numbers("Rate, last", "rate_last", ".3g"),
        with_interval("Dropped share [95 %]", "dropped_share"),
        with_interval("Noise to signal [95 %]", "noise_to_signal"), SEEDS,
    ]  # fmt: skip
    records = frame.astype(object).where(frame.notna(), None).to_dict("records")
    table = cells.table("Dropouts, means over training and seeds, with t intervals over seeds", records, columns)
    return Diagnostic(section, {"measures": figure} if figure else {}, table, "" if len(frame) else UNMEASURED)


def other_scalars(section: Section, given: Material) -> Diagnostic:
    """Every other scalar of layers, over training, and each run's last value."""
    others = [name for name in given.scalars.names(network=False) if _is_other(given, name)]
    measures: dict[str, Series] = {}
    records: list[dict[Any, Any]] = []
    for (name, phase), track in sorted(given.scalars.tracks.items()):
        title, made = words(given.described(name).label), given.series(track, name)
        if name in others and made is not None and usual_phase(name) != phase:
            # no phase is chosen here: "masks" and "fit" are no held-out data, so no rule could
            several = f", {phase}" if len(given.scalars.phases(name)) > 1 else ""
            measures[f"{title}{several}" if f"{title}{several}" not in measures else f"{name}{several}"] = made
            frame = over_seeds(track.last_rows(given.runs, given.keep), SITE, ["value"])
            records += frame.assign(title=title, unit=made.unit or "1", phase=phase).to_dict("records")
    if not records:
        return Diagnostic(section)
    columns = [texts("Measure", "title"), texts("Unit", "unit"), texts("Phase", "phase"), *cells.SITE,
               numbers("Last value", "value", ".3g"), SEEDS]  # fmt: skip
    table = cells.table("Other measures at the last step, mean (sd over seeds)", records, columns)
    return Diagnostic(section, {"measures": given.packed(measures)}, table)


def _is_other(given: Material, name: str) -> bool:
    """Whether no other section shows a scalar of layers, and it is none of dropdiag's own that only count."""
    # a user's own quantity is shown whatever its scale: that says only how it is compared
    known = quantity_of(name)
    counts = known is not None and given.described(name).scale == UNCOMPARED
    return name not in (FLOW, *RECORDED, *dropout_sites.QUANTITIES) and not counts


def _sides(given: Material) -> tuple[Track, Track] | None:
    """Return the shares of the left and of the right, in one phase; None where no run holds both."""
    left = given.scalars.common(LEFT, "saturation_share")
    right = None if left is None else given.scalars.tracks.get((RIGHT, left.phase))
    return None if left is None or right is None else (left, right)


def _shares(given: Material) -> Series | None:
    """Saturation share, left and right together."""
    # a sum of means is the mean of the sums, for both sides are recorded at the same steps
    sides = _sides(given)
    if sides is None:
        return None
    left, right = (side.series(given.keep) for side in sides)
    return None if left is None or right is None else left + right


def _where_finite(shares: Series, made: Densities) -> Series:
    """Leave shares out where net values are not finite, as the table does: NaN is neither in the area nor outside."""
    absent = made.diverged(shares.sites, shares.steps) & ~np.isnan(shares.values)
    return replace(shares, values=np.where(absent, np.nan, shares.values), dropped=shares.dropped + int(absent.sum()))


def _share_table(given: Material, made: Densities | None) -> Table | None:
    """Shares at each run's last step; none of a run whose net values are not finite there."""
    sides = _sides(given)
    if sides is None or sides[0].sites != sides[1].sites:
        return None
    site, names = ["layer", "call", "run"], ["share", "left", "right"]
    left, right = (side.last_rows(given.runs, given.keep) for side in sides)
    frame = left.merge(right, on=[*SITE, "run"], how="left").rename(columns={"value_x": "left", "value_y": "right"})
    frame["share"] = frame["left"] + frame["right"]
    # a network that has diverged has no share: NaN is neither in the area nor outside
    if made is not None:
        lost = pd.MultiIndex.from_frame(made.table.loc[made.table["not_finite"] > 0, site])
        frame.loc[pd.MultiIndex.from_frame(frame[site]).isin(lost), names] = np.nan
    columns = [*(numbers(name.capitalize(), name) for name in names), SEEDS]
    table = over_seeds(frame, SITE, names)
    if made is not None and (made.table["not_finite"] > 0.0).any():
        table = table.merge(
            over_seeds(made.table, SITE, ["not_finite"]).drop(columns=["seeds", "missing"]), on=SITE, how="left"
        )
        columns.append(LOST)
    return _table("Saturation share at the last step", table, *columns)


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
        if track is None:
            frame = frame.assign(**{name: np.nan})
        else:
            counts = track.last_rows(given.runs, given.keep).rename(columns={"value": name})
            frame = frame.merge(counts, on=[*SITE, "run"], how="left")
    return frame.groupby(SITE, sort=False)[list(COUNTS)].mean().reset_index()


def _table(caption: str, frame: pd.DataFrame, *columns: cells.Column) -> Table:
    return cells.table(f"{caption}, mean (sd over seeds)", frame.to_dict("records"), [*cells.SITE, *columns])


def _mean_abs(histogram: Histogram) -> float:
    return correlation.mean_abs(*histogram.bounds())


SPREAD: Final = {"standard deviation": Histogram.std}
MOMENTS: Final = {"mean": Histogram.mean, "sd": Histogram.std}
SIZE: Final[dict[str, Callable[[Histogram], float]]] = {"not_finite": not_finite_share, "n": lambda h: h.n}
LOST: Final = numbers("Not finite", "not_finite", ".3g")
"""Column of the share of values that are NaN or infinite, in tables of distributions that have any."""
# "through" is taken of every histogram that is shown, so it must be cheap; "last" once a run and layer.
MEASURES: Final = {
    "weight": Measures(
        {"excess kurtosis": Histogram.excess_kurtosis, **SPREAD},
        {
            **MOMENTS,
            "excess_kurtosis": Histogram.excess_kurtosis,
            **SIZE,
        },
        {"peak_density": weights.peaks},
    ),
    "node_correlation": Measures(
        {"mean |r|": _mean_abs, "sd of r": Histogram.std}, {"mean_abs_r": _mean_abs, "sd_r": Histogram.std},
        support=correlation.SUPPORT,
    ),
    "net_value": Measures(SPREAD, {"not_finite": not_finite_share}),
}  # fmt: skip
OTHERS: Final = Measures({"mean": Histogram.mean, **SPREAD}, {**MOMENTS, **SIZE})
# columns of the tables of "last"
SHAPE: Final = (numbers("Mean", "mean", ".3g"), numbers("Standard deviation", "sd", ".3g"), SEEDS,
                integers("Values", "n"))  # fmt: skip
SHAPES: Final = {
    "weight": (
        numbers("Mean", "mean", ".2g"), numbers("Standard deviation", "sd", ".4f"),
        numbers("Excess kurtosis", "excess_kurtosis", ".2f"), numbers("Peak density", "peak_density", ".2f"), SEEDS,
        integers("Weights", "n"),
    ),
}  # fmt: skip


def measures_of(quantity: str) -> Measures:
    """Return what the page takes from the histograms of a quantity."""
    return MEASURES.get(quantity, OTHERS)
