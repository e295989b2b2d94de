"""What of autograd's graph lies between one tensor and another.

A tensor is an edge of the graph: the node that made it, and which of the node's outputs it is. Nodes are held by nobody
here once a forward pass is over.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from heapq import heappop, heappush
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

Edge: TypeAlias = tuple[Any, int]
Uses: TypeAlias = list[tuple[Any, int]]
"""Nodes that take a tensor, each with the position among its inputs."""
Visited: TypeAlias = list[tuple[Any, list[tuple[int, Edge]]]]
"""Nodes, the last to run first, each with its inputs that are nodes as well."""

LIMIT: Final = 2000
"""Nodes that are looked at between two tensors."""
SUMS: Final = ("AddBackward0", "SubBackward0")

_ACCUMULATES: Final[Any] = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]


class Joint(NamedTuple):
    """A tensor on the way from one tensor up to another.

    Attributes
    ----------
    edge : tuple
    uses : list
        What takes it on the way.
    alone : bool
        Whether all of the way goes through it.
    """

    edge: Edge
    uses: Uses
    alone: bool


class Way(NamedTuple):
    """What lies between two tensors.

    Attributes
    ----------
    joints : list of Joint
        From the upper tensor, without it, down to the lower one.
    nodes : list
        In order of execution.
    """

    joints: list[Joint]
    nodes: list[Any]


def edge_of(tensor: Tensor) -> Edge | None:
    """Return a tensor's place in the graph; None of a leaf, and where there are no gradients."""
    node = tensor.grad_fn
    return None if node is None else (node, tensor.output_nr)


def visit(start: Edge, wanted: Collection[Edge], stops: Container[Edge]) -> Visited | None:
    """Go from a tensor down to those that it is made of; None where more than `LIMIT` nodes would be looked at.

    Parameters
    ----------
    start : tuple
    wanted : collection of tuple
        Edges that are looked for: nothing that ran before the first of them is looked at.
    stops : container of tuple
        Edges that are not passed, those that are wanted among them.
    """
    # The numbers of nodes grow in order of execution. Private, as there is no public one.
    lowest = min(node._sequence_nr() for node, _ in wanted)
    heap, seen, found = [(-start[0]._sequence_nr(), 0, start[0])], {start[0]}, Visited()
    while heap:
        node = heappop(heap)[2]
        edges = []
        for position, edge in enumerate(node.next_functions):
            below = edge[0]
            if not is_made(below):
                continue
            if edge in stops:
                if edge in wanted:
                    edges.append((position, edge))
            elif below in seen:
                edges.append((position, edge))
            elif (number := below._sequence_nr()) >= lowest:
                edges.append((position, edge))
                seen.add(below)
                heappush(heap, (-number, len(seen), below))
        found.append((node, edges))
        if len(found) > LIMIT:
            return None
    return found


def way(visited: Visited, start: Edge, lower: Edge, stops: Container[Edge]) -> Way | None:
    """Return what lies between two tensors; None where the lower one does not lead to the upper one.

    A sum of a tensor and of what is made of it, ``x + f(x)``, is passed through ``f`` alone: where x is the one tensor
    that all of the way goes through, the sum is none of its uses.
    """
    leads: dict[Any, bool] = {}

    def is_on_the_way(edge: Edge) -> bool:
        return edge == lower or (edge not in stops and leads.get(edge[0], False))

    for node, edges in reversed(visited):
        leads[node] = any(is_on_the_way(edge) for _, edge in edges)
    if not leads[start[0]]:
        return None
    pending: dict[Edge, Uses] = {start: []}
    found, top = Way([], []), start[0]
    for node, edges in visited:
        here = [edge for edge in pending if edge[0] is node and edge != lower]
        if not here:
            continue
        alone = len(pending) == 1
        for edge in here:
            uses = pending.pop(edge)
            if edge != start:
                found.joints.append(Joint(edge, _without_shortcut(uses, top) if alone else uses, alone))
        top = node if alone else top
        found.nodes.append(node)
        for position, edge in edges:
            if is_on_the_way(edge):
                pending.setdefault(edge, []).append((node, position))
    found.joints.append(Joint(lower, _without_shortcut(pending[lower], top), alone=True))
    found.nodes.reverse()
    return found


def _without_shortcut(uses: Uses, top: Any) -> Uses:
    """Leave out a sum that everything from a tensor on leads to, where other uses of the tensor lead to it as well."""
    if len(uses) == 1 or type(top).__name__ not in SUMS:
        return uses
    return [use for use in uses if use[0] is not top] or uses


def steps_down(found: Way) -> list[tuple[Any, int]] | None:
    """Return how to come from the upper tensor down to the lower one, where it goes one way without branches.

    Returns
    -------
    list of (type, int) or None
        The kind of each node, and which of its inputs is the next tensor below.
    """
    uses = [joint.uses[0] for joint in found.joints if len(joint.uses) == 1 and joint.alone]
    straight = len(uses) == len(found.joints) == len(found.nodes)
    return [(type(node), position) for node, position in uses] if straight else None


def follow(start: Edge, steps: Sequence[tuple[Any, int]], lower: Edge) -> list[Edge] | None:
    """Take steps that `steps_down` has given, in another pass; None where they do not lead to the same tensor.

    Returns
    -------
    list of tuple or None
        The tensors from the upper one, with it, down to the one above the lower one.
    """
    edge = start
    found: list[Edge] = []
    for kind, position in steps:
        node = edge[0]
        if type(node) is not kind:
            return None
        found.append(edge)
        edge = node.next_functions[position]
    return found if edge == lower else None


def is_made(node: Any) -> bool:
    """Whether a node makes a tensor of others: it is no parameter, nor what needs no gradient."""
    return node is not None and not isinstance(node, _ACCUMULATES)


def leaves(node: Any, passed: Container[Any], depth: int = 4) -> list[Tensor]:
    """Return the parameters that a node takes, by itself or through what prepares them, but not through some nodes."""
    found: list[Tensor] = []
    for below, _ in node.next_functions:
        if isinstance(below, _ACCUMULATES):
            found.append(below.variable)
        elif below is not None and depth and below not in passed and len(below.next_functions) == 1:
            found += leaves(below, passed, depth - 1)
    return found


def softmax_input(start: Edge, names: Sequence[str], near: int) -> Edge | None:
    """Return what enters the one softmax from which a tensor is made, among so many nodes; None if there is none."""
    heap, seen = [(-start[0]._sequence_nr(), 0, start[0])], {start[0]}
    while heap and len(seen) <= near:
        node = heappop(heap)[2]
        if type(node).__name__ in names:
            edge: Edge = node.next_functions[0]
            return None if edge[0] is None else edge
        for below, _ in node.next_functions:
            if is_made(below) and below not in seen:
                seen.add(below)
                heappush(heap, (-below._sequence_nr(), len(seen), below))
    return None
