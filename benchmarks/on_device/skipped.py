"""The tests that skip where there is no GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from on_device.page import Section
from on_device.setting import Setting

ROOT = Path(__file__).parents[2]
MARKS = ("pytest.mark.cuda", "from tests.devices import")


def tests(setting: Setting) -> Section:
    """Run the tests that are marked with ``cuda``, and give pytest's last lines."""
    section = Section("Tests that skip without a GPU")
    files = marked()
    if not files:
        section.problems.append("no test has the mark `cuda`: run this from the repository")
        return section
    command = ["-m", "pytest", "-m", "cuda", "-rs", "-q", "-p", "no:cacheprovider", *files]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    tail = "\n".join(done.stdout.strip().splitlines()[-40:])
    section.lines = [f"`python {' '.join(command)}`", f"```\n{tail or done.stderr[-2000:]}\n```"]
    if done.returncode or (setting.on_gpu and "skipped" in tail.splitlines()[-1]):
        section.problems.append("some of them failed, or were skipped all the same")
    return section


def marked() -> list[str]:
    """Return the files of the tests that need a GPU."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [str(path.relative_to(ROOT)) for path in files if _has_mark(path)]


def _has_mark(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    return any(mark in text for mark in MARKS)
