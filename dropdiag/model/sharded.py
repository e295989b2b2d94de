"""Models whose parameters are spread over processes: what torch's wrappers keep, and where.

Nothing is imported for it: where nobody has loaded a wrapper, no model is wrapped in it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

from torch import nn

FLAT: Final = (
    "FullyShardedDataParallel (FSDP1) keeps it in one flat parameter, of which each rank has another part: its values "
    "are not read; torch.distributed.fsdp.fully_shard (FSDP2) keeps weights apart"
)


def loaded(module: str, name: str) -> Any:
    """Return a class or function of a module that is loaded, None where it is not."""
    return getattr(sys.modules.get(module), name, None)


def flat_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules that are wrapped in FSDP1, outermost first."""
    kind = loaded("torch.distributed.fsdp.fully_sharded_data_parallel", "FullyShardedDataParallel")
    return [] if kind is None else [module for module in model.modules() if isinstance(module, kind)]


def flat_weights(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Give the places, module and parameter's name, of the weights that FSDP1 keeps in flat parameters."""
    for wrapped in flat_modules(model):
        handle: Any = getattr(wrapped, "_handle", None)  # private, as all that FSDP1 knows of its weights
        if handle is None:
            continue
        flat = handle.flat_param
        yield from ((info.module, info.param_name) for info in (*flat._param_infos, *flat._shared_param_infos))


def sharded_modules(model: nn.Module) -> list[Any]:
    """Return the modules that ``fully_shard`` or ``replicate`` (FSDP2) was called on, outermost first."""
    kind = loaded("torch.distributed.fsdp", "FSDPModule")
    return [] if kind is None else [module for module in model.modules() if isinstance(module, kind)]


def parameter_groups(sharded: Any) -> list[Any]:
    """Return the groups of parameters that one call of ``fully_shard`` made; there may be none."""
    state = sharded._get_fsdp_state()  # private: torch has no public way to a group
    groups = getattr(state, "_fsdp_param_groups", None)  # one, until torch 2.12
    found = [state._fsdp_param_group] if groups is None else groups
    return [group for group in found if group is not None]
