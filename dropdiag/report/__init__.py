"""Runs -> one HTML file that opens anywhere. Needs no torch.

``dropdiag.report`` is this package and can be called: ``dropdiag.report(runs, "report.html")`` is
`dropdiag.report.page.report`, whatever was imported before.

`data` gathers what is shown: `series` and `distributions` read all scalars and histograms of the runs once,
`diagnostics` makes a figure and a table of each part, `verdicts` and `flows` take theirs from the comparison,
`run_tables` from each ``run.json``. `binary` packs numbers and names for the page, `page` writes it; `serve` shows it
while runs train.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package that can be called: its name is also the function's."""

    def __call__(
        self,
        runs: Any,
        path: str | Path,
        *,
        title: str | None = None,
        baseline: str | None = None,
        layers: Sequence[str] | None = None,
        claims: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write one self-contained HTML page about runs; see `dropdiag.report.page.report`."""
        from dropdiag.report.page import report  # noqa: PLC0415 - jinja2 and matplotlib are not paid by an import

        return report(runs, path, title=title, baseline=baseline, layers=layers, claims=claims)


sys.modules[__name__].__class__ = _Callable
