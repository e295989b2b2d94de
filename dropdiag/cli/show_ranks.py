"""``dropdiag show --ranks``: the processes of a run side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dropdiag.cli.common import echo_json, finish, one_run
from dropdiag.cli.run_facts import facts_of, head
from dropdiag.cli.terminal import Page
from dropdiag.errors import warned
from dropdiag.formatting import plain

if TYPE_CHECKING:
    import pandas as pd

RANKS: Final = {"rank": "right", "state": "left", "steps": "right", "sessions": "right", "step, ms": "right",
                "recorder": "right", "differs": "left"}  # fmt: skip
SPREAD: Final = {"over ranks": "left", "step": "right", "ranks": "right", "mean": "right", "sd": "right",
                 "least": "right", "most": "right"}  # fmt: skip


def show_ranks(path: Path, *, as_json: bool) -> None:
    """Show a run's ranks: how far each came, what its steps took, in what it differs, how far its numbers lie apart.

    Parameters
    ----------
    path : Path
    as_json : bool
    """
    with warned() as problems:
        from dropdiag.store.listing import folder_size  # noqa: PLC0415 - pandas is not paid for --help

        run = one_run(path)
        taken, table, spread = folder_size(run.path), run.ranks.table, _last(run.ranks.spread(layer=[None]))
    if as_json:
        rows = {"each_rank": table.to_dict("records"), "spread": spread.to_dict("records")}
        echo_json({**facts_of(run, taken), "problems": problems, **rows})
    else:
        page = Page()
        head(page, run, taken)
        page.table(RANKS, [_rank(row) for row in table.itertuples(index=False)])
        if len(spread):
            page.line()
            page.table(SPREAD, [_quantity(row) for row in spread.itertuples(index=False)])
        page.show()
    finish(problems, "warning")


def _last(spread: pd.DataFrame) -> pd.DataFrame:
    """Return the last row of each of the run's own quantities."""
    return spread.groupby(["quantity", "phase"], sort=False).tail(1)


def _rank(row: Any) -> list[str]:
    step, share = plain(1e3 * row.step_seconds), plain(row.recorder_share, ".1%")
    return [str(row.rank), row.state, f"{row.steps:,}", str(row.sessions), step, share, row.differs]


def _quantity(row: Any) -> list[str]:
    numbers = [plain(value) for value in (row.mean, row.sd, row.minimum, row.maximum)]
    return [f"{row.quantity} ({row.phase})", f"{row.step:,}", str(row.ranks), *numbers]
