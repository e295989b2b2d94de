"""What a sweep asks for, and whether the runs of a folder are its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropdiag.errors import ArgumentError
from dropdiag.experiments.folders import Plan, planned
from dropdiag.experiments.sweep.axes import CONDITION, OWN, SEED, SWEEP, Point, Value, checked, label, run_name
from dropdiag.experiments.sweep.changes import change


@dataclass(frozen=True)
class Asked:
    """What decides the runs of a sweep, checked.

    Attributes
    ----------
    points : tuple of dict
        The combinations.
    seeds : tuple of int
    settings : mapping
        What all runs have in common.
    train : str
        What `train` is: a name, and the digest of its file.
    keep_changed : bool
        Whether runs of another state of that file are kept.
    """

    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Value]
    train: str
    keep_changed: bool = False

    @property
    def axes(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.points[0])

    @property
    def conditions(self) -> tuple[str, ...]:
        """What the combinations are called."""
        return tuple(map(label, self.points))

    def configs(self) -> dict[str, dict[str, Any]]:
        """Return the config of each run by its name, seed by seed: what is there after an interrupt makes pairs."""
        return {
            run_name(point, seed): {
                CONDITION: label(point), SEED: seed, **point, **self.settings, SWEEP: self.train,
            }
            for seed in self.seeds
            for point in self.points
        }  # fmt: skip

    def plan(self, out: Path) -> Plan[dict[str, Any]]:
        """Compare what is asked for with what a folder holds; reads only.

        Raises
        ------
        ArgumentError
            If it holds completed runs that were made otherwise.
        """
        return planned(out, self.configs(), self.check)

    def check(self, path: Path, meta: Mapping[str, Any]) -> None:
        """Raise `ArgumentError` unless a completed run is one of this sweep, perhaps of another value or seed."""
        config = meta["config"]
        if SWEEP not in config:
            raise ArgumentError(f"{path} is a run that no sweep made; choose another out")
        point = {axis: config.get(axis) for axis in self.axes}
        if None in point.values() or config.get(CONDITION) != label(point):
            axes = ", ".join(self.axes)
            raise ArgumentError(f"{path} is {config.get(CONDITION)!r}, of other axes than {axes}; choose another out")
        # What is missing in an older run has been a default of train's, perhaps another one.
        differing = [
            f"{key} {config.get(key)!r} there, {value!r} now"
            for key, value in self.settings.items()
            if config.get(key) != value
        ]
        if differing:
            what = "; ".join(differing)
            raise ArgumentError(f"{path} was completed with other settings ({what}); choose another out")
        if config[SWEEP] != self.train and not self.keep_changed:
            raise ArgumentError(
                f"{path} was trained by {config[SWEEP]}, and train now is {self.train}: what was changed may change "
                "numbers; choose another out, or where it changes none keep them by keep_changed="
            )


def checked_settings(settings: Mapping[str, Any] | None, points: tuple[Point, ...]) -> dict[str, Value]:
    """Return the settings; raise `ArgumentError` where one is no value or an axis already, or an axis cannot be set."""
    found = {key: checked(key, value) for key, value in (settings or {}).items()}
    if clashing := [key for key in found if key in OWN or key in points[0]]:
        raise ArgumentError(f"settings= has {clashing[0]!r}, an axis or what the sweep gives itself; leave it out")
    for point in points:
        for key, value in {**found, **point}.items():
            change(key, value)
    return found
