"""How the kernels' ratios to their references went, session by session, whatever the machines.

Reads what `make bench-history` kept. A cell is the median of a kernel's time over its reference's in the same seconds,
with quartiles for the last session; `slower` and `faster` mark a change of a tenth or more since the session before
whose quartiles do not overlap.

    python benchmarks/history.py [.benchmarks] [--sessions 4]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LEAST = 0.1
"""A change that counts, as a share."""


@dataclass(frozen=True)
class Session:
    """A run of the kernels' benchmarks."""

    date: str
    where: str
    commit: str
    kernels: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Session:
        """Read a file of pytest-benchmark; kernels that have no ratio are left out."""
        saved = json.loads(path.read_text(encoding="utf-8"))
        machine = saved["machine_info"]
        where = (machine.get("cpu") or {}).get("brand_raw") or machine.get("machine", "?")
        kernels = {each["name"]: each["extra_info"] for each in saved["benchmarks"] if "ratio" in each["extra_info"]}
        return cls(saved["datetime"][:16], where, (saved["commit_info"].get("id") or "?")[:10], kernels)


def sessions_in(folder: Path) -> list[Session]:
    """Return all sessions that have ratios, the oldest first."""
    found = [Session.read(path) for path in folder.rglob("*.json")]
    return sorted((session for session in found if session.kernels), key=lambda session: session.date)


def change(before: dict[str, Any] | None, now: dict[str, Any]) -> str:
    """Return "slower", "faster" or nothing; another reference cannot be compared."""
    if before is None or before["reference"] != now["reference"]:
        return ""
    if now["low"] > before["high"] and now["ratio"] > (1 + LEAST) * before["ratio"]:
        return "slower"
    if now["high"] < before["low"] and now["ratio"] < before["ratio"] / (1 + LEAST):
        return "faster"
    return ""


def lines(sessions: Sequence[Session]) -> list[str]:
    """Return the table: a line a kernel of the last session, a column a session."""
    *earlier, last = sessions
    width = max(map(len, last.kernels))
    named = [f"[{i}] {session.date}  {session.commit}  {session.where}" for i, session in enumerate(sessions, start=1)]
    heads = "".join(f"{f'[{i}]':>8}" for i in range(1, len(sessions) + 1))
    table = [f"{'kernel':<{width}}  {'over':<13}{heads}  {'quartiles':<15}"]
    for name, now in last.kernels.items():
        cells = "".join(_cell(session.kernels.get(name)) for session in sessions)
        found = change(earlier[-1].kernels.get(name) if earlier else None, now)
        table.append(f"{name:<{width}}  {now['reference']:<13}{cells}  {_quartiles(now):<15}{found}".rstrip())
    return [*named, "", *table]


def _quartiles(kernel: dict[str, Any]) -> str:
    return f"{kernel['low']:.3f}-{kernel['high']:.3f}"


def _cell(kernel: dict[str, Any] | None) -> str:
    return f"{kernel['ratio']:8.3f}" if kernel else f"{'–':>8}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path(".benchmarks"))
    parser.add_argument("--sessions", type=int, default=4, help="how many of the last sessions")
    options = parser.parse_args()
    sessions = sessions_in(options.folder)
    print("\n".join(lines(sessions[-options.sessions :])) if sessions else f"{options.folder}: no session with ratios")


if __name__ == "__main__":
    main()
