"""Which models hooks work on."""

from __future__ import annotations

import torch
from torch import nn

from dropdiag.errors import ArgumentError
from dropdiag.model.hook_base import DropdiagHook


def eager(model: nn.Module) -> nn.Module:
    """Return the module inside a model that `torch.compile` wrapped, or the model itself."""
    # Private, but part of every name in a compiled model's state_dict, so it is not likely to change. Hooks go on the
    # module inside: those of the wrapper would run outside of the graph.
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def check_model(model: object) -> None:
    """Raise `ArgumentError` unless hooks on this model would run.

    Refused: what is no module, `nn.DataParallel` (its replicas run no hooks of ours), scripted modules, a model
    that has a Recorder.
    """
    if not isinstance(model, nn.Module):
        raise ArgumentError(f"a Recorder takes an nn.Module, got {type(model).__name__}")
    if isinstance(model, nn.DataParallel):
        raise ArgumentError("nn.DataParallel cannot be recorded: use DistributedDataParallel, or the module inside")
    for name, module in model.named_modules():
        what = name or "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise ArgumentError(f"{what} is scripted and runs no Python hooks: record it before jit.script")
        # Every recorded model has a pre-hook at its root, so one table is enough; private, as torch has no public one.
        if any(isinstance(hook, DropdiagHook) and not hook.closed for hook in module._forward_pre_hooks.values()):
            raise ArgumentError(f"{what} has a Recorder already: close() that one first")
