"""``dropdiag coverage``."""

from __future__ import annotations

from dropdiag.cli.common import AsJson, RunArgument, answer, clear_errors, one_run


@clear_errors()
def coverage(run: RunArgument, *, as_json: AsJson = False) -> None:
    """Show every site of a run's model: what was recorded of it, how often, and if not, why.

    **Example**

    - `dropdiag coverage runs/dropout-s0`
    """
    table = one_run(run).coverage()
    answer(table.as_dicts(), *str(table).split("\n"), as_json=as_json)  # each cell is printable
