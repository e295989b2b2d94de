"""The numbers of one active measurement, run by run, of the scalars that a page has read already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd

from dropdiag.analysis.claims.case import Options
from dropdiag.analysis.seeds import over_seeds
from dropdiag.report.diagnostics import Material
from dropdiag.report.series import NETWORK, Track
from dropdiag.store.schema import base_and_x

GROUP: Final = ["condition", "layer", "call"]
EARLY: Final = Options.early
"""Share of training that is early, as in claim (k)."""


@dataclass(frozen=True)
class Numbers:
    """What runs hold of one measurement.

    Attributes
    ----------
    given : Material
    phase : str
        The measurement's name, in which its rows are unless a user gave them another phase.
    """

    given: Material
    phase: str

    def last(self, *names: str, phase: str | None = None) -> pd.DataFrame:
        """Return each run's last values: columns condition, layer (``""``: the network), call, run, and the names."""
        found = pd.DataFrame(columns=[*GROUP, "run"])
        for name in names:
            track = self.given.scalars.tracks.get((name, phase or self.phase))
            if track is not None:
                one = track.last_rows(self.given.runs, self._wanted).rename(columns={"value": name})
                found = found.merge(one, on=[*GROUP, "run"], how="outer", sort=False)
        return found.reindex(columns=[*GROUP, "run", *names])

    def network(self, *names: str) -> pd.DataFrame:
        """Return those of the network as a whole."""
        found = self.last(*names)
        return found[found["layer"] == ""]

    def layers(self, *names: str) -> pd.DataFrame:
        """Return those of layers."""
        found = self.last(*names)
        return found[found["layer"] != ""]

    def members(self, base: str) -> list[float]:
        """Return the values of its parameter at which a family was measured, ascending."""
        known = (base_and_x(name) for name, phase in self.given.scalars.tracks if phase == self.phase)
        return sorted({x for name, x in known if name == base and x is not None})

    def early(self, name: str) -> tuple[dict[str, float], set[float]]:
        """Return each run's mean over what was measured early in training, and at which steps that was."""
        track = self.given.scalars.tracks.get((name, self.phase))
        if track is None or NETWORK not in track.sites:
            return {}, set()
        inside = (track.steps > 0) & (track.steps <= EARLY * self._training(track))
        if not inside.any():
            return {}, set()
        values = track.means[track.sites.index(NETWORK)][:, inside]
        # a mean over fewer steps than those of others is another number: one that is missing makes it missing
        means = np.exp(np.log(values).mean(axis=1)) if track.log else values.mean(axis=1)
        return dict(zip(self.given.runs.labels(), means.tolist(), strict=True)), set(track.steps[inside].tolist())

    def over_runs(
        self, frame: pd.DataFrame, by: Sequence[str], values: Sequence[str], also: Sequence[str] = ()
    ) -> list[dict[Any, Any]]:
        """Return means over the runs that have a value, in the page's order of conditions and layers.

        Parameters
        ----------
        frame : DataFrame
            As `last` returns it.
        by : sequence of str
            Columns that name a row.
        values : sequence of str
            Columns of numbers; a run counts that has any of them.
        also : sequence of str
            Further ones that are averaged.
        """
        frame = frame[frame[list(values)].notna().any(axis=1)]
        if frame.empty:
            return []
        made = over_seeds(frame, by, [*values, *also])
        conditions = {name: i for i, name in enumerate(self.given.runs.conditions)}
        keys = [made["condition"].map(conditions)]
        if "layer" in made:
            sites = list(zip(made["layer"], made["call"], strict=True))
            places = {site: i for i, site in enumerate(self.given.runs.places.sorted(list(dict.fromkeys(sites))))}
            keys.insert(0, pd.Series([places[site] for site in sites]))
        order = np.lexsort([key.to_numpy() for key in keys])  # the last key comes first
        records: list[dict[Any, Any]] = made.iloc[order].to_dict("records")
        return records

    def _wanted(self, layer: str) -> bool:
        # what belongs to the network as a whole is shown whatever layers were asked for
        return not layer or self.given.keep(layer)

    def _training(self, track: Track) -> float:
        steps = max((int(run.meta.get("steps") or 0) for run in self.given.runs), default=0)
        return float(steps or track.steps.max())
