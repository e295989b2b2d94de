"""Which runs of an experiment have to be trained: finished ones are kept, broken ones moved, foreign ones refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from dropdiag.errors import ArgumentError
from dropdiag.experiments.folders import Plan, planned
from dropdiag.experiments.settings import OF_ONE_RUN, TrainSettings


def run_name(condition: str, seed: int) -> str:
    """Return the folder name of a run: ``no-dropout-s0``, ``batch-norm-gaaf-s1``."""
    return f"{condition.casefold().replace(' + ', '-').replace(' ', '-')}-s{seed}"


def make_plan(out: Path, wanted: Sequence[TrainSettings]) -> Plan[TrainSettings]:
    """Compare what is wanted with what `out` holds; reads only.

    Parameters
    ----------
    out : Path
        Folder of the experiment; its runs are in ``out/runs``.
    wanted : sequence of TrainSettings
        One a run, of one experiment; apart from condition and seed they are the same.

    Raises
    ------
    ArgumentError
        If `out` holds completed runs of other settings or other data, or runs of something else.
    """
    names = {run_name(settings.condition, settings.seed): settings for settings in wanted}
    return planned(out, names, lambda path, meta: _check_same(path, meta, wanted[0]))


def _check_same(path: Path, meta: Mapping[str, Any], wanted: TrainSettings) -> None:
    try:
        there = type(wanted).from_config(meta["config"])
    except (ArgumentError, KeyError, TypeError, AttributeError):
        raise ArgumentError(f"{path} is a run that `dropdiag reproduce` did not make; choose another --out") from None
    differing = [
        f"{f.name} {_shown(there, f.name)} there, {_shown(wanted, f.name)} now"
        for f in fields(wanted)
        if f.compare and f.name not in OF_ONE_RUN and getattr(there, f.name) != getattr(wanted, f.name)
    ]
    if differing:
        raise ArgumentError(
            f"{path} was completed with other settings ({'; '.join(differing)}); "
            f"choose another --out, or repeat the settings to go on with the runs there"
        )


def _shown(settings: TrainSettings, name: str) -> str:
    if name == "data":
        return f"{settings.source or 'unknown source'} (digest {settings.data[:12]})"
    return str(getattr(settings, name))
