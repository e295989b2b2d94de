"""Gaussian noise on what a model is called with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.vectors import normal, wide

NO_INPUT: Final = ("mask", "label", "target")
"""Parts of the names of arguments that are no inputs: labels are handed over where a model computes its own loss."""
Change: TypeAlias = Callable[[str, Tensor], Tensor]


class InputNoise:
    """Noise for the floating-point tensors of a batch, in units of the standard deviation of each.

    Parameters
    ----------
    inputs : object
        What the model is called with: a tensor, several, or named ones. Of named ones, what has one of `NO_INPUT` in
        its name gets no noise.

    Attributes
    ----------
    sds : dict of str to float
        Standard deviation of each such tensor, over all its numbers; by place or name.

    Raises
    ------
    ArgumentError
        If no input is a floating-point tensor, or one has no standard deviation of its own.
    """

    def __init__(self, inputs: Any) -> None:
        self.sds: dict[str, float] = {}
        named = isinstance(inputs, Mapping)
        arguments = inputs if named or isinstance(inputs, (tuple, list)) else (inputs,)
        _changed(dict(arguments) if named else tuple(arguments), "", self._take)
        if not self.sds:
            raise ArgumentError(
                "noise is added to floating-point inputs, and the batch has none: where it holds token numbers, call "
                "the model with their embeddings (inputs_embeds of transformers, say)"
            )

    def _take(self, name: str, x: Tensor) -> Tensor:
        self.sds[name] = sd = float(wide(x).std(correction=0)) if x.numel() else math.nan
        if not 0.0 < sd < math.inf:
            raise ArgumentError(
                f"the input {name} has a standard deviation of {sd:g}, which is the unit of the noise: give a batch of "
                "finite numbers that differ"
            )
        return x

    def on(self, model: nn.Module, size: float, generator: torch.Generator) -> RemovableHandle:
        """Put a hook on a model that adds noise to what it is called with; it comes before all others."""

        def noisy(name: str, x: Tensor) -> Tensor:
            return x + size * self.sds[name] * normal(x.shape, x, generator)

        def add(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
            return _changed(args, "", noisy), _changed(kwargs, "", noisy)

        return model.register_forward_pre_hook(add, with_kwargs=True, prepend=True)


def _changed(nested: Any, name: str, change: Change) -> Any:
    """Return nested tensors with those changed that take noise; names are places and keys, joined by dots."""
    if isinstance(nested, Tensor):
        takes = nested.is_floating_point() and not any(part in name.lower() for part in NO_INPUT)
        return change(name, nested) if takes else nested
    if type(nested) is dict:
        return {key: _changed(value, _joined(name, key), change) for key, value in nested.items()}
    if type(nested) in (tuple, list):
        return type(nested)(_changed(value, _joined(name, i), change) for i, value in enumerate(nested))
    return nested


def _joined(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)
