"""Memory of what waits for a disk, and for Arrow.

Arrow ends the process where it finds no memory in the middle of a table (an exception of C++ that nothing catches). So
it takes what it works with before training begins, and where that cannot be had is asked for little by little, memory
is asked for in its place first: that can fail.
"""

from __future__ import annotations

import io
import mmap
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dropdiag.store.rows import HistogramRow, ScalarRow, StateRow

ROW_BYTES: Final = 256
"""A row of Python objects, about, beside the numbers that it has in an array."""
BIN_BYTES: Final = 10
NUMBER_BYTES: Final = 8
WORK_BYTES: Final = 32 * 2**20
"""What Arrow may need to write a table, beside eight times its rows."""
IMPORT_BYTES: Final = 224 * 2**20
"""Address space that importing Arrow takes, about, with what it needs then."""
THREAD_BYTES: Final = 32 * 2**20
"""What a thread needs to begin: the system ends the process where a thread that runs finds no place for its own."""

_TOO_LITTLE: Final = "{megabytes} MB of memory cannot be had, which are needed to {what}"


class _Arrow:
    """What is known of Arrow in this process."""

    prepared = False


def of_rows(scalars: Sequence[ScalarRow], histograms: Sequence[HistogramRow], states: Sequence[StateRow]) -> int:
    """Return how much memory rows hold, about."""
    rows = len(scalars) + len(histograms) + len(states)
    bins = sum(len(row.bins) for row in histograms)
    return ROW_BYTES * rows + BIN_BYTES * bins + NUMBER_BYTES * sum(len(row.state) for row in states)


def check_for_arrow(size: int = 0) -> None:
    """Raise `MemoryError` where Arrow might not find the memory to write rows of a size."""
    check(WORK_BYTES + 8 * size, "write rows")


def check_for_joining(size: int) -> None:
    """Raise `MemoryError` where segments of a size might not be read again and joined.

    That loads more of Arrow than writing does, which ends the process where it finds no memory.
    """
    check(IMPORT_BYTES + WORK_BYTES + 8 * size, "join segments")


def check_for_thread() -> None:
    """Raise `MemoryError` where a thread might not find the memory to begin."""
    check(THREAD_BYTES, "start a thread")


def check_for_import() -> None:
    """Raise `MemoryError` where Arrow might not find the memory to be imported, unless it was."""
    if "pyarrow.parquet" not in sys.modules:
        check(IMPORT_BYTES, "import pyarrow")


def check(size: int, what: str) -> None:
    """Raise `MemoryError` where so many bytes cannot be had right now."""
    try:
        mmap.mmap(-1, size, access=mmap.ACCESS_COPY).close()  # nothing of it is touched
    except (OSError, ValueError, OverflowError):
        raise MemoryError(_TOO_LITTLE.format(megabytes=size // 2**20, what=what)) from None


def prepare_arrow() -> None:
    """Import Arrow and let it write a table, once a process.

    Raises
    ------
    MemoryError
        Where there is too little for that.
    """
    if _Arrow.prepared:
        return
    check_for_import()
    check(WORK_BYTES, "write rows")
    _write_a_table()
    _Arrow.prepared = True


def _write_a_table() -> None:
    from dropdiag.store import tables  # noqa: PLC0415 - pyarrow is not paid by `import dropdiag`
    from dropdiag.store.encoder import encoder  # noqa: PLC0415
    from dropdiag.store.rows import ScalarRow  # noqa: PLC0415

    table = tables.scalars([ScalarRow(step, "train", str(step % 50), 0, "loss", 0.5) for step in range(4096)])
    with encoder(io.BytesIO(), table.schema) as writer:
        writer.write_table(table)
