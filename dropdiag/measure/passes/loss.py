"""The loss of a measurement: a function of the output, or of the output and targets."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.classes import IGNORED, are_classes, are_whole, check_classes, logits_of

LossFunction: TypeAlias = Callable[..., Any]
_HOW: Final = (
    "give loss_fn= a function of the model's output, loss_fn(output), or of the output and targets, "
    "loss_fn(output, targets)"
)


@dataclass(frozen=True)
class Loss:
    """What a model is called with, and the loss of what it gives.

    Attributes
    ----------
    inputs : object
        The model's argument, several of them, or named ones.
    targets : object or None
    function : callable or None
        None: no loss is known.
    takes_targets : bool
        Whether the function takes them as its second argument.
    """

    inputs: Any
    targets: Any
    function: LossFunction | None
    takes_targets: bool

    @property
    def module(self) -> nn.Module | None:
        """The function, where it is a module and may have a state that each call changes."""
        return self.function if isinstance(self.function, nn.Module) else None

    def classes(self, targets: Any) -> Any:
        """Return targets by which outputs are scored: class numbers that a loss of torch's leaves out are `IGNORED`."""
        ignored = getattr(self.module, "ignore_index", IGNORED)
        if ignored == IGNORED or not are_whole(targets):
            return targets
        return torch.where(targets == ignored, IGNORED, targets.long())

    @classmethod
    def of(cls, loss_fn: LossFunction | None, batch: Any, targets: Any, *, needed: bool = False) -> Loss:
        """Sort out what was given to a measurement.

        Parameters
        ----------
        loss_fn : callable or None
            Of one required argument, the output, or of two: the output and targets. None: cross entropy, where the
            targets are class numbers of shape (N,).
        batch : object
            What the model is called with. Where the loss takes targets and there are none, a pair (inputs, targets).
        targets : object or None
        needed : bool
            Whether the measurement has no use without a loss.

        Raises
        ------
        ArgumentError
            Where a loss is needed and there is none, or targets are and there are none.
        """
        if loss_fn is None:
            return cls._by_targets(batch, targets, needed=needed)
        if not callable(loss_fn):
            raise ArgumentError(f"loss_fn must be a function, got {type(loss_fn).__name__}; {_HOW}")
        if not _takes_two(loss_fn, given=targets is not None):
            return cls(batch, targets, loss_fn, takes_targets=False)
        if targets is None:
            batch, targets = _pair(batch, "loss_fn takes an output and targets, and there are no targets")
        return cls(batch, targets, loss_fn, takes_targets=True)

    @classmethod
    def _by_targets(cls, batch: Any, targets: Any, *, needed: bool) -> Loss:
        if needed and targets is None and _is_pair(batch) and are_classes(batch[1]):
            batch, targets = batch
        if are_classes(targets):
            return cls(batch, targets, classified, takes_targets=True)
        if needed:
            raise ArgumentError(f"there is no loss: {_HOW}, or targets= whole numbers of shape (N,) for cross entropy")
        return cls(batch, targets, None, takes_targets=False)

    def __call__(self, output: Any, targets: Any) -> Tensor:
        """Return the loss of an output: one number, with a graph if the output has one.

        Raises
        ------
        ArgumentError
            If there is no loss, or the function returns something else.
        """
        value = self._computed(output, targets)
        if isinstance(value, Tensor) and value.numel() == 1 and value.is_floating_point():
            return value.reshape(())
        shape = f"of shape {tuple(value.shape)}, {value.dtype}" if isinstance(value, Tensor) else ""
        raise ArgumentError(
            f"loss_fn must return one floating-point number (a tensor of one element), got a {type(value).__name__} "
            f"{shape}".rstrip()
            + ": take its mean, say"
        )

    def _computed(self, output: Any, targets: Any) -> Any:
        if self.function is None:
            raise ArgumentError(f"there is no loss: {_HOW}")
        given = (output, targets) if self.takes_targets else (output,)
        try:
            return self.function(*given)
        except (ArgumentError, torch.OutOfMemoryError):
            raise
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            shapes = " and ".join(map(_described, given))
            raise ArgumentError(f"loss_fn cannot be computed of {shapes}: {error}") from error


def _described(given: Any) -> str:
    return (
        f"a tensor of shape {tuple(given.shape)}, {given.dtype}" if isinstance(given, Tensor) else type(given).__name__
    )


def classified(output: Any, targets: Tensor) -> Tensor:
    """Return the cross entropy of an output's logits, its mean over the batch."""
    logits = logits_of(output)
    check_classes(logits, targets)
    return F.cross_entropy(logits, targets.long())


def _takes_two(loss_fn: LossFunction, *, given: bool) -> bool:
    """Whether a loss takes targets beside the output."""
    called = loss_fn.forward if isinstance(loss_fn, nn.Module) else loss_fn
    try:
        parameters = inspect.signature(called).parameters.values()
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"the arguments of loss_fn={loss_fn!r} cannot be read; put it into a lambda") from error
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters if p.kind in kinds and p.default is p.empty]
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if keywords or len(required) > 2 or not (required or several):
        raise ArgumentError(f"loss_fn{inspect.signature(called)} takes neither one argument nor two: {_HOW}")
    return len(required) == 2 or (several and given)


def _pair(batch: Any, why: str) -> tuple[Any, Any]:
    if not _is_pair(batch):
        raise ArgumentError(f"{why}: give targets=, or a batch that is the pair (inputs, targets)")
    inputs, targets = batch
    return inputs, targets


def without_classes(model: nn.Module, batch: Any) -> tuple[Any, Any]:
    """Take the pair of inputs and class numbers apart, where a model does not take two arguments; else no targets."""
    if _is_pair(batch) and are_classes(batch[1]) and not _takes(model, batch):
        return batch[0], batch[1]
    return batch, None


def _takes(model: nn.Module, arguments: Any) -> bool:
    try:
        inspect.signature(model.forward).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _is_pair(batch: Any) -> bool:
    return isinstance(batch, (tuple, list)) and len(batch) == 2
