"""Footers that Arrow ends the process over, with a digest that is right: the segment is left out, and named."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from tests.synthetic import content, write

READ = """
import sys, warnings
import dropdiag as dd
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    rows = len(dd.load(sys.argv[1]).scalars)
print(rows, *(one.message for one in said))
"""


@pytest.mark.parametrize("column", ["step", "layer", "value"])
def test_a_column_that_must_be_there_and_counts_rows_without_it_ends_no_process(tmp_path, column):
    """Its statistics count two levels, and one that must be there has one."""
    run = write(tmp_path / "run", content("Dropout", 0, layers=1, steps=3), "Dropout", 0)
    (segment,) = (run / "rank-0").glob("scalars*")
    data = bytearray(segment.read_bytes())
    field = bytes([2, 0x18, len(column)]) + column.encode()  # optional, and the name
    data[data.rindex(field)] = 0
    name = segment.name.split(".")
    name[2] = hashlib.sha256(data).hexdigest()[:32]
    segment.unlink()
    segment.with_name(".".join(name)).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", READ, run], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("0 ")
    assert "scalars-" in done.stdout
    assert "all optional" in done.stdout
