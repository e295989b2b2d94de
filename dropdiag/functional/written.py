"""Which activation functions the code of a module seems to call, told without running it."""

from __future__ import annotations

import dis
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType
from typing import Any, Final
from weakref import WeakKeyDictionary

from torch import nn

from dropdiag.functional.functions import FUNCTIONS, known_name
from dropdiag.model.activations import MIXING, is_activation

_WRITTEN: Final[WeakKeyDictionary[type[nn.Module], frozenset[str]]] = WeakKeyDictionary()
_VARIABLES: Final = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE")


def seems_to_call(module: nn.Module, functions: Collection[str]) -> bool:
    """Whether the code of a module's methods has the name of one of these functions, or the module holds one."""
    if is_activation(module) or isinstance(module, MIXING):
        return False
    held = {FUNCTIONS[value].name for value in vars(module).values() if _is_known(value)}
    return not (held | _written(type(module))).isdisjoint(functions)


def _is_known(value: Any) -> bool:
    hashable = callable(value) and type(value).__hash__ is not None
    return hashable and value in FUNCTIONS


def _written(cls: type[nn.Module]) -> frozenset[str]:
    if cls not in _WRITTEN:
        own = [c for c in cls.__mro__ if issubclass(c, nn.Module) and not c.__module__.startswith("torch.nn.")]
        # Overridden ones among them: super() may call them.
        methods = [value for c in own for value in vars(c).values() if isinstance(value, FunctionType)]
        _WRITTEN[cls] = frozenset(name for method in methods for name in _names(method.__code__, None))
    return _WRITTEN[cls]


def _names(code: CodeType, owner: str | None) -> Iterator[str]:
    """Give the names that code reads, but for those of what a module holds: ``self.relu`` may be anything."""
    owner = owner or (code.co_varnames[0] if code.co_argcount else None)
    of_module = False
    for instruction in dis.get_instructions(code):
        if instruction.opname.startswith(_VARIABLES):
            read = instruction.argval
            of_module = owner == (read[-1] if isinstance(read, tuple) else read)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            if not of_module:
                yield known_name(str(instruction.argval))
        else:
            of_module = False
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                yield known_name(str(instruction.argval))
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner, owner)
