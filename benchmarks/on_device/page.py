"""A page of Markdown, a section a part, written anew after each of them: what was measured is never lost."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from timing import machine

from on_device.setting import Setting


@dataclass
class Section:
    """What a part found; ``problems`` are what must not be."""

    title: str
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        problems = [f"**Not as it should be:** {problem}" for problem in self.problems]
        return "\n\n".join([f"## {self.title}", *self.lines, *problems])


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def head(setting: Setting, command: str) -> str:
    """Return the first lines: on what, with what, by which command."""
    device = platform.processor() or platform.machine()
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(0)
        device = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    small = " Tiny networks, to see that it runs: **no number here says anything.**" if setting.tiny else ""
    return f"# On {setting.device}\n\n{device}; {machine()}. Written by `{command}`.{small}"


def write(path: Path | None, top: str, sections: Iterable[Section]) -> None:
    """Write the page as far as it has come."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n\n".join([top, *map(str, sections)]) + "\n", encoding="utf-8")
