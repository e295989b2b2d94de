"""Bytes of a ``run.json`` or ``rank.json`` in, a plain dict of which all is known out; or one `RunError`."""

from __future__ import annotations

import json
import re
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import msgspec

from dropdiag.errors import RunError
from dropdiag.printable import well_formed
from dropdiag.store import limits
from dropdiag.store.door import bounds, meaning, words
from dropdiag.store.door.model import Run
from dropdiag.store.garbage import no_garbage
from dropdiag.store.schema import FORMAT, READABLE

_DECODER: Final = msgspec.json.Decoder()
_ENCODER: Final = msgspec.json.Encoder()
_FIRST, _LEARNT = threading.Lock(), threading.Event()
LARGE: Final = 1 << 20
"""Bytes from which on the collector of garbage is noticed."""
_BYTE: Final = re.compile(r"\(byte (\d+)\)")
_SENTENCES: Final = ("error", "warnings", "disabled_probes")
ANEW: Final = "copy the run anew from where it was recorded"


class DamagedError(RunError):
    """What a run says of itself is not there to be read."""


class RefusedError(ValueError):
    """Content is not what it should be; the text says in what. `damaged`: it is JSON, of other content."""

    def __init__(self, reason: str, *, damaged: bool = True) -> None:
        super().__init__(reason)
        self.damaged = damaged


def read(content: bytes, file: Path) -> dict[str, Any]:
    """Return what a ``run.json`` or ``rank.json`` says, as a plain dict.

    Parameters
    ----------
    content : bytes
    file : Path
        Named where it is refused.

    Returns
    -------
    dict
        As it is written, keys of which the model knows nothing among it. Every field that readers ask for is there, of
        its type and in its range.

    Raises
    ------
    RunError
        If it is no JSON, not that of a run this version can read, or something in it is missing, of another type or
        out of all bounds. The message names the file and the field.
    """
    try:
        meta = parsed(content)
        _check_format(meta, file)
        check(meta, content)
    except RefusedError as refused:
        verb = "is damaged" if refused.damaged else "cannot be read"
        raise DamagedError(f"{file} {verb}: {refused}; {ANEW}") from None
    known: dict[str, Any] = meta
    return known


def parsed(content: bytes) -> Any:
    """Return what strict JSON holds, within the bounds of any JSON; raise `RefusedError` where it is none."""
    if bounds.has_many(content, limits.VALUES):
        values = bounds.count(content)
        raise RefusedError(f"{_largest(content)}there are up to {values:,} values, and {limits.VALUES:,} is the most")
    meta = _decoded(content)
    if not bounds.is_flat(content) and (place := bounds.too_deep(content)) is not None:
        raise RefusedError(_deep(content, place))
    if not bounds.has_unique_keys(content, _ENCODER.encode(meta)) and (key := bounds.repeated(content)) is not None:
        raise RefusedError(f"{key} stands twice in one object")
    return meta


def check(meta: Any, content: bytes) -> None:
    """Raise `RefusedError` unless what was parsed is a ``run.json`` in all of its fields."""
    if not _LEARNT.is_set():
        _learn_fields()
    try:
        msgspec.convert(meta, Run)
    except msgspec.ValidationError as error:
        raise RefusedError(words.told(meta, error)) from None
    if (problem := meaning.problem(meta, content)) is not None:
        raise RefusedError(problem)


def _learn_fields() -> None:
    """Let msgspec take apart what a Run is: it does so at the first use, and two threads at once crash the process."""
    with _FIRST:
        msgspec.json.Decoder(Run)
    _LEARNT.set()


def _decoded(content: bytes) -> Any:
    try:
        with no_garbage() if len(content) >= LARGE else nullcontext():
            return _DECODER.decode(content)
    except RecursionError:
        raise RefusedError(_deep(content, bounds.too_deep(content) or 0)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if (meta := _mended(content)) is not None:
            return meta
        raise RefusedError(_why(content, error), damaged=False) from None


def _mended(content: bytes) -> Any:
    """Return what is said in JSON in which only sentences hold halves of characters, these as escapes; else None.

    Earlier versions wrote them where a training failed at a file whose name is no UTF-8.
    """
    if b"\\u" not in content or not bounds.is_few(content):
        return None
    try:
        meta = json.loads(content, parse_constant=_Odd)
        told = {name: meta[name] for name in _SENTENCES if name in meta} if isinstance(meta, dict) else {}
        return _DECODER.decode(json.dumps({**meta, **_escaped(told)}).encode()) if told else None
    except (ValueError, TypeError, RecursionError, msgspec.DecodeError):  # no ValueError before msgspec 0.20
        return None


def _escaped(value: Any) -> Any:
    """Return sentences, at any depth, with escapes for halves of characters."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return well_formed(value) if isinstance(value, str) else value


def _deep(content: bytes, place: int) -> str:
    key = bounds.last_key(content, place)
    return f"{key or 'it'} holds lists and objects more than {limits.DEPTH} deep"


def _largest(content: bytes) -> str:
    """Name the field that takes the most room, where it can be told."""
    try:
        parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    name = max(parts, key=lambda name: len(memoryview(parts[name])), default=None)
    return "" if name is None else f"{bounds.child('', name)} is too large: "


def _why(content: bytes, error: Exception) -> str:
    """Say why bytes are no JSON, and where: by the field, as far as that can be told."""
    if content.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark (BOM), which JSON has not"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as bad:
        return f"{_near(content, bad.start)} is no UTF-8 at byte {bad.start:,}"
    place = _BYTE.search(str(error))
    at = len(content) if place is None else int(place[1])
    return _not_strict(content) or f"{_near(content, at)} is no JSON at byte {at:,} of {len(content):,}"


def _near(content: bytes, place: int) -> str:
    key = bounds.last_key(content, place)
    return f"what follows {key!r}" if key else "it"


def _not_strict(content: bytes) -> str | None:
    """Say what Python's JSON takes, and JSON does not: NaN, halves of characters, numbers without end."""
    if not bounds.is_few(content):
        return None
    try:
        meta = json.loads(content, parse_int=_integer, parse_float=_float, parse_constant=_Odd)
    except (ValueError, RecursionError):
        return None
    for path, value in bounds.walk(meta):
        if isinstance(value, _Odd):
            return f"{path} is {value.text}, which is no number of JSON that can be read"
        keys = list(value) if isinstance(value, dict) else [value] if isinstance(value, str) else []
        if any(well_formed(text) != text for text in keys):
            return f"{path or 'a key'} holds half of a character (a lone surrogate), which is no text"
    return None


class _Odd:
    """A number that is none."""

    def __init__(self, text: str) -> None:
        self.text = text


def _integer(digits: str) -> int | _Odd:
    return int(digits) if len(digits) <= 4300 else _Odd(f"an integer of {len(digits):,} digits")


def _float(digits: str) -> float | _Odd:
    value = float(digits)
    return value if abs(value) < float("inf") else _Odd(words.shown(digits) if len(digits) > 40 else digits)


def _check_format(meta: Any, file: Path) -> None:
    """Raise `RunError` unless it is that of a run, of a schema that can be read."""
    found = meta.get("format") if isinstance(meta, dict) else type(meta).__name__
    if found != FORMAT:
        raise RunError(f"{file} is not that of a dropdiag run: its format is {_named(found)}, not {FORMAT!r}")
    schema = meta.get("schema")
    if type(schema) is not int or schema not in READABLE:
        versions = meta.get("versions")
        wrote = versions.get("dropdiag") if isinstance(versions, dict) else None
        raise RunError(
            f"{file} has run schema {_named(schema)} and this version reads {', '.join(map(str, READABLE))}; "
            f"read it with the version that wrote it: {wrote if isinstance(wrote, str) else 'unknown':.80}"
        )


def _named(value: Any) -> str:
    return "None" if value is None else words.shown(value)
