"""The settings of torch's compiler that hooks need."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

_held: Final[list[bool]] = []
"""For each holder of the setting, what it was before."""


def guard_hooks(*, load: bool = False) -> bool:
    """Make graphs depend on hooks, until `release_hook_guards` was called as often; return whether that is so.

    Parameters
    ----------
    load : bool
        Whether to load the compiler, which takes seconds, where nothing was ever compiled in this process.
    """
    # By default (since pytorch#98371) a compiled graph does not notice hooks that came later (pytorch#117758), and the
    # graph of a like model without hooks is used for one with hooks: nothing would come of them, without a word.
    if load:
        import_module("torch._dynamo")
    found = dynamo()
    if found is None:
        return False
    before: bool = found.config.skip_nnmodule_hook_guards
    _held.append(before)
    found.config.skip_nnmodule_hook_guards = False
    if before:  # what is compiled so far does not ask for hooks
        found.reset()
    return True


def release_hook_guards() -> None:
    """Give the setting back where nobody else holds it."""
    first = _held[0]
    _held.pop()
    found = dynamo()
    if not _held and found is not None:
        found.config.skip_nnmodule_hook_guards = first


def dynamo() -> Any:
    """Return torch's compiler where it is loaded, None else."""
    module = sys.modules.get("torch._dynamo")  # importing it takes seconds: only who compiles has it
    return module if hasattr(module, "reset") else None  # another thread may be importing it right now
