"""What is swept over: axes, their combinations, and what runs are called."""

from __future__ import annotations

import itertools
import math
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from dropdiag.errors import ArgumentError
from dropdiag.printable import printable
from dropdiag.store.new_files import file_name

Value: TypeAlias = int | float | bool | str
Point: TypeAlias = dict[str, Value]
"""Value by axis: one combination."""

CONDITION: Final = "condition"
SEED: Final = "seed"
SWEEP: Final = "sweep"
OWN: Final = (CONDITION, SEED, SWEEP)
"""Keys of a run's config that a sweep fills itself."""
_COMMA: Final = re.compile(r",(?![^(]*\))")
_NAMES: Final = {"true": True, "false": False}


def points(over: Mapping[str, Iterable[Any]] | Sequence[Mapping[str, Any]]) -> list[Point]:
    """Return the combinations that are asked for, in order.

    Parameters
    ----------
    over : mapping, or sequence of mappings
        Axis -> values, of which all combinations are taken; or the combinations themselves.

    Raises
    ------
    ArgumentError
        If there is none, an axis has no value or one that comes twice, or a value is no number, text or boolean.
    """
    if isinstance(over, Mapping):
        axes = {axis: _values(axis, values) for axis, values in over.items()}
        found = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())] if axes else []
    elif isinstance(over, Sequence) and all(isinstance(one, Mapping) for one in over):
        found = [{axis: checked(axis, value) for axis, value in one.items()} for one in over]
    else:
        raise ArgumentError(f"over= takes axis -> values, as {{'rate': [0, 0.1, 0.3]}}, got {over!r}")
    if not found or not all(found):
        raise ArgumentError("over= has no axis; give one, as {'rate': [0, 0.1, 0.3]}")
    if len({frozenset(point) for point in found}) > 1:
        raise ArgumentError("the combinations of over= differ in their axes; give each a value of every axis")
    _check_names(found)
    return found


def _values(axis: str, values: Iterable[Any]) -> list[Value]:
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
        raise ArgumentError(f"the axis {axis!r} takes a list of values, got {values!r}")
    found = [checked(axis, value) for value in values]
    if not found:
        raise ArgumentError(f"the axis {axis!r} has no value; give at least one")
    return found


def checked(key: str, value: Any) -> Value:
    """Return a value of an axis or a setting as Python's own; raise `ArgumentError` for what a config cannot hold."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # of numpy or torch
        value = value.item()
    if not isinstance(value, (bool, int, float, str)) or (isinstance(value, float) and not math.isfinite(value)):
        raise ArgumentError(f"{key!r} takes finite numbers, texts and booleans, got {value!r}")
    return value


def _check_names(found: Sequence[Point]) -> None:
    for axis in found[0]:
        if not isinstance(axis, str) or not axis or printable(axis) != axis or axis in OWN:
            raise ArgumentError(f"an axis is called by a text other than {', '.join(OWN)}; got {axis!r}")
    labels = [label(point) for point in found]
    twice = sorted({one for one in labels if labels.count(one) > 1})
    if twice:
        raise ArgumentError(f"over= has {', '.join(twice)} twice; give each value once")


def label(point: Mapping[str, Value]) -> str:
    """Return what a combination is called: ``rate=0.3, lr=0.01``."""
    return ", ".join(f"{axis}={text(value)}" for axis, value in point.items())


def run_name(point: Mapping[str, Value], seed: int) -> str:
    """Return the folder name of a run: ``rate-0.3-lr-0.01-s0``; one that no file may have ends in a digest."""
    words = [part for axis, value in point.items() for part in (axis, text(value))]
    return file_name("-".join([*words, f"s{seed}"]))


def text(value: Value) -> str:
    """Return a value as text, equal numbers alike: 0.30 and 0.3, 1 and 1.0."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return str(int(value)) if whole else str(value)


def order(point: Mapping[str, Value]) -> tuple[Any, ...]:
    """Return by what combinations are sorted: numbers first, ascending, then texts."""
    return tuple((isinstance(value, str), value) for value in point.values())


def parsed(given: str) -> tuple[str, list[Value]]:
    """Return the axis and the values of ``NAME=VALUE,VALUE``; commas between parentheses part none.

    Raises
    ------
    ArgumentError
        If it is not written so.
    """
    name, equals, values = given.partition("=")
    if not equals or not name or not values:
        raise ArgumentError(f"an axis is given as NAME=VALUE,VALUE, as rate=0,.1,.3; got {given!r}")
    return name, [value_of(one.strip()) for one in _COMMA.split(values)]


def setting(given: str) -> tuple[str, list[Value]]:
    """Return the key and the one value of ``NAME=VALUE``.

    Raises
    ------
    ArgumentError
        If it is not written so, or has several values.
    """
    name, equals, values = given.partition("=")
    found = [value_of(one.strip()) for one in _COMMA.split(values)]
    if not equals or not name or not values or len(found) > 1:
        raise ArgumentError(f"a setting is given as NAME=VALUE, as epochs=20, of one value; got {given!r}")
    return name, found


def pairs(given: Iterable[tuple[str, list[Value]]]) -> dict[str, list[Value]]:
    """Return axes with their values; raise `ArgumentError` where one is given twice."""
    found: dict[str, list[Value]] = {}
    for name, values in given:
        if name in found:
            raise ArgumentError(f"{name!r} is given twice; give all of its values at once, as {name}=0,.1,.3")
        found[name] = values
    return found


def seeds_of(given: str) -> int | list[int]:
    """Return what ``5`` or ``3,4,5`` means as seeds; raise `ArgumentError` where it is neither."""
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() for word in words):
        raise ArgumentError(f"seeds= takes their number, or whole numbers as 3,4,5; got {given!r}")
    return int(words[0]) if len(words) == 1 else [int(word) for word in words]


def value_of(word: str) -> Value:
    """Return a word of a command line as a number or a boolean, if it is one."""
    if word.lower() in _NAMES:
        return _NAMES[word.lower()]
    number = _number(word)
    return word if number is None else number


def _number(word: str) -> int | float | None:
    try:
        return int(word) if word.lstrip("+-").isdecimal() else float(word)
    except ValueError:
        return None


def checked_seeds(seeds: int | Iterable[int]) -> tuple[int, ...]:
    """Return seeds 0 to n - 1, or those that are given; raise `ArgumentError` where these cannot be."""
    try:
        given = range(seeds) if isinstance(seeds, int) and not isinstance(seeds, bool) else seeds
        found = tuple(map(operator.index, given))  # type: ignore[arg-type]
    except TypeError:
        found = ()
    whole = all(0 <= seed < 2**32 for seed in found)  # what numpy takes
    if not found or not whole or len(set(found)) < len(found):
        raise ArgumentError(f"seeds= takes their number, or whole numbers from 0 to 2^32 - 1, each once; got {seeds!r}")
    return found
