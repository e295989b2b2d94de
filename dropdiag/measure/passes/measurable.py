"""Whether a model and a batch can be measured: asked before anything runs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.tensors import tensors_in
from dropdiag.model.hook_base import eager


def check_measurable(model: object) -> nn.Module:
    """Return a model without the wrapper of `torch.compile`; raise `ArgumentError` where it cannot be measured."""
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"model must be an nn.Module, got {type(model).__name__}")
    model = eager(model)
    tensors = (*model.parameters(), *model.buffers())
    if any(isinstance(t, (UninitializedParameter, UninitializedBuffer)) for t in tensors):
        raise ArgumentError("the model has lazy modules without values: run it once before it is measured")
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ArgumentError("parts of the model are scripted and run no Python hooks: measure it before jit.script")
    return model


def inner(model: nn.Module) -> nn.Module:
    """Return the module that one process runs alone: run by its wrapper, it would wait for the others."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def check_devices(model: nn.Module, **given: Any) -> None:
    """Refuse tensors on a device that no parameter of the model is on; numbers (of no dimension) may be anywhere."""
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    for what, nested in given.items():
        for tensor in tensors_in(nested):
            if devices and tensor.ndim and tensor.device not in devices:
                held = ", ".join(sorted(map(str, devices)))
                raise ArgumentError(f"{what} is on {tensor.device} and the model on {held}: move it with .to({held!r})")


def check_lengths(inputs: Any, targets: Any) -> None:
    """Refuse a batch without samples, and targets of another number than the samples."""
    first = next((tensor for tensor in tensors_in(inputs) if tensor.ndim), None)
    if first is not None and not first.shape[0]:
        raise ArgumentError(f"the batch has no samples: its first tensor is of shape {tuple(first.shape)}")
    if first is None or not isinstance(targets, Tensor) or not targets.ndim:
        return
    if targets.shape[0] not in first.shape[: 2 if first.ndim > 2 else 1]:  # a sequence may come before the samples
        raise ArgumentError(
            f"targets of shape {tuple(targets.shape)} do not fit a batch of shape {tuple(first.shape)}: one target a "
            "sample is wanted"
        )
