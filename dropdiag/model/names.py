"""What the modules and weights of a model are called: as if no wrapper were around them."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Final

from torch import nn

ROOT: Final = "(model)"
"""The name of the model itself, which is ``""`` in torch."""

# By class, and by the name of the class: none of these modules need be imported. A user's own attribute that happens to
# be called `module` is no wrapper.
WRAPPERS: Final = {
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": "_fsdp_wrapped_module",
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.CheckpointWrapper": "_checkpoint_wrapped_module",
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.OffloadWrapper": "_checkpoint_wrapped_module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.optim.swa_utils.AveragedModel": "module",
}
"""Class of a wrapper -> its attribute that holds the module inside, which no name repeats."""


def wrapped(module: nn.Module) -> str | None:
    """Return the attribute under which a wrapper keeps the module inside, None where a module is no wrapper."""
    cls = type(module)
    if cls not in _KEPT_BY:
        classes = (f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__)
        _KEPT_BY[cls] = next((WRAPPERS[name] for name in classes if name in WRAPPERS), None)
    return _KEPT_BY[cls]


_KEPT_BY: Final[weakref.WeakKeyDictionary[type[nn.Module], str | None]] = weakref.WeakKeyDictionary()


def named_modules(model: nn.Module, *, every_name: bool = False) -> Iterator[tuple[str, nn.Module]]:
    """Give a model's modules with their names, without the parts of names that wrappers add.

    Parameters
    ----------
    model : nn.Module
    every_name : bool
        Whether a module that comes several times is given under each of its names, as
        ``model.named_modules(remove_duplicate=False)`` does.

    Yields
    ------
    (str, nn.Module)
        In the order of `nn.Module.named_modules`. A wrapper has the name of the module inside.
    """
    clean: dict[str, tuple[str, str | None]] = {}
    for name, module in model.named_modules(remove_duplicate=not every_name):
        parent, _, own = name.rpartition(".")
        prefix, hides = clean.get(parent, ("", None)) if name else ("", None)
        here = prefix if not name or own == hides else f"{prefix}.{own}" if prefix else own
        clean[name] = here, wrapped(module)
        yield here, module


def weight_layer(name: str, parameter: str) -> str:
    """Return what a parameter of the module called ``name`` is called: the module alone, if it is its ``weight``."""
    if parameter == "weight":
        return name or ROOT
    return f"{name}.{parameter}" if name else parameter
