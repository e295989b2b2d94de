import pytest

from dropdiag.store.read_ahead import AHEAD, THREADS, read_ahead


@pytest.mark.parametrize("many", [0, 1, 3, 40])
def test_items_come_in_order_and_few_are_read_ahead(many):
    begun, used = [], 0

    def read(item):
        begun.append(item)
        return item * item

    for item, found in read_ahead(read, range(many)):
        assert (item, found) == (used, used * used)
        assert len(begun) <= used + 1 + AHEAD + THREADS
        used += 1
    assert sorted(begun) == list(range(many)) == list(range(used))


def test_what_fails_is_raised_in_its_turn():
    def read(item):
        if item == 7:
            raise ValueError("seven")
        return item

    found = read_ahead(read, range(20))
    assert [next(found)[0] for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="seven"):
        next(found)
