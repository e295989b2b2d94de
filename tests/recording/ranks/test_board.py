"""What rank 0 announces, and who takes it: a store in memory, no process."""

from __future__ import annotations

import pytest
import torch

from dropdiag.errors import RunError
from dropdiag.recording.ranks.board import Board
from dropdiag.recording.ranks.group import Elsewhere, Group

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available(), reason="this torch is built without torch.distributed"
)


@pytest.fixture
def store():
    return torch.distributed.HashStore()


def test_each_rank_takes_each_announcement_once_and_in_order(store):
    zero, one, two = (Board(store, rank) for rank in range(3))
    for number, path in enumerate(("a", "b", "a")):
        zero.announce({"asked": path, "number": number})
    assert [one.take("a")["number"], one.take("a")["number"], one.take("a")] == [0, 2, None]
    assert two.take("b")["number"] == 1
    assert two.pending()[0] == 3  # what came before the one that was taken is passed by
    assert one.pending() is None
    assert two.take("a")["number"] == 0  # and still there for whoever asks in another order


def test_waiting_ends_with_the_next_announcement_or_with_patience(store):
    zero, one = Board(store, 0), Board(store, 1)
    assert not one.wait(one.count, 0.01)
    zero.announce({"asked": "a"})
    assert one.take("a") is not None
    assert not one.wait(one.count, 0.01)


def test_what_is_announced_while_a_rank_looks_ends_its_wait(store, monkeypatch):
    """Rank 0 opens its Recorder in the moment after rank 1 has found nothing, and opens no other."""
    take = Board.take

    def slow(board, asked):
        told = take(board, asked)
        monkeypatch.setattr(Board, "take", take)
        Group(0, 2, store).announce_failure("a", ValueError("no"))
        return told

    monkeypatch.setattr(Board, "take", slow)
    monkeypatch.setattr(Group, "_patience", lambda _: 0.01)
    with pytest.raises(RunError, match="rank 0 could not open the run"):
        Group(1, 2, store).join("a")


def test_a_rank_whose_path_is_not_that_of_rank_0_records_elsewhere(store, monkeypatch):
    monkeypatch.setattr("dropdiag.recording.ranks.group.GRACE_SECONDS", 0.01)
    Group(0, 2, store).announce_failure("a", ValueError("no"))
    found = Group(1, 2, store).join("b")
    assert isinstance(found, Elsewhere)
    assert found.asked == "a"


def test_a_store_that_is_gone_leaves_ranks_to_themselves():
    class Gone:
        def add(self, key, value):
            raise RuntimeError("Connection reset by peer")

    group = Group(1, 2, Gone())
    assert group.join("a") is None
    assert group.describe(None, None) == {"rank": 1, "world_size": 2, "training": None}
