"""How large what a segment claims may be: far above what training writes, far below what a machine cannot hold.

Numbers that are all the same compress without bound, so a small file may hold many. Those of it that a file may hold
anyway are a fixed number, further ones must come with its bytes.
"""

from __future__ import annotations

from typing import Final

FILE_BYTES: Final = 64 << 30
"""Of a segment: that of a million histograms has 2 GB."""
FOOTER_BYTES: Final = 192 << 20
"""Of a file's footer: that of a million histograms, flushed 200 at a time, has 4 MB."""
COLUMN_BYTES: Final = 48
"""Of a footer for each column of a row group, at least: Arrow makes an object of several hundred of it."""
SMALL_FOOTER: Final = 256 << 10
"""Bytes of a footer that is read anew each time: a tenth of a second."""
ROW_GROUPS: Final = 200_000
"""Of a file: one a flush, those of three weeks."""
ROWS: Final = 1 << 20
"""Rows that any file may have: as many as one row group."""
ROWS_A_BYTE: Final = 64
"""Further rows for each byte of the file. The constant scalars of one layer come to 26."""
ELEMENTS: Final = 36_000_000
"""Elements of lists that any file may have: covariances of four layers of 4,096 nodes, a thousand full histograms."""
ELEMENTS_A_BYTE: Final = 32
"""Further elements for each byte of the file. Those of real layers come to about one."""
ELEMENTS_AT_ONCE: Final = 4 << 20
"""Elements of lists that are decoded at a time, beside those of one row."""
PAGE_BYTES: Final = 256 << 10
"""Of a page beside its values: levels, and what encodings put in front."""
VALUE_BYTES: Final = 16
"""Of a value in a page of numbers: 8, or 4, and its levels."""
TEXT_PAGE: Final = 16 << 20
"""Bytes of a page of names: Parquet's writers end one at 1 MB."""
TEXT: Final = 128 << 20
"""Bytes of all names of a file, as they are written, that any file may have."""
TEXT_A_BYTE: Final = 32
"""Further bytes of names for each byte of the file."""
STEP: Final = 1 << 53
"""The greatest step: floats count so far."""
VALUES: Final = 1 << 47
"""Values of one histogram: of so many in each of all bins, 64 bits hold the sum."""
NODES: Final = 1 << 20
"""Nodes of one state."""
