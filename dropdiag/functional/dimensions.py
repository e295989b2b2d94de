"""Where the dimensions that count nodes are after an operation: rules over shapes and strides, without values.

Node dimensions are negative, counted from the end, so that broadcasting and expanding leave them as they are. There are
several where a layer's features were split, as attention splits them into heads. None: they cannot be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from torch import Tensor

Dims: TypeAlias = tuple[int, ...] | None
Shape: TypeAlias = Sequence[int]


def kept(old: Shape, dims: Dims, new: Shape) -> Dims:
    """Follow an elementwise operation, a pooling or an expansion: the dimensions stay, counted from the end."""
    if dims is None or len(new) < -min(dims) or any(old[d] != new[d] for d in dims):
        return None
    return dims


def reshaped(old: Shape, dims: Dims, new: Shape) -> Dims:
    """Follow what keeps the values in their order: view, reshape, flatten, unflatten, squeeze, unsqueeze.

    Both shapes are cut into the shortest pieces of equal product. A piece that is made of node dimensions alone stays
    that; one that mixes them with samples, as flattening channels and positions does, has no nodes any more.
    """
    if dims is None or tuple(old) == tuple(new):
        return dims
    nodes = {len(old) + d for d in dims}
    before = [(size, at in nodes) for at, size in enumerate(old) if size != 1]
    after = [(size, at - len(new)) for at, size in enumerate(new) if size != 1]
    if any(size == 0 for size, _ in before):
        return None
    found: list[int] = []
    while before:
        (mine, is_node), (other, place) = before.pop(0), after.pop(0)
        flags, places = {is_node}, [place]
        while mine != other:
            if mine < other:
                size, is_node = before.pop(0)
                mine, flags = mine * size, flags | {is_node}
            else:
                size, place = after.pop(0)
                other, places = other * size, [*places, place]
        if len(flags) == 2:
            return None
        found += places if True in flags else []
    return tuple(found) or None


def moved(tensor: Tensor, dims: Dims, result: Tensor) -> Dims:
    """Follow a permutation of dimensions: each keeps its size and its stride."""
    if dims is None or result.ndim != tensor.ndim:
        return None
    layout = list(zip(result.shape, result.stride(), strict=True))
    found: list[int] = []
    for d in dims:
        places = [at - result.ndim for at, kind in enumerate(layout) if kind == (tensor.shape[d], tensor.stride(d))]
        if len(places) != 1 and tensor.shape[d] > 1:
            return None
        found += places[:1]
    return tuple(found) or None


def cut(tensor: Tensor, dims: Dims, result: Tensor) -> Dims:
    """Follow a view of a part: slices, chunks, one of several. A node dimension keeps its stride, if it is there."""
    found: list[int] = []
    for d in dims or ():
        size, stride = tensor.shape[d], tensor.stride(d)
        places = [
            at - result.ndim
            for at, (n, s) in enumerate(zip(result.shape, result.stride(), strict=True))
            if s == stride and 1 < n <= size
        ]
        if len(places) > 1:
            return None
        found += places
    return tuple(found) or None


def indexed(tensor: Tensor, dims: Dims, index: object, result: Tensor) -> Dims:
    """Follow ``tensor[index]``."""
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return cut(tensor, dims, result)
    if dims is None:
        return None
    if all(isinstance(part, Tensor) for part in parts):  # they take up the first dimensions, the others stay behind
        taken = sum(part.ndim if part.dtype.itemsize == 1 else 1 for part in parts)
        return dims if all(tensor.ndim + d >= taken for d in dims) else None
    return kept(tensor.shape, dims, result.shape) if result.ndim == tensor.ndim else None


def reduced(ndim: int, dims: Dims, over: Any, *, keep: bool) -> Dims:
    """Follow a mean, sum or maximum over dimensions."""
    if dims is None or over is None:
        return None
    gone = {d % ndim - ndim for d in ((over,) if isinstance(over, int) else over)}
    left = [d for d in dims if d not in gone]
    return tuple(d if keep else d + sum(g > d for g in gone) for d in left) or None


def stacked(dims: Dims, at: int, ndim: int) -> Dims:
    """Follow a stack, whose result has ``ndim`` dimensions, ``at`` the new one."""
    new = at % ndim - ndim
    return None if dims is None else tuple(d if d > new else d - 1 for d in dims)


def multiplied(first: Tensor, second: Tensor, dims: tuple[Dims, Dims], result: Tensor) -> Dims:
    """Follow a matrix product: nodes of the second tensor, unless they are summed over; else of the first."""
    of_first, of_second = dims
    if of_second is not None and not (second.ndim > 1 and -2 in of_second) and second.ndim > 1:
        return kept(second.shape, of_second, result.shape)
    if of_first is not None and -1 not in of_first and first.ndim == result.ndim:
        return kept(first.shape, of_first, result.shape)
    return None


def summed(equation: str, ndim: int, nodes: Sequence[set[str]]) -> Dims:
    """Follow an einsum whose operands count nodes in these letters: the last whose letters are all left decides."""
    _, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:
        return None
    before, ellipsis, after = right.partition("...")
    # Letters before an ellipsis are counted from the front, whatever the ellipsis stands for.
    places = {letter: at - (ndim if ellipsis else len(before)) for at, letter in enumerate(before)}
    places |= {letter: at - len(after) for at, letter in enumerate(after)}
    for letters in reversed(nodes):
        if letters and letters <= places.keys():
            return tuple(sorted(places[letter] for letter in letters))
    return None


def letters_of(equation: str, operand: int, dims: Dims, *, is_weight: bool) -> set[str]:
    """Return the letters that count nodes in one operand of an einsum: in a weight, those that no other one has."""
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    if is_weight:
        return set(terms[operand]) - set("".join(terms[:operand] + terms[operand + 1 :])) - {"."}
    after = terms[operand].rpartition("...")[2]
    return {after[d] for d in dims} if dims is not None and len(after) >= -min(dims) else set()
