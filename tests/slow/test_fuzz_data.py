"""Every reader of data files against minutes of nearly good ones, in a process that may take 500 MB.

``DROPDIAG_FUZZ_MINUTES`` says how many for each reader, 10 by default.
"""

from __future__ import annotations

import json
import os
import random

import pytest

from tests.hostile.test_data_files import child, linux

MINUTES = float(os.environ.get("DROPDIAG_FUZZ_MINUTES", "10"))
PLAIN = ("idx", "cifar pickle", "cifar binary")
"""Those of `tests.slow.test_fuzz_archives` are the others: half an hour a part."""


@linux
@pytest.mark.slow
@pytest.mark.parametrize("reader", PLAIN)
def test_no_data_file_does_more_than_be_refused(tmp_path, capsys, reader):
    fuzzed(tmp_path, capsys, reader)


def fuzzed(tmp_path, capsys, reader):
    """Give a reader files for some minutes, and see that it refuses them or reads them."""
    seed = random.SystemRandom().randrange(1 << 30)
    told = child("fuzz", reader, 60 * MINUTES, seed, tmp_path, seconds=60 * MINUTES + 300)[reader]
    with capsys.disabled():
        print("figures: " + json.dumps({"reader": reader, "minutes": MINUTES, "seed": seed, "crashes": 0, **told}))  # noqa: T201
    assert told["foreign"] == []
    assert told["longest_s"] < 2, "seconds of the processor"
    assert told["most_mb"] < 500
