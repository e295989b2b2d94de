"""The lock, read: what constraints.txt and bootstrap.txt pin, with hashes, and what asks for it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = ROOT / "constraints.txt"
BOOTSTRAP: Final = ROOT / ".ci" / "supply" / "bootstrap.txt"
SCOPES: Final = ROOT / ".ci" / "supply" / "scopes.json"

PIN: Final = re.compile(r"(?P<name>[a-z0-9.-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>.+?))?(?: \\)?")
HASH: Final = re.compile(r" {4}--hash=(?P<hash>sha256:[0-9a-f]{64})(?: \\)?")
VIA: Final = re.compile(r" {4}#(?: via| {2}) (?P<asker>\S.*)")


@dataclass(frozen=True)
class Pin:
    """One version of one package, and for which platforms (`marker`) it is the one."""

    name: str
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    askers: tuple[str, ...]


def pins(path: Path = LOCK) -> list[Pin]:
    """Return every pin of a lock; a line that is none of what `make lock` writes is an error."""
    found: list[tuple[re.Match[str], list[str], list[str]]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if pin := PIN.fullmatch(line):
            found.append((pin, [], []))
        elif one := HASH.fullmatch(line):
            found[-1][1].append(one["hash"])
        elif via := VIA.fullmatch(line):
            found[-1][2].append(via["asker"])
        elif not line.startswith("#") and line.strip() != "# via":
            raise ValueError(f"{path.name}, line {number}: no pin, hash or comment of a lock: {line!r}")
    return [
        Pin(pin["name"], pin["version"], pin["marker"], tuple(hashes), tuple(askers)) for pin, hashes, askers in found
    ]
