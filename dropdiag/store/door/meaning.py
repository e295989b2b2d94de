"""What a model of types does not say of ``run.json``: what refers to what, and what several fields hold together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from dropdiag.store import limits
from dropdiag.store.door import bounds, words
from dropdiag.store.door.model import Run

TABLES: Final = ("layers", "coverage", "sessions", "chain")
CHAINED: Final = ("net", "node", "mask_input", "mask_output", "output")
"""Kinds of the tensors of a chain."""
_ENCODER: Final = msgspec.json.Encoder()
_BOUNDED: Final = frozenset(Run.__struct_encode_fields__) - {"config"}


def problem(meta: Mapping[str, Any], content: bytes) -> str | None:
    """Return what is wrong in a ``run.json`` of which each field has its type; None where all is well."""
    return next((found for check in _CHECKS if (found := check(meta, content)) is not None), None)


def _times(meta: Mapping[str, Any], _: bytes) -> str | None:
    for name in ("created", "ended"):
        text = meta[name]
        if text is not None and not _is_time(text):
            return f"{name} is {words.shown(text)}, where a time of ISO 8601 is wanted"
    return None


def _is_time(text: str) -> bool:
    try:
        return 1970 <= datetime.fromisoformat(text.replace("Z", "+00:00")).year <= 9998
    except ValueError:
        return False


def _links(meta: Mapping[str, Any], _: bytes) -> str | None:
    rows = meta.get("chain", ())
    for place, row in enumerate(rows):
        if row["kind"] not in CHAINED:
            return f"chain[{place}].kind is {words.shown(row['kind'])}, where one of {', '.join(CHAINED)} is wanted"
        if row["next"] is not None and row["next"] >= len(rows):
            return f"chain[{place}].next is {row['next']}, and the chain ends at {len(rows) - 1}"
    return None


def _sizes(meta: Mapping[str, Any], _: bytes) -> str | None:
    total = sum(one.get("world_size") or 1 for one in meta["sessions"])
    if total > limits.RANKS_OF_SESSIONS:
        return f"sessions have {total:,} processes in all, and {limits.RANKS_OF_SESSIONS:,} is the most"
    return None


def _keys(meta: Mapping[str, Any], content: bytes) -> str | None:
    for name in TABLES if len(content) > limits.FEW_BYTES else ():
        keys = set[str]().union(*meta.get(name, ()))
        if len(keys) > limits.KEYS:
            return f"the rows of {name} have {len(keys):,} different keys, and {limits.KEYS} is the most"
        if len(long := bounds.longest(keys)) > limits.NAME:
            return f"a row of {name} has a key of {len(long):,} characters, and {limits.NAME:,} is the most"
    return None


def _free(meta: Mapping[str, Any], _: bytes) -> str | None:
    return free_problem(meta)


def free_problem(meta: Mapping[str, Any]) -> str | None:
    """Bound what the model says nothing of: the config, and what stands under keys that it does not know."""
    free = {name: meta[name] for name in meta.keys() - _BOUNDED}
    encoded = _ENCODER.encode(free)
    if bounds.has_many(encoded, limits.FREE_VALUES):
        values = bounds.count(encoded)
        return f"{_most(free)} is too large: it holds up to {values:,} values, and {limits.FREE_VALUES:,} is the most"
    if (key := _long_key(free)) is not None:
        return f"{_most(free)} has a key that is {words.shown(key)}, and {limits.NAME:,} is the most"
    for path, value in bounds.walk(free) if len(encoded) > limits.STRING else ():
        if isinstance(value, str) and len(value) > limits.STRING:
            return f"{path} is {words.shown(value)}, and {limits.STRING:,} is the most"
    return None


def _most(free: Mapping[str, Any]) -> str:
    """Name the field that takes the most room."""
    return bounds.child("", max(free, key=lambda name: len(name) + len(_ENCODER.encode(free[name]))))


def _long_key(value: Any) -> str | None:
    """Return a key that is too long, at any depth."""
    if isinstance(value, dict):
        key = bounds.longest(value)
        if len(key) > limits.NAME:
            return key
        value = value.values()
    inside = (_long_key(one) for one in value if isinstance(one, (dict, list)))
    return next((key for key in inside if key is not None), None)


def _control(meta: Mapping[str, Any], content: bytes) -> str | None:
    """Refuse names with a NUL, which no file and no other program could hold; what the user's config says is free."""
    if b"\\u0000" not in content:
        return None
    for path, value in _outside(meta):
        if isinstance(value, str) and "\0" in value:
            return f"{path} is {words.shown(value)}, which holds a NUL character"
        if isinstance(value, dict) and (bad := next((key for key in value if "\0" in key), None)) is not None:
            return f"{bounds.child(path, bad)} has a NUL character in its name"
    return None


def _outside(meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return bounds.walk({name: value for name, value in meta.items() if name != "config"})


_CHECKS: Final[tuple[Callable[[Mapping[str, Any], bytes], str | None], ...]] = (
    _times, _links, _sizes, _keys, _free, _control
)  # fmt: skip
