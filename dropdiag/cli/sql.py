"""``dropdiag sql``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dropdiag.cli.common import AsJson, GroupsArgument, answer, check_folder, clear_errors, finish, groups
from dropdiag.errors import RunError, warned


@clear_errors()
def sql(
    runs: GroupsArgument,
    *,
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder; nothing is ever overwritten.")],
    as_json: AsJson = False,
) -> None:
    """Write views over runs, so that SQL answers questions about them: densities, saturation shares, weighted means.

    **views.sql** is for DuckDB 2.0 or newer; the small tables beside it say what the runs' Parquet files do not
    (**bins.parquet**: the bounds of every bin), for Polars and others. No row is copied: queries read the runs' files.

    **Examples**

    - `dropdiag sql "Base=runs/base-*" "Dropout=runs/drop-*" --out sql`, then `duckdb -init sql/views.sql`
    - `dropdiag sql runs --out sql`
    """
    out = check_folder(out)
    with warned() as problems:
        from dropdiag.integrations.sql.write import to_sql  # noqa: PLC0415 - pandas is not paid for --help
        from dropdiag.store.reader import open_runs  # noqa: PLC0415

        found, unreadable = open_runs(groups(runs), on_error="collect")
        if found is None:
            raise RunError("no run can be read. " + " ".join(unreadable))
        files = [str(file) for file in to_sql(found, out)]
    problems[:0] = unreadable
    document = {"runs": [str(run.path) for run in found], "files": files, "problems": problems}
    answer(document, *(f"wrote {name}" for name in files), as_json=as_json)
    finish(problems)
