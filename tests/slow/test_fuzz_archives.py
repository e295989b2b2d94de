"""Readers of packed data files against minutes of nearly good ones, as `tests.slow.test_fuzz_data` does with the others."""

from __future__ import annotations

import pytest

from tests.hostile.data_folders import READERS
from tests.hostile.test_data_files import linux
from tests.slow.test_fuzz_data import PLAIN, fuzzed


@linux
@pytest.mark.slow
@pytest.mark.parametrize("reader", [reader for reader in READERS if reader not in PLAIN])
def test_no_packed_data_file_does_more_than_be_refused(tmp_path, capsys, reader):
    fuzzed(tmp_path, capsys, reader)
