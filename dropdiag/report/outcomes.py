"""What each condition came to: its scores on held-out data, in training, and the gap between the two."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dropdiag.analysis.compare.measures import less_is_better
from dropdiag.analysis.seeds import over_seeds
from dropdiag.report.cells import Column, Table, integers, numbers, table, texts
from dropdiag.report.series import NETWORK, Scalars, Track
from dropdiag.store.reader import Runs
from dropdiag.store.schema import EVAL, TRAIN, quantity_of

Floats = NDArray[np.float64]
TAIL: Final = 0.1
"""The training number is the mean over this part of training, before the last evaluation."""
_HELD_OUT: Final = re.compile(r"(?<![a-z])(val|valid|validation|dev|test|eval|held[_ -]?out)(?![a-z])", re.IGNORECASE)
_TRAINING: Final = re.compile(r"(?<![a-z])(train|training)(?![a-z])", re.IGNORECASE)
_MORE_IS_BETTER: Final = re.compile(r"(?<![a-z])(acc|accuracy|f1|auc|auroc|top\d|precision|recall|bleu|score)(?![a-z])")
FIRST: Final = ("accuracy", "acc", "loss")
NOTE: Final = (
    "Mean (sd over runs). Held out: each run’s last evaluation, which nobody chose. Training: the mean over the last "
    "tenth of training before it, as it was logged: with masks on, where the network has dropout. The gap is above 0 "
    "where the training number is the better one."
)
NO_GAP: Final = "There is no gap: nothing was recorded both in training and on held-out data."


@dataclass(frozen=True)
class Score:
    """A score in one phase: how it is called, and the values over training."""

    name: str
    phase: str
    track: Track

    @property
    def held_out(self) -> bool:
        """Whether it is of held-out data, by its name, else by its phase."""
        if _HELD_OUT.search(self.name) or _TRAINING.search(self.name):
            return _HELD_OUT.search(self.name) is not None
        return self.phase != TRAIN

    @property
    def kind(self) -> str:
        """What it measures, without the word that says on which data."""
        bare = _TRAINING.sub("", _HELD_OUT.sub("", self.name.lower()))
        return re.sub(r"[^a-z0-9]+", " ", bare).strip()


def is_score(name: str) -> bool:
    """Whether a scalar's name says that more or less of it is better: an accuracy, a loss."""
    return less_is_better(name) or _MORE_IS_BETTER.search(name.lower()) is not None


def outcomes(scalars: Scalars, runs: Runs) -> Table | None:
    """Return held-out scores, training scores and gaps, a row a condition; None where no score was recorded held out.

    Parameters
    ----------
    scalars : Scalars
    runs : Runs
    """
    # what dropdiag measured by itself, such as the loss under noise, is no score that was logged
    scores = [Score(name, phase, track) for (name, phase), track in scalars.tracks.items()
              if NETWORK in track.sites and is_score(name) and quantity_of(name) is None]  # fmt: skip
    kinds = dict.fromkeys(one.kind for one in scores if one.held_out)
    if not kinds:
        return None
    columns: dict[str, Floats] = {}
    gaps = False
    for kind in sorted(kinds, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name)):
        held = [one for one in scores if one.kind == kind and one.held_out]
        training = next((one for one in scores if one.kind == kind and not one.held_out), None)
        for one in sorted(held, key=lambda score: (score.phase != EVAL, score.name)):
            called = f"{one.name}, held out" if one.phase == EVAL else f"{one.name}, {one.phase}"
            called = f"{one.name}, logged in training" if one.phase == TRAIN else called
            last, step = _last(one.track)
            columns[called] = last
            if training is not None:
                known = _before(training.track, step)
                columns.setdefault(f"{training.name}, training", known)
                gap = last - known if less_is_better(one.name) else known - last
                columns[f"gap: {one.name}"] = gap
                gaps = gaps or bool(np.isfinite(gap).any())
    return _table(columns, runs, NOTE if gaps else f"{NOTE} {NO_GAP}")


def _last(track: Track) -> tuple[Floats, NDArray[np.int64]]:
    """Return each run's last value, NaN where it is not finite or there is none, and its step."""
    place = track.sites.index(NETWORK)
    values = track.last[place]
    return np.where(np.isfinite(values), values, np.nan), track.last_steps[place]


def _before(track: Track, until: NDArray[np.int64]) -> Floats:
    """Return each run's mean over the last part of training before a step of its own."""
    place = track.sites.index(NETWORK)
    means, steps, counts = track.means[place], track.steps, track.counts[place]
    inside = (steps <= until[:, None]) & (counts > 0)
    last = np.where(inside, steps, -np.inf).max(axis=1, initial=-np.inf)
    # bins may be wider than the tail: the last one before the evaluation always belongs to it
    tail = inside & ((steps > (1.0 - TAIL) * until[:, None]) | (steps == last[:, None]))
    number = np.where(tail, counts, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0 of a run without a value
        return np.asarray(np.where(tail, means * counts, 0.0).sum(axis=1) / number.sum(axis=1), np.float64)


def _table(columns: Mapping[str, Floats], runs: Runs, note: str) -> Table:
    frame = pd.DataFrame({**columns, "condition": [run.condition for run in runs]})
    known = frame[frame[list(columns)].notna().any(axis=1)]
    made = over_seeds(known, ["condition"], list(columns)).set_index("condition")
    order = [name for name in runs.conditions if name in made.index]
    records = made.loc[order].reset_index().to_dict("records")
    heads: list[Column] = [texts("Condition", "condition"), *(numbers(name, name, ".4g") for name in columns)]
    heads.append(integers("Runs", "seeds"))
    # a run that has no last value, or an infinite one, is none of those that the mean is of
    heads += [integers("Of them without some number", "missing")] if (made["missing"] > 0).any() else []
    return table("How well each condition does", records, heads, note)
