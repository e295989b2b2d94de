"""The order of execution, against all pairs of small cases."""

from __future__ import annotations

import functools
import random
from itertools import combinations, product

from dropdiag.model.order import REMEMBERED, ExecutionOrder, Place


def groups(*sequences: str) -> list[set[str]]:
    order = ExecutionOrder()
    for sequence in sequences:
        order.add((letter, 0) for letter in sequence)
    return [{layer for layer, _ in group} for group in order.groups()]


def by_all_pairs(sequences: list[list[Place]]) -> list[set[Place]]:
    """Compare every pair, then join what is not ordered until all pairs of different ranks are."""
    places = list(dict.fromkeys(place for sequence in sequences for place in sequence))
    before = {pair for sequence in sequences for pair in combinations(sequence, 2)}
    for middle, a, b in product(places, repeat=3):
        if (a, middle) in before and (middle, b) in before:
            before.add((a, b))

    def compare(a: Place, b: Place) -> int:
        return ((b, a) in before) - ((a, b) in before)

    rank = {place: {place} for place in places}
    for a, b in product(places, repeat=2):
        if compare(a, b) == 0:
            rank.update(dict.fromkeys(rank[a] | rank[b], rank[a] | rank[b]))
    found: list[set[Place]] = []
    for place in places:
        if rank[place] not in found:
            found.append(rank[place])
    return sorted(found, key=functools.cmp_to_key(lambda a, b: compare(min(a), min(b))))


def test_it_is_what_all_pairs_say():
    for seed in range(1_500):
        chance = random.Random(seed)
        places = [(str(n), chance.randint(0, 1)) for n in range(chance.randint(1, 7))]
        sequences = []
        for _ in range(chance.randint(1, 5)):
            ran = [place for place in places if chance.random() < 0.6]
            if chance.random() < 0.3:
                chance.shuffle(ran)
            sequences.append(ran)
        order = ExecutionOrder()
        for sequence in sequences:
            order.add(sequence)
            order.groups()  # asked for in between, as a run does
        assert [set(group) for group in order.groups()] == by_all_pairs(sequences), sequences


def test_stochastic_depth_has_one_order_though_the_first_pass_lacks_a_layer():
    assert groups("bcdx", "acdx", "abx") == [{"a"}, {"b"}, {"c"}, {"d"}, {"x"}]


def test_a_layer_that_first_runs_late_gets_its_place():
    assert groups("abd", "abd", "abcd") == [{"a"}, {"b"}, {"c"}, {"d"}]


def test_branches_that_never_run_together_share_a_rank_with_all_of_their_layers():
    assert groups("alLx", "arx") == [{"a"}, {"l", "L", "r"}, {"x"}]


def test_branches_that_run_both_ways_round_share_a_rank():
    assert groups("alrx", "arlx") == [{"a"}, {"l", "r"}, {"x"}]
    assert groups("ab", "bc", "ca", "xy") == [{"a", "b", "c", "x", "y"}]


def test_of_a_place_that_comes_twice_the_first_time_counts():
    assert groups("abcb") == [{"a"}, {"b"}, {"c"}]


def test_ten_thousand_places_and_more_sequences_than_are_remembered():
    order, chance = ExecutionOrder(), random.Random(0)
    places = [(f"layer{number}", 0) for number in range(10_000)]
    for _ in range(REMEMBERED + 2):
        order.add(place for place in places if chance.random() < 0.9)
    order.add(places)
    assert order.groups() == [[place] for place in places]


def test_nothing_seen_is_no_order():
    assert ExecutionOrder().groups() == []
