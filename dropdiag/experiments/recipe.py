"""How the runs of an experiment are trained; nothing here draws, since every training imports it anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias

from dropdiag.experiments.data.datasets import Images
from dropdiag.experiments.settings import S

Progress: TypeAlias = Callable[[int, float | None], None]
"""Called after every step with (step, None) and after every evaluation with (step, test accuracy)."""


@dataclass(frozen=True)
class Recipe(Generic[S]):
    """How a run is trained.

    Attributes
    ----------
    settings : type
        Of a run.
    prepare : callable
        Settings and data -> the settings with what the data decide. It may raise `ArgumentError` or `DataError`.
    place : callable
        Settings -> the settings with what the machine decides that trains. It may raise `ArgumentError`.
    train : callable
        Settings, data, path of the run folder to be made, `Progress`: trains and records one run, prepared and placed.
    """

    settings: type[S]
    prepare: Callable[[S, Images], S]
    place: Callable[[S], S]
    train: Callable[[S, Images, Path, Progress], None]
