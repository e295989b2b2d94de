"""The one rule for the phase that is meant where none is named."""

from __future__ import annotations

from collections.abc import Collection

from dropdiag.errors import ArgumentError
from dropdiag.store.schema import EVAL, TRAIN


def default_phase(phases: Collection[str], quantity: str) -> str:
    """Return ``"eval"`` where it was recorded, else the only other held-out phase, else ``"train"``.

    Parameters
    ----------
    phases : collection of str
        Those in which the quantity was recorded, of one run or of several that are set side by side.
    quantity : str
        For the message.

    Raises
    ------
    ArgumentError
        If there are several held-out phases, none of them ``"eval"``: which one is meant is for the user to say.
    """
    held_out = sorted(set(phases) - {TRAIN})
    if EVAL in held_out:
        return EVAL
    if len(held_out) > 1:
        names = ", ".join(map(repr, held_out))
        raise ArgumentError(f"{quantity!r} was recorded in several held-out phases, {names}; choose one with phase=")
    return (*held_out, TRAIN)[0]
