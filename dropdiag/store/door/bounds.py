"""Bounds on JSON as a whole, whatever it holds: number of values, depth, keys that stand twice, lengths of texts.

Each has a quick look at the bytes, which most files pass, and an exact one for those that do not.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Final

from dropdiag.store import limits

_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TOKENS: Final = re.compile(rb'"[^"]*"|[\[\]{}]')
_KEY: Final = re.compile(rb'"([^"]{1,200})"\s*:')


def has_many(content: bytes, most: int) -> bool:
    """Whether JSON may have more than so many values."""
    return len(content) > most and count(content) > most


def count(content: bytes) -> int:
    """Return how many values JSON has at most: each stands behind a comma, or is the first of its list or object."""
    return content.count(b",") + content.count(b"[") + content.count(b"{") + 1


def is_few(content: bytes) -> bool:
    """Whether it holds so few values that each can be looked at by itself."""
    return not has_many(content, limits.VALUES_TO_SEARCH)


def is_flat(content: bytes) -> bool:
    """Whether nothing lies deeper than `limits.DEPTH`; False also where brackets in texts hide it."""
    left = content.translate(None, _NO_BRACKETS)
    for _ in range(limits.DEPTH // 2):  # each round may take two levels away: an object of lists
        if not left:
            return True
        left = left.replace(b"[]", b"").replace(b"{}", b"")
    return not left


def too_deep(content: bytes) -> int | None:
    """Return where the first list or object begins that lies deeper than `limits.DEPTH`; None where none does."""
    depth = 0
    for token in _TOKENS.finditer(_without_escapes(content)):
        if token[0] in b"[{":
            depth += 1
            if depth > limits.DEPTH:
                return token.start()
        elif token[0] in b"]}":
            depth -= 1
    return None


def _without_escapes(content: bytes) -> bytes:
    """Return JSON of the same length in which each quote begins or ends a text."""
    return content.replace(b"\\\\", b"__").replace(b'\\"', b"__")


def last_key(content: bytes, place: int) -> str:
    """Return the last key before a place, as it is written; empty where there is none."""
    found = ""
    for match in _KEY.finditer(_without_escapes(content[max(0, place - 100_000) : place])):
        found = match[1].decode("utf-8", "backslashreplace")
    return found


def has_unique_keys(content: bytes, encoded: bytes) -> bool:
    """Whether no key stands twice in one object; False also where escapes hide it.

    Parameters
    ----------
    content : bytes
    encoded : bytes
        What was decoded, as JSON again: it has fewer colons where an entry was overwritten by another of its key.
    """
    return not has_escapes(content) and content.count(b":") == encoded.count(b":")


def has_escapes(content: bytes) -> bool:
    """Whether characters of ASCII are written as escapes, which hides colons and NULs."""
    return b"\\u00" in content


def repeated(content: bytes) -> str | None:
    """Return the path of the first key that stands twice in one object; None where none does."""
    twice: list[tuple[dict[str, Any], str]] = []

    def made(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and not twice:
            twice.append((found, Counter(key for key, _ in pairs).most_common(1)[0][0]))
        return found

    whole = json.loads(content, object_pairs_hook=made)
    if not twice:
        return None
    holder, key = twice[0]
    paths = walk(whole) if is_few(content) else ()
    return next((child(path, key) for path, value in paths if value is holder), key)


def child(path: str, key: str | int) -> str:
    """Return the path of an entry."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    if not re.fullmatch(r"\w{1,80}", key):
        shown = key if len(key) <= 60 else f"{key[:40]}...{key[-10:]}"
        return f"{path}[{shown!r}]" if path else repr(shown)
    return f"{path}.{key}" if path else key


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what JSON holds, with its path; without recursion, for it may be deep."""
    waiting = [(path, value)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, dict):
            waiting += [(child(path, key), one) for key, one in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(f"{path}[{place}]", one) for place, one in reversed(list(enumerate(value)))]


def longest(texts: Iterable[str]) -> str:
    """Return the longest of several texts."""
    return max(texts, key=len, default="")
