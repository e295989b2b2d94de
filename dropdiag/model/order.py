"""In which order the sites of a model run: the sequences of its forward passes, merged."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str, int]
"""A layer and the index of its call within a forward pass."""

REMEMBERED: Final = 64
"""Sequences that are known at a glance; of further ones, each pair of neighbours is looked up."""


class ExecutionOrder:
    """The order that all forward passes seen so far agree on.

    A place comes before another one if it did in every pass in which both ran, or if a third one lies between them by
    this rule. Places that were seen both ways round, in one step or over others, contradict each other; places that
    nothing compares are parallel. Both share a rank, with all that is parallel to one of them: of two places of
    different rank, the lower one always ran first.
    """

    def __init__(self) -> None:
        self._numbers: dict[Place, int] = {}
        self._next: list[set[int]] = []  # by number, the places that came right after it in some pass
        self._seen: set[tuple[Place, ...]] = set()
        self._groups: list[list[Place]] | None = []

    def add(self, sequence: Iterable[Place]) -> None:
        """Take in what one forward pass ran.

        Parameters
        ----------
        sequence : iterable of (layer, call)
            In the order in which they ran. Of a place that comes twice the first time counts.
        """
        places = tuple(sequence)
        if places in self._seen:
            return
        if len(self._seen) < REMEMBERED:
            self._seen.add(places)
        numbers = [self._number(place) for place in dict.fromkeys(places)]
        for before, after in itertools.pairwise(numbers):
            if after not in self._next[before]:
                self._next[before].add(after)
                self._groups = None

    def _number(self, place: Place) -> int:
        if place not in self._numbers:
            self._numbers[place] = len(self._next)
            self._next.append(set())
            self._groups = None
        return self._numbers[place]

    def groups(self) -> list[list[Place]]:
        """Return the places of every rank, the first to run first; within a rank, those seen first come first."""
        if self._groups is None:
            places = list(self._numbers)
            self._groups = [[places[n] for n in sorted(group)] for group in _ranks(self._next)]
        return self._groups


def _ranks(following: Sequence[set[int]]) -> list[list[int]]:
    """Return the finest division into ranks in which every pair of different ranks is ordered."""
    knots = _knots(following)
    position = {node: at for at, knot in enumerate(knots) for node in knot}
    everything = (1 << len(knots)) - 1
    # reached[i], bit j: knot j comes after knot i. From the last to the first, as what follows comes later in `knots`.
    reached = [0] * len(knots)
    for at in range(len(knots) - 1, -1, -1):
        for after in {position[n] for node in knots[at] for n in following[node]} - {at}:
            reached[at] |= reached[after] | (1 << after)
    groups: list[list[int]] = [[]]
    last = -1  # the last knot that is not known to come after one of those so far
    for at, knot in enumerate(knots):
        groups[-1].extend(knot)
        last = max(last, (everything & ~reached[at]).bit_length() - 1)
        if last <= at:
            groups.append([])
    return groups[:-1]


def _knots(following: Sequence[set[int]]) -> list[list[int]]:
    """Return the strongly connected sets of nodes, in an order in which every edge leads forward."""
    # Kosaraju's way: nodes by the time at which a depth-first search leaves them, then one against the edges.
    left: list[int] = []
    for _ in _trees(following, range(len(following)), left):
        pass
    backward: list[set[int]] = [set() for _ in following]
    for node, after in enumerate(following):
        for other in after:
            backward[other].add(node)
    return list(_trees(backward, reversed(left), []))


def _trees(following: Sequence[set[int]], roots: Iterable[int], left: list[int]) -> Iterator[list[int]]:
    """Give what a depth-first search finds from each root; append nodes to ``left`` as the search leaves them."""
    seen: set[int] = set()
    for root in roots:
        if root in seen:
            continue
        seen.add(root)
        tree, path = [root], [(root, iter(following[root]))]
        while path:  # no recursion: a network may have 10,000 sites in a row
            node, rest = path[-1]
            after = next((n for n in rest if n not in seen), None)
            if after is None:
                left.append(node)
                path.pop()
            else:
                seen.add(after)
                tree.append(after)
                path.append((after, iter(following[after])))
        yield tree
