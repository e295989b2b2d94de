"""The claim on all rates at once: the lower the rate, the less net variance and the less gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.analysis.claims.case import Case, Claim
from dropdiag.analysis.claims.effects import ABOVE, ClaimEffect
from dropdiag.analysis.claims.questions import Directional, Question
from dropdiag.analysis.claims.rules import ONE_SIDE, PARTS, WHOLE
from dropdiag.analysis.compare.measurements import Measurements
from dropdiag.analysis.dose_response.axis import Axis, axis_of
from dropdiag.analysis.dose_response.responses import Response, Responses
from dropdiag.analysis.dose_response.trend import coefficients
from dropdiag.analysis.seeds import Floats
from dropdiag.errors import AxisError, NotRecordedError
from dropdiag.formatting import site, some
from dropdiag.store.schema import LOG_RATIO

RATE: Final = "rate"
LEAST: Final = 3
"""Rates that it takes."""
STEP: Final = 0.1
"""Of the rate: what a factor is taken over."""
FLOW, VARIANCE = "gradient_flow", "net_variance_mean"
RULE: Final = (
    "With the rate rises the gradient flow, and with it the net variance: over seeds, the slope of each seed's own "
    "straight line through the logarithms, averaged over layers, is above 0. Rates at which nothing of it is above 0 "
    "(the net variance without dropout) are left out and named. It takes three rates or more, and is put once to all "
    f"of them: a response that rises and falls again may have any slope. {PARTS} {ONE_SIDE} {WHOLE}"
)
NO_AXIS: Final = "there are no three rates, by the runs' config or their conditions' names"


def rates_of(measurements: Measurements) -> tuple[str, str] | None:
    """Return the rates above the lowest, and the lowest, in words."""
    axis = _axis(measurements)
    if axis is None:
        return None
    low, second, *_, last = axis.doses
    return f"{axis.shown(second)} to {last:g}", axis.shown(low)


def _axis(measurements: Measurements) -> Axis | None:
    try:
        axis = axis_of(measurements.runs, RATE)
    except AxisError:
        return None
    return axis if len(axis.doses) >= LEAST else None


def _dose(case: Case) -> list[Question]:
    return [
        _rises(case, "less gradient at lower rates", "gradient flow", FLOW),
        _rises(case, "less net variance at lower rates", "net variance", VARIANCE),
    ]


def _rises(case: Case, name: str, called: str, measure: str) -> Directional:
    """Ask whether a measure of layers rises with the rate: on average over layers, and in each."""
    measurements = case.effects.measurements
    axis = _axis(measurements)
    if axis is None:
        return case.single(name, "", f"{called}: {NO_AXIS}", ABOVE)
    try:
        each = [one for one in Responses(axis, measurements).each([measure]) if one.layer is not None]
    except NotRecordedError:
        return case.single(name, "", f"{called} was not recorded", ABOVE)
    found = _Lines.of(measurements, axis, each)
    per = f"a 10-fold {axis.name}" if axis.log else f"{STEP:g} of the {axis.name}"
    phrase = f"over {per} {called} is multiplied by"
    if found is None:
        return case.single(name, phrase, f"{called} has no seed with a value at every rate", ABOVE)
    return Directional(name, phrase, found.average, "", found.layers, side=ABOVE)


@dataclass(frozen=True, eq=False)
class _Lines:
    """Logarithms of a measure by seed and rate, a table a layer, and which seeds and layers the average takes."""

    measurements: Measurements
    axis: Axis
    doses: Sequence[float]
    each: Sequence[Response]
    tables: Sequence[Floats]
    kept: Sequence[int]
    seeds: NDArray[np.bool_]

    @classmethod
    def of(cls, measurements: Measurements, axis: Axis, each: Sequence[Response]) -> _Lines | None:
        """Take the rates that all layers have; None where no seed has a value at two of them or more."""
        doses = [dose for dose in axis.doses if all(dose in one.doses for one in each)]
        tables = [one.scaled[:, [one.doses.index(dose) for dose in doses]] for one in each]
        whole = [np.asarray(np.isfinite(table).all(axis=1)) for table in tables]
        # a layer that most seeds lack would leave all of them out
        kept = [i for i, has in enumerate(whole) if has.mean() >= 0.5]
        seeds = np.array([all(whole[i][row] for i in kept) for row in range(len(axis.ordered_seeds))], dtype=np.bool_)
        held = len(doses) > 1 and len(kept) > 0 and bool(seeds.any())
        return cls(measurements, axis, doses, each, tables, kept, seeds) if held else None

    @property
    def average(self) -> ClaimEffect:
        """Slopes of each seed's mean over layers."""
        mean = np.mean([self.tables[i][self.seeds] for i in self.kept], axis=0)
        return self._effect(self.each[0], mean, note=self._note())

    @property
    def layers(self) -> tuple[ClaimEffect, ...]:
        """Slopes of each layer, of the seeds that have it."""
        whole = [table[np.isfinite(table).all(axis=1)] for table in self.tables]
        return tuple(self._effect(one, table, layer=one.layer)
                     for one, table in zip(self.each, whole, strict=True) if len(table))  # fmt: skip

    def _effect(self, one: Response, table: Floats, *, layer: str | None = None, note: str = "") -> ClaimEffect:
        places = self.axis.places[[self.axis.doses.index(dose) for dose in self.doses]]
        slopes = coefficients(places, table, 1) * (1.0 if self.axis.log else STEP)
        return ClaimEffect(
            f"{one.measure.name}_over_{self.axis.name}", layer, one.call if layer else 0, slopes,
            np.zeros(len(slopes)), paired=True, settings=self.measurements.settings, scale=LOG_RATIO, own="all rates",
            note=note,
        )  # fmt: skip

    def _note(self) -> str:
        """Say which rates, seeds and layers are left out."""
        without = [self.axis.shown(dose) for dose in self.axis.doses if dose not in self.doses]
        gaps = [str(seed) for seed, has in zip(self.axis.ordered_seeds, self.seeds, strict=True) if not has]
        layers = [site(one.layer, one.call) for i, one in enumerate(self.each) if i not in self.kept]
        said = [
            f"without {', '.join(without)}, where nothing is above 0" if without else "",
            f"{'seed' if len(gaps) == 1 else 'seeds'} {some(gaps)} left out for a gap at a rate" if gaps else "",
            f"without {some(layers)}, which most seeds lack" if layers else "",
            f"{some([*self.axis.left_out])} left out, without a rate or a seed" if self.axis.left_out else "",
        ]
        return ", ".join(filter(None, said))


DOSE: Final = Claim(
    "l", "The lower the rate, the less net variance and the less gradient.", RULE, _dose,
    record="runs of three rates or more", of_axis=rates_of,
)  # fmt: skip
