"""The leaves that a loss depends on: the parameters of a model, and what else a loss function may bring in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from dropdiag.errors import ArgumentError


def leaves(value: Tensor) -> list[Tensor]:
    """Return the tensors whose ``.grad`` a backward pass from a tensor would add to."""
    waiting: list[Any] = [value.grad_fn]
    seen, found = set(), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [before for before, _ in node.next_functions]
        if (leaf := getattr(node, "variable", None)) is not None:  # an AccumulateGrad
            found.append(leaf)
    return found


def check_loss(value: Tensor, originals: Mapping[int, str]) -> list[Tensor]:
    """Refuse a loss without gradient, or one that depends on a model's parameters past what they were replaced by.

    Parameters
    ----------
    value : Tensor
    originals : mapping of int to str
        Identity of a trainable parameter that a copy stands for -> its name.

    Returns
    -------
    list of Tensor
        The leaves that it depends on.

    Raises
    ------
    ArgumentError
    """
    if not value.requires_grad:
        raise ArgumentError(
            "the loss depends on no trainable parameter: make it of the model's output, without detach() or item()"
        )
    found = leaves(value)
    held = [originals[id(leaf)] for leaf in found if id(leaf) in originals]
    if held:
        raise ArgumentError(
            f"loss_fn holds the parameter {held[0]} itself (or what was computed of it before), in whose place a copy "
            "is measured: ask the model for it in the function, as by model.parameters(), or detach() what was computed"
        )
    return found


@contextmanager
def gradients_kept(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Give tensors the gradients back that they had."""
    kept = [(tensor, tensor.grad) for tensor in tensors]
    for tensor, _ in kept:
        tensor.grad = None
    try:
        yield
    finally:
        for tensor, gradient in kept:
            tensor.grad = gradient
