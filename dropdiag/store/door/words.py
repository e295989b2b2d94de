"""Why ``run.json`` is refused, in words: the field as a path, what stands there, what is wanted."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from dropdiag.store.door import bounds
from dropdiag.store.door.model import CHOICES, ENTRIES

_PATH: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>key` in `)?(?P<path>\$[^`]*)`)?$", re.DOTALL)
_PART: Final = re.compile(r"\.(?P<field>\w+)|\[(?P<place>\d+)\]|(?P<some>\[\.\.\.\])")
_KINDS: Final = {"int": "an integer", "float": "a number", "str": "text", "bool": "true or false", "null": "null",
                 "array": "a list", "object": "an object", "number": "a number"}  # fmt: skip
_LONG: Final = 40


def told(meta: Any, error: msgspec.ValidationError) -> str:
    """Return what is wrong with what was decoded: ``layers[3].kind is null, where text is wanted``.

    Parameters
    ----------
    meta : dict
    error : ValidationError
        What msgspec says of it.
    """
    match = _PATH.match(str(error))
    what, at = (str(error), "") if match is None else (match["what"], (match["path"] or "$")[1:])
    path, value, rest = _found(meta, at)
    if match is not None and match["key"]:
        path, value = f"a key of {path}", bounds.longest(value)
    if rest is not None:
        what = rest
    lacking = re.search(r"missing required field `(\w+)`", what)
    if lacking:
        return f"{bounds.child(path, lacking[1])} is missing"
    field = re.split(r"[.\[]", path)[-1]
    return f"{path or 'it'} is {shown(value)}, where {_wanted(what, field)} is wanted"


def _found(meta: Any, at: str) -> tuple[str, Any, str | None]:
    """Return the path of what is wrong, what stands there, and what is said of it where another look was needed.

    msgspec writes ``[...]`` for the key of an object whose keys are free: which one it is, is found out here.
    """
    path, value, last = "", meta, ""
    for part in _PART.finditer(at):
        if part["some"] is not None:
            return _entry(path, value, ENTRIES.get(last))
        key: Any = int(part["place"]) if part["place"] is not None else part["field"]
        path, value = bounds.child(path, key), value[key]
        last = last if part["place"] is not None else str(key)
    return path, value, None


def _entry(path: str, entries: Any, wanted: Any) -> tuple[str, Any, str | None]:
    """Return which entry of an object with free keys is wrong, and in what."""
    for key, entry in entries.items() if isinstance(entries, dict) and wanted is not None else ():
        error = _error(entry, wanted)
        if error is not None and (match := _PATH.match(error)) is not None:
            inner, value, _ = _found(entry, (match["path"] or "$")[1:])
            own = bounds.child(path, key)
            return (own + inner if inner.startswith("[") else f"{own}.{inner}" if inner else own), value, match["what"]
    return path, entries, None


def _error(entry: Any, wanted: Any) -> str | None:
    try:
        msgspec.convert(entry, wanted)
    except msgspec.ValidationError as error:
        return str(error)
    return None


def shown(value: Any) -> str:
    """Return what stands somewhere, in a few words."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (dict, list)):
        return f"{'an object' if isinstance(value, dict) else 'a list'} with {len(value):,} entries"
    if isinstance(value, str) and len(value) > _LONG:
        return f"a text of {len(value):,} characters ({value[:_LONG]!r}...)"
    if isinstance(value, int) and abs(value) >= 10**_LONG:
        return f"an integer of {value.bit_length():,} bits"
    return repr(value)


def _wanted(what: str, field: str) -> str:
    """Return what msgspec expects in words of JSON."""
    if what.startswith("Invalid") and field in CHOICES:
        return CHOICES[field]
    if what.startswith("Number out of range"):
        return "a number that is finite"
    match = re.match(r"Expected `(?P<kinds>[^`]+)`(?P<more>[^,]*)", what)
    if match is None:
        return f"another value ({what})"
    kinds = " or ".join(dict.fromkeys(_KINDS.get(one.strip(), one.strip()) for one in match["kinds"].split("|")))
    return f"{kinds}{match['more']}"
