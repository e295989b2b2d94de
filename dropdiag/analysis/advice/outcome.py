"""What runs are judged by: the held-out scalar that a rate is chosen by, and the one that it is reported on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from dropdiag.analysis.compare.measures import VALIDATION as VALIDATION_WORDS
from dropdiag.analysis.compare.measures import is_accuracy, is_validation, less_is_better, words
from dropdiag.analysis.phases import listed
from dropdiag.errors import ArgumentError
from dropdiag.store.asked import did_you_mean
from dropdiag.store.schema import TRAIN

VALIDATION, TEST, HELD_OUT, TRAINING_DATA, TRAINING = "validation", "test", "held-out", "training data", "training"
_SETS: Final = frozenset({
    *VALIDATION_WORDS, "test", "eval", "evaluation", "held", "out", "heldout", "train", "training", "data", "set",
})  # fmt: skip
"""Words that name a set of data and not what is measured on it."""
CHOSEN_ON: Final = (VALIDATION, HELD_OUT, TEST)
"""The first of these that was recorded is what a rate is chosen on."""
REPORTED_ON: Final = {VALIDATION: (TEST, HELD_OUT, VALIDATION), HELD_OUT: (TEST, HELD_OUT), TEST: (TEST,)}
"""What it is chosen on -> what it is reported on, the first that was recorded."""


class Series(NamedTuple):
    """A scalar of the network in one phase."""

    phase: str
    name: str

    @property
    def data(self) -> str:
        """The data that it is of: validation, test, held-out, training data (without masks), or training itself."""
        said = {*words(self.phase), *words(self.name)}
        if is_validation(self.phase) or is_validation(self.name):
            return VALIDATION
        if "test" in said:
            return TEST
        if self.phase == TRAIN:
            return TRAINING
        return TRAINING_DATA if said & {"train", "training"} else HELD_OUT

    @property
    def base(self) -> str:
        """What is measured: its name without words for the data."""
        return " ".join(word for word in words(self.name) if word not in _SETS) or self.name

    def __str__(self) -> str:
        return f"{self.phase}/{self.name}"


@dataclass(frozen=True)
class Outcome:
    """What runs are judged by.

    Attributes
    ----------
    chosen, reported : Series
        What the best rate is chosen by, and what its value is reported on; the same where one set alone was recorded.
    """

    chosen: Series
    reported: Series

    @property
    def less(self) -> bool:
        """Whether less of it is better."""
        return less_is_better(self.chosen.name)

    @property
    def name(self) -> str:
        """What it is called in a sentence: "validation accuracy"."""
        return f"{self.chosen.data} {self.chosen.base}"

    @property
    def same(self) -> bool:
        """Whether it is chosen and reported on the same data."""
        return self.chosen == self.reported


def outcome(series: Collection[Series], scalar: str | None = None) -> Outcome | None:
    """Find what runs are judged by.

    Parameters
    ----------
    series : collection of Series
        Scalars of the network, without dropdiag's own.
    scalar : str, optional
        Name of one ("accuracy", "val_acc"), with its phase before it ("validation/accuracy") where several have it. By
        default an accuracy, else a loss, else the only one there is.

    Returns
    -------
    Outcome or None
        None where nothing was recorded on held-out data.

    Raises
    ------
    ArgumentError
        If there is no such scalar, or several would do.
    """
    held_out = [one for one in series if one.data in CHOSEN_ON]
    if scalar is not None:
        held_out = _asked(held_out, scalar)
    elif held_out:
        held_out = _usual(held_out)
    for data in CHOSEN_ON:
        if found := [one for one in held_out if one.data == data]:
            chosen = _only(found)
            mine = [one for one in series if one.base == chosen.base]
            return Outcome(chosen, _reported(mine, data, chosen))
    return None


def _asked(held_out: Sequence[Series], scalar: str) -> list[Series]:
    base = Series("", scalar).base
    for found in (
        [one for one in held_out if str(one) == scalar],
        [one for one in held_out if one.name == scalar],
        [one for one in held_out if one.base == base],
    ):
        if found:
            return found
    known = list(dict.fromkeys(one.name for one in held_out))
    raise ArgumentError(f"no held-out scalar {scalar!r}{did_you_mean(scalar, known)} recorded are {listed(known)}")


def _usual(held_out: Sequence[Series]) -> list[Series]:
    for wanted in (is_accuracy, less_is_better):
        bases = {one.base for one in held_out if wanted(one.name)}
        # of several losses the one that is called so is meant, and not a part of it
        base = next(iter(bases)) if len(bases) == 1 else next((b for b in bases if b in ("accuracy", "loss")), None)
        if base is not None:
            return [one for one in held_out if one.base == base]
    bases = {one.base for one in held_out}
    if len(bases) > 1:
        names = listed(sorted({one.name for one in held_out}))
        raise ArgumentError(
            f"several held-out scalars may be what runs are judged by, {names}; choose one with scalar="
        )
    return list(held_out)


def _only(found: Sequence[Series]) -> Series:
    if len(found) > 1:
        names = ", ".join(sorted(repr(str(one)) for one in found))
        raise ArgumentError(f"{found[0].base!r} was recorded on several sets of data, {names}; choose with scalar=")
    return found[0]


def _reported(series: Sequence[Series], data: str, chosen: Series) -> Series:
    for wanted in REPORTED_ON[data]:
        found = [one for one in series if one.data == wanted]
        if len(found) == 1:
            return found[0]
    return chosen
