"""What passes run in, whatever the user's own surroundings are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final, TypeVar

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules import module as every_module
from torch.nn.utils import parametrize

T = TypeVar("T")

_BACKWARD_HOOKS_OF_ALL: Final = ("_global_backward_hooks", "_global_backward_pre_hooks")


def own_contexts(
    model: nn.Module, *, gradients: bool = False, double_backward: bool = False
) -> Iterator[AbstractContextManager[Any]]:
    """Give the contexts of passes.

    Parameters
    ----------
    model : nn.Module
    gradients : bool
        Whether there are backward passes.
    double_backward : bool
        Whether gradients are differentiated again: some kernels cannot do that, and others take their place.
    """
    yield torch.inference_mode(False)  # copies that are made in it could not be worked on in place
    yield torch.enable_grad() if gradients else torch.no_grad()
    # Both caches would give what is computed here, without a graph, to the training that goes on. The fused path of
    # transformer layers in evaluation mode does not give the same values to the last bit.
    yield switched(torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled, False)
    yield switched(lambda: parametrize._cache_enabled, _set_parametrize_cache, 0)
    yield switched(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, False)
    if gradients:
        yield _no_backward_hooks_of_all()
    if gradients and any(isinstance(module, nn.RNNBase) for module in model.modules()):
        # That of cuDNN has no backward pass in evaluation mode, and none of a backward pass.
        yield switched(torch._C._get_cudnn_enabled, torch._C._set_cudnn_enabled, False)
    if double_backward:
        yield sdpa_kernel(SDPBackend.MATH)


@contextmanager
def switched(read: Callable[[], T], write: Callable[[T], object], value: T) -> Iterator[None]:
    """Give a setting another value for the while."""
    before = read()
    write(value)
    try:
        yield
    finally:
        write(before)


@contextmanager
def _no_backward_hooks_of_all() -> Iterator[None]:
    """Set aside the hooks on the backward passes of all modules (`torch.nn.modules.module.register_module_...`)."""
    tables = [getattr(every_module, name) for name in _BACKWARD_HOOKS_OF_ALL]  # private, with no public names
    kept = [dict(table) for table in tables]
    for table in tables:
        table.clear()
    try:
        yield
    finally:
        for table, hooks in zip(tables, kept, strict=True):
            table.update(hooks)


def _set_parametrize_cache(depth: int) -> None:
    parametrize._cache_enabled = depth  # private, as that cache has no public switch
