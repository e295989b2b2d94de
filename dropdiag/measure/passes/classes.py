"""Logits and class numbers: what is taken for them, and how often they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError

IGNORED: Final = -100
"""The class that `torch.nn.functional.cross_entropy` leaves out."""
AMBIGUOUS: Final = (
    "whether classes are counted by the second dimension of the output or by the last cannot be told, as both are of "
    "the same size: give output= a function that makes logits of shape (samples, classes) of it, and a target each"
)


def logits_of(output: Any, pick: Callable[[Any], Any] | None = None) -> Tensor:
    """Return the logits in what a model gives: the tensor itself, its ``logits``, or what `pick` takes out of it."""
    found = output if pick is None else pick(output)
    if pick is None and not isinstance(output, Tensor):
        found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if not isinstance(found, Tensor):
        what = "output= returned" if pick is not None else "the model gives"
        got = found if pick is not None else output
        raise ArgumentError(
            f"{what} a {type(got).__name__} without logits: give output= a function that takes the tensor of logits "
            "out of what the model gives"
        )
    return found


def check_classes(logits: Tensor, targets: Tensor) -> None:
    """Refuse class numbers that logits of shape (N, classes, ...) have no place for."""
    shape = (logits.shape[0], *logits.shape[2:]) if logits.ndim > 1 else ()
    if tuple(targets.shape) != shape:
        raise ArgumentError(f"targets of shape {tuple(targets.shape)} do not fit logits of {tuple(logits.shape)}")
    known = targets[targets != IGNORED]
    if known.numel() and not (int(known.min()) >= 0 and int(known.max()) < logits.shape[1]):
        raise ArgumentError(
            f"targets are class numbers from 0 to {logits.shape[1] - 1} here, as the logits have {logits.shape[1]} "
            f"classes; got {int(known.min())} to {int(known.max())}"
        )


def are_classes(targets: object) -> TypeGuard[Tensor]:
    """Whether targets are class numbers of shape (N,)."""
    return are_whole(targets) and targets.ndim == 1


def are_whole(targets: object) -> TypeGuard[Tensor]:
    """Whether targets are whole numbers, of any shape."""
    if not isinstance(targets, Tensor):
        return False
    return not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)


def share_right(logits: Tensor, classes: Tensor) -> float | None:
    """Return the share of cases whose greatest logit is that of their class; None where no case counts.

    Parameters
    ----------
    logits : Tensor, shape (N, classes, ...)
    classes : Tensor, shape (N, ...)
        Cases of class -100 do not count.
    """
    counted = classes != IGNORED
    if not counted.any():
        return None
    right = logits.argmax(1).to(classes.device) == classes
    return int(right[counted].sum()) / int(counted.sum())
