"""``run.json`` fuzzed for minutes: changes of real ones and of their bytes; DROPDIAG_FUZZ_MINUTES says how long."""

from __future__ import annotations

import json
import os
import random
import shutil
import time

import matplotlib.pyplot as plt
import pytest

from tests.frozen.expect import RECORDED
from tests.hostile.run_json import (
    ABSURD,
    Example,
    changed,
    examples,
    memory,
    places,
    read_everything,
    read_run,
    why_refused,
    write,
)

MOST = 500e6
"""Bytes that the process may hold more than before."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_run_json(tmp_path):
    minutes = float(os.environ.get("DROPDIAG_FUZZ_MINUTES", "10"))
    draw = random.Random(seed := int(os.environ.get("DROPDIAG_FUZZ_SEED", time.time_ns() % 2**32)))
    runs = examples(tmp_path / "runs")
    good = shutil.copytree(RECORDED / "mlp" / "no-dropout-s0", tmp_path / "good")
    read_everything(runs[2], good, page=tmp_path / "page.html")  # imports what comes later
    all_places = {one.name: list(places(one.meta)) for one in runs}
    tried = refused = 0
    before, slowest, until = memory(), 0.0, time.monotonic() + 60 * minutes
    while time.monotonic() < until:
        one = draw.choice(runs)
        content = _drawn(one, all_places[one.name], draw)
        tried += 1
        begun = time.process_time()
        said = why_refused(content, one.path)
        took = time.process_time() - begun
        slowest, passed = max(slowest, took), not said
        assert took < 1.0, f"seed {seed}, input {tried}"
        assert not said.startswith("the file is not named"), said
        refused += not passed
        if passed:
            write(one, content)
            try:
                read_run(one)
                if draw.random() < 0.1:
                    read_everything(one, good, page=tmp_path / "page.html" if draw.random() < 0.3 else None)
            except Exception:
                (tmp_path / "failing.json").write_bytes(content)
                raise
            finally:
                write(one, one.meta)
                plt.close("all")
        assert memory() - before < MOST, f"seed {seed}, input {tried}"
    figures = {"reader": "run.json", "minutes": minutes, "inputs": tried, "refused": refused, "accepted": tried - refused,
               "crashes": 0, "slowest_seconds": round(slowest, 3), "mb_grown": round((memory() - before) / 1e6)}  # fmt: skip
    print(f"figures: {json.dumps(figures)}")  # noqa: T201
    assert refused > tried / 10


def _drawn(one: Example, places: list[tuple[object, ...]], draw: random.Random) -> bytes:
    """Draw one to three changes of fields, or of bytes."""
    made = one.meta
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        made = _changed(made, draw.choice(places), draw.choice(ABSURD))
    content = bytearray(json.dumps(made).encode())
    for _ in range(draw.choice((0, 0, 0, 0, 0, 0, 1, 2, 20))):
        at = draw.randrange(len(content))
        if draw.random() < 0.5:
            content[at] = draw.randrange(256)
        else:
            content[at : at + draw.randrange(50)] = bytes(draw.choices(b'[]{}",:0\\u\xff1e-nul ', k=draw.randrange(20)))
    return bytes(content)


def _changed(meta: dict[str, object], place: tuple[object, ...], value: object) -> dict[str, object]:
    try:
        return changed(meta, place, value)
    except (LookupError, TypeError):  # an earlier change has taken the place away
        return meta
