"""The seed of a run: an integer of any size and sign, as a config may hold it, and as a column of a frame."""

from __future__ import annotations

import operator
import re
import reprlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, cast

from dropdiag.errors import ArgumentError

if TYPE_CHECKING:
    from pandas.api.extensions import ExtensionArray

_INTEGER: Final = re.compile(r"\s*[+-]?[0-9]+\s*")
DIGITS: Final = 76
"""Most digits of a seed: as many as a column of decimal numbers has."""


def seed_of(config: Mapping[str, Any]) -> int | None:
    """Return ``config["seed"]`` as an integer; None where there is none.

    Parameters
    ----------
    config : mapping
        The seed may be an integer of any size (`torch.seed` gives up to 2^64 - 1), one of numpy's, a float that is
        whole (``3.0``), or a text that is an integer (``"3"``, as it comes from a command line); of at most `DIGITS`
        digits.

    Raises
    ------
    ArgumentError
        If it is anything else, ``True`` and 3.5 among them: two runs would be paired that do not belong together.
    """
    seed = config.get("seed")
    if seed is None:
        return None
    found = _integer(seed)
    if found is None or abs(found) >= 10**DIGITS:
        got = (
            reprlib.repr(seed) if found is None else f"one of {found.bit_length():,} bits: {DIGITS} digits are the most"
        )
        raise ArgumentError(f"config['seed'] must be an integer, got {got}; it pairs runs across conditions")
    return found


def _integer(seed: Any) -> int | None:
    if isinstance(seed, str):
        return int(seed) if len(seed) <= 2 * DIGITS and _INTEGER.fullmatch(seed) else None
    if isinstance(seed, float):
        return int(seed) if seed.is_integer() else None
    if type(seed).__name__ in ("bool", "bool_"):  # a truth is an index to Python, too
        return None
    try:
        return operator.index(seed)
    except TypeError:
        return None


def seed_column(seeds: Sequence[int | None]) -> ExtensionArray:
    """Return seeds as a column of a frame, every digit kept.

    Parameters
    ----------
    seeds : sequence of int or None

    Returns
    -------
    ExtensionArray
        Of pandas' ``Int64`` where all of them fit; else ``UInt64`` where those do; else (a negative seed beside one
        from 2^63 on, or one from 2^64 on) Arrow's decimal numbers without decimals, which sort and group as integers
        do and go into Parquet and CSV files as they are; one from 2^63 on is compared with ``decimal.Decimal(seed)``.
        A missing seed is ``<NA>``.
    """
    import pandas as pd  # noqa: PLC0415 - opening runs needs no pandas

    make: Any = pd.array  # its overloads know no name of a type that is chosen here
    known = [seed for seed in seeds if seed is not None]
    least, most = min(known, default=0), max(known, default=0)
    # never by way of floats, which hold 53 bits: two seeds would become one
    for dtype, low, high in (("Int64", -(2**63), 2**63), ("UInt64", 0, 2**64)):
        if low <= least and most < high:
            return cast("ExtensionArray", make(list(seeds), dtype=dtype))
    import pyarrow as pa  # noqa: PLC0415 - as above

    fits = max(-least, most) < 10**38
    exact = pd.ArrowDtype(pa.decimal128(38, 0) if fits else pa.decimal256(DIGITS, 0))
    return cast("ExtensionArray", make([None if seed is None else Decimal(seed) for seed in seeds], dtype=exact))


def in_javascript(seed: int | None) -> int | str | None:
    """Return a seed as JavaScript can hold it: a number up to 2^53, beyond which it loses digits, else text."""
    return seed if seed is None or abs(seed) <= 2**53 else str(seed)
