"""``dropdiag catalog``."""

from __future__ import annotations

import warnings

from dropdiag.cli.common import AsJson, RootArgument, answer, clear_errors, say

TEXT = "dropdiag catalog does nothing any more and will be removed: runs are read from their folders, fast enough"


@clear_errors()
def catalog(root: RootArgument, *, as_json: AsJson = False) -> None:
    """Do nothing: thousands of runs are read at once without a catalog. A folder ROOT/.catalog may be deleted.

    **Example**

    - instead, in Python: `dropdiag.Catalog("runs").runs()`
    """
    from dropdiag.store.catalog import Catalog  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is said below, of the command
        made = Catalog(root).update()
    say(f"DeprecationWarning: {TEXT}", err=True)
    answer(made._asdict(), f"{made.read:,} runs, nothing kept of them", as_json=as_json)
