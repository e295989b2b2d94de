"""What the modules of a model hold, directly or through other objects: what a forward pass may change."""

from __future__ import annotations

import enum
import functools
import gc
import sys
import threading
import types
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module

from dropdiag.measure.passes.state.random_states import OwnGenerator, is_generator
from dropdiag.model.hook_base import DropdiagHook, eager
from dropdiag.model.inserted import named_inserted

_HOOKS_OF_ALL: Final = ("_global_forward_hooks", "_global_forward_pre_hooks")
"""Of `register_module_forward_hook` and its like: private, with no public names."""
_LOCKS: Final = (type(threading.Lock()), type(threading.RLock()))
_METHODS: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, staticmethod, classmethod, property)
_ENDS: Final = (
    type, types.CodeType, enum.Enum, *_LOCKS, np.ndarray, torch.device, torch.dtype, str, bytes, int, float, complex,
)  # fmt: skip
_NO_DATA: Final = (*_METHODS, *_LOCKS, types.ModuleType, type, nn.Module)
_VALUES: Final = (Tensor, np.ndarray, int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
_NOT_ONES_OWN: Final = sys.stdlib_module_names | {"torch", "numpy", "dropdiag"}


@dataclass
class Variable:
    """A variable outside of modules: of a closure, a class or a Python module.

    Attributes
    ----------
    owner, name : str
        Whose it is, and what it is called, for messages.
    value : object
        What it held when it was found.
    read, write : callable
        Return its value; give it another.
    essential : bool
        Whether a value that cannot be copied is an error.
    """

    owner: str
    name: str
    value: Any
    read: Callable[[], Any]
    write: Callable[[Any], None]
    essential: bool = False


@dataclass
class Reachable:
    """What `reachable` found.

    Attributes
    ----------
    modules : dict of str -> nn.Module
        By name; those that are no registered part of the model (in a list, in a hook) by that of their class.
    generators : list
        Random number generators of torch, numpy and Python.
    tensors : list of Tensor
        Tensors inside an autograd graph, which Python's deepcopy refuses.
    shared : list
        Objects without state that counts: Python modules, locks that a module or an object of one's own class holds.
    variables : list of Variable
    classes : list of type
        Of the modules and other objects, as far as they are the user's.
    """

    modules: dict[str, nn.Module] = field(default_factory=dict)
    generators: list[OwnGenerator] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    shared: list[object] = field(default_factory=list)
    variables: list[Variable] = field(default_factory=list)
    classes: list[type] = field(default_factory=list)


def reachable(model: nn.Module, batch: object) -> Reachable:
    """Find all that a forward pass of a model might change, from the attributes of its modules on, and in the batch.

    Followed are containers, objects, methods, and functions (hooks, say) with their closures; and where these or their
    classes are the user's, not a library's, the variables of their class and those that they name in a Python module.
    """
    return _Search(model, batch).found


def held(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are its own state.

    What the class itself leaves out when it is pickled (its trainer, its compiled code) is not, unless it is a plain
    value: a cache that is not worth saving is state all the same.
    """
    own = vars(module)
    try:
        state = module.__getstate__()  # type: ignore[no-untyped-call]
    except RuntimeError:  # parametrised modules refuse to be pickled
        return own
    if not isinstance(state, Mapping):
        return own
    return {n: v for n, v in own.items() if v is None or state.get(n) is not None or isinstance(v, _VALUES)}


class _Search:
    """A walk over objects, each of which is visited once."""

    def __init__(self, model: nn.Module, batch: object) -> None:
        self.found = Reachable()
        self._names = {id(module): name or "(model)" for name, module in model.named_modules()}
        self._names |= {id(dropout): name for name, _, dropout in named_inserted(model)}
        self._seen: dict[int, object] = {}  # held, as the id of a freed object may be given to another
        self._variables: set[tuple[int, str]] = set()
        self._methods: set[int] = set()
        waiting: list[object] = [*self._hooks_of_all(), batch, model]
        while waiting:
            item = waiting.pop()
            if id(item) not in self._seen:
                self._seen[id(item)] = item
                waiting.extend(reversed(list(self._visit(item))))

    def _hooks_of_all(self) -> list[object]:
        """Note the tables of hooks on the forward passes of all modules, as far as there are any; return them."""
        found: list[object] = []
        for name in _HOOKS_OF_ALL:
            if table := getattr(every_module, name):
                access = _attribute_of(every_module, name)
                self.found.variables.append(Variable(every_module.__name__, name, table, *access))
                found.append(table)
        return found

    def _visit(self, item: object) -> Iterable[object]:
        """Note what is to be known of an object; return what it leads to."""
        if isinstance(item, nn.Module):
            return self._module(item)
        if is_generator(item):
            self.found.generators.append(item)
        elif isinstance(item, types.ModuleType):
            self.found.shared.append(item)
        elif isinstance(item, Tensor):
            self.found.tensors.extend(() if item.is_leaf else (item,))
        elif isinstance(item, types.FunctionType):
            return self._function(item)
        elif isinstance(item, types.BuiltinFunctionType):
            return (item.__self__,)  # such as the `normal` of a generator of numpy's
        elif not isinstance(item, (*_ENDS, DropdiagHook)):
            return self._object(item)
        return ()

    def _object(self, item: object) -> Iterable[object]:
        own = getattr(item, "__dict__", {})
        if _is_ones_own(type(item).__module__):  # a lock inside a thread or a queue is no sign that a copy would do
            self.found.shared.extend(value for value in own.values() if isinstance(value, _LOCKS))
        return [*gc.get_referents(item), *own.values(), *self._class(type(item))]

    def _module(self, module: nn.Module) -> Iterable[object]:
        if eager(module) is not module:
            return (eager(module),)  # the rest of it is compiled code, which is not run
        if isinstance(module, torch.jit.ScriptModule):
            return ()  # copied as a whole, by its own rules
        name = self._names.get(id(module))
        if name is None:
            kind = f"(another {type(module).__name__})"
            name = kind + "'" * sum(known.startswith(kind) for known in self.found.modules)
        self.found.modules[name] = module
        values = held(module).values()
        self.found.shared.extend(value for value in values if isinstance(value, _LOCKS))
        return [*values, *self._class(type(module))]

    def _function(self, function: types.FunctionType) -> Iterator[object]:
        yield from (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values(), *vars(function).values())
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            yield from self._cell(function, name, cell)
        if _is_ones_own(function.__module__):
            space = function.__globals__
            for name in _names_in(function.__code__) & space.keys():
                entry = Variable(function.__module__, name, space[name], *_entry_of(space, name))
                yield from self._variable(space, entry)

    def _cell(self, function: types.FunctionType, name: str, cell: types.CellType) -> Iterable[object]:
        try:
            value = cell.cell_contents
        except ValueError:  # a variable that has no value yet
            return ()
        access = _attribute_of(cell, "cell_contents")
        # Most methods of a class have no part in a forward pass; a hook has, and so has a function that a module holds.
        essential = id(function) not in self._methods
        if not essential and isinstance(value, types.FunctionType):
            self._methods.add(id(value))  # a decorated method
        return self._variable(cell, Variable(f"the function {function.__qualname__}", name, value, *access, essential))

    def _class(self, kind: type) -> Iterator[object]:
        for cls in kind.__mro__:
            if id(cls) in self._seen or type(cls) not in (type, ABCMeta) or not _is_ones_own(cls.__module__):
                continue
            self._seen[id(cls)] = cls
            self.found.classes.append(cls)
            for name, value in vars(cls).items():
                self._methods.update(id(part) for part in _functions_of(value))
                if name == "__call__" or not name.startswith(("__", "_abc_")):
                    yield from self._variable(cls, Variable(cls.__qualname__, name, value, *_attribute_of(cls, name)))

    def _variable(self, place: object, variable: Variable) -> Iterable[object]:
        """Note a variable; return what it leads to."""
        if (id(place), variable.name) in self._variables:
            return ()
        self._variables.add((id(place), variable.name))
        value = variable.value
        if functions := _functions_of(value):
            return functions
        if _is_data(value) or (variable.essential and not isinstance(value, _NO_DATA) and not is_generator(value)):
            self.found.variables.append(variable)
        elif not isinstance(value, (types.MethodType, nn.Module)) and not is_generator(value):
            return ()
        return (value,)


def _functions_of(member: object) -> tuple[object, ...]:
    """Return the functions that a member of a class is made of."""
    if isinstance(member, types.FunctionType):
        return (member,)
    if isinstance(member, (staticmethod, classmethod)):
        return (member.__func__,)
    return (member.fget, member.fset) if isinstance(member, property) else ()


def _is_data(value: object) -> bool:
    """Whether a variable of a class or Python module holds something that a forward pass may change."""
    if isinstance(value, _NO_DATA) or is_generator(value):
        return False
    if isinstance(value, (*_VALUES, type(None))):
        return True
    return type(value).__module__ == "collections" or _is_ones_own(type(value).__module__)


@functools.cache
def _is_ones_own(module: str | None) -> bool:
    """Whether a Python module is the user's: neither Python's own nor installed as part of a library."""
    if (module or "builtins").partition(".")[0] in _NOT_ONES_OWN:
        return False
    file = getattr(sys.modules.get(str(module)), "__file__", None)
    return not {"site-packages", "dist-packages"}.intersection(Path(file or "").parts)


def _names_in(code: types.CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _entry_of(space: dict[str, Any], name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: space.get(name), lambda value: space.__setitem__(name, value)


def _attribute_of(owner: object, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)
