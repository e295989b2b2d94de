"""What a Recorder writes passes the door: checked where it begins, and kept within the limits while it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from dropdiag.errors import ArgumentError
from dropdiag.printable import well_formed
from dropdiag.store import limits
from dropdiag.store.door import bounds, meaning, reading

LISTS: Final = {
    "disabled_probes": "probes were disabled",
    "interventions": "interventions were made",
    "missing": "measurements lack something",
}


def check_config(config: Mapping[str, Any]) -> None:
    """Raise `ArgumentError` unless a config that is JSON can be read again."""
    content = json.dumps({"config": config}, allow_nan=False).encode()
    try:
        problem = meaning.free_problem(reading.parsed(content))
    except reading.RefusedError as refused:
        problem = str(refused)
    if problem is not None:
        raise ArgumentError(f"config= cannot be recorded: {problem}; leave it out, or write it into a file of its own")


def check_new(content: bytes, *, resumed: bool) -> None:
    """Raise `ArgumentError` unless a ``run.json`` that is to be written can be read again, with room for what comes."""
    most, values = limits.RUN_JSON_BYTES_AT_FIRST, limits.VALUES_AT_FIRST
    if not resumed and (len(content) > most or bounds.count(content) > values):
        raise ArgumentError(
            f"run.json would begin with {len(content):,} bytes and up to {bounds.count(content):,} values, and "
            f"{most:,} and {values:,} are the most: record fewer layers (layers=), or give a smaller config"
        )
    try:
        reading.check(reading.parsed(content), content)
    except reading.RefusedError as refused:
        raise ArgumentError(f"a run is not begun whose run.json could not be read again: {refused}") from None


def check_name(what: str, name: object) -> None:
    """Raise `ArgumentError` unless a name can be written and read again."""
    if not isinstance(name, str):
        raise ArgumentError(f"{what} must be text, got {name!r}")
    if len(name) > limits.NAME:
        raise ArgumentError(f"{what} has {limits.NAME:,} characters at most, got one of {len(name):,}")
    if "\0" in name or well_formed(name) != name:
        raise ArgumentError(f"{what} must be text without NUL characters and halves of characters, got {name!r}")


def fitting(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``run.json`` says, with what comes up while recording kept within the limits.

    Sentences that are too long are cut, what is no text is escaped, and of lists that would grow without end it is said
    how many more entries there are.
    """
    told = {name: value for name, value in meta.items() if name != "sha256"}  # that of a file: a writer adds it
    left = {name: _bounded(told, name, _plain) for name in LISTS if told.get(name)}
    notes = [
        f"{number:,} more {LISTS[name]}, which run.json has no room for" for name, number in left.items() if number
    ]
    if more := _bounded(told, "warnings", text):
        notes.append(f"{more:,} more warnings were given, which run.json has no room for")
    if notes:
        told["warnings"] = [*told["warnings"], *notes]
    if isinstance(told.get("error"), str):
        told["error"] = text(told["error"])
    return told


def _bounded(told: dict[str, Any], name: str, plain: Callable[[Any], Any]) -> int:
    """Put what there is room for of a list in its place; return how many entries are left out."""
    given: Sequence[Any] = told.get(name) or ()
    size, kept = 0, list[Any]()
    for one in given:
        own = plain(one)
        size += len(own) if isinstance(own, str) else len(str(own))
        if size > limits.NOTES_BYTES:
            break
        kept.append(own)
    if given:
        told[name] = kept
    return len(given) - len(kept)


def text(given: str, most: int = limits.TEXT) -> str:
    """Return a sentence that can be written: cut where it is too long, with escapes for what is no text."""
    known = well_formed(given).replace("\0", "\\x00")
    return known if len(known) <= most else f"{known[: most - 60]}... (cut: it has {len(known):,} characters)"


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {key: text(one, limits.CAUSE) if key == "cause" and isinstance(one, str) else _plain(one)
                for key, one in value.items()}  # fmt: skip
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
