"""Whether the numbers that a measurement is asked for are numbers that can be used."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dropdiag.errors import ArgumentError


def check_seed(seed: object) -> None:
    """Refuse a seed that is no whole number."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ArgumentError(f"seed must be a whole number, got {seed!r}")


def check_count(what: str, number: object, least: int = 1) -> None:
    """Refuse a number of passes that is none."""
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ArgumentError(f"{what} must be a whole number of at least {least}, got {number!r}")


def check_positive(what: str, number: object) -> None:
    """Refuse what is no positive finite number."""
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0.0 < number < math.inf:
        raise ArgumentError(f"{what} must be a positive finite number, got {number!r}")


def check_sizes(what: str, sizes: object) -> None:
    """Refuse what is no sequence of positive numbers, each of which has a name of its own."""
    if isinstance(sizes, str) or not isinstance(sizes, Sequence) or not sizes:
        raise ArgumentError(f"{what} must be a sequence of positive numbers, got {sizes!r}")
    for size in sizes:
        check_positive(f"each of {what}", size)
    names = [f"{size:g}" for size in sizes]
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ArgumentError(f"{what} has {twice[0]} twice (to six digits, by which they are recorded): leave one out")
