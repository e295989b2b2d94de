"""Histograms that are kept are those of the files, and their files are opened once as long as there is room."""

import numpy as np
import pytest

from dropdiag.store.kept import KeptHistograms
from dropdiag.store.reader import load
from tests.openings import openings
from tests.synthetic import content, write

ROOM = 1 << 24


@pytest.fixture
def run(tmp_path):
    return load(write(tmp_path / "run", content("Dropout", 0, steps=20, size=70_000), "Dropout", 0))


def asked(run):
    return [run.histograms(name, step=step) for name in ("weight", "net_value") for step in (None, "all")]


def test_what_is_kept_is_what_the_files_hold(run):
    keeping = run.keeping(KeptHistograms(ROOM))
    for found, expected in zip(asked(keeping) + asked(keeping), asked(run) * 2, strict=True):
        assert found.equals(expected)
        assert {h.counts.dtype for h in found["histogram"]} == {np.dtype(np.int64)}


@pytest.mark.parametrize(("room", "times"), [(ROOM, 1), (1000, 4)])
def test_files_are_opened_once_while_there_is_room(run, tmp_path, room, times):
    keeping = run.keeping(KeptHistograms(room))
    with openings(tmp_path) as opened:
        asked(keeping)
    assert [number for name, number in opened.items() if "histograms" in name] == [times]


def test_what_is_forgotten_is_read_again_and_leaves_its_room(run, tmp_path):
    kept = KeptHistograms(ROOM)
    keeping = run.keeping(kept)
    room = kept._room
    with openings(tmp_path) as opened:
        keeping.histograms("weight")
        assert kept._room < room
        keeping.forget_histograms()
        keeping.histograms("weight")
    keeping.forget_histograms()
    assert kept._room == room
    assert [number for name, number in opened.items() if "histograms" in name] == [2]


def test_a_session_by_itself_is_not_what_is_kept_of_the_run(run):
    keeping = run.keeping(KeptHistograms(ROOM))
    keeping.histograms("weight")
    (session,) = run.meta["sessions"]
    assert keeping.session(session["id"])._kept is None
