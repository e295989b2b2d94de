"""Copies of all that a model holds, in the place of the originals while it is measured."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, Final

from torch import Tensor, nn

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.state.reachable import Reachable, Variable, held, reachable

_ATOMS: Final = (int, float, bool, str, type(None))
_STORAGES: Final = "torch"
"""The key under which tensors note storages in what deepcopy knows."""
_CONTAINERS: Final = (OrderedDict, dict, list, set)


class WorkingCopy:
    """A model whose modules work on copies of what they hold.

    The modules stay the same objects, so that hooks, closures and methods that name one of them still do; the
    originals of everything else are set aside untouched, and put back by `put_back`. So nothing that is in them need
    be compared or rewritten: values, version counters, gradients, identities and the order of hooks are what they were.

    Parameters
    ----------
    model : nn.Module
    batch : object
        What the model is called with.
    beside : nn.Module, optional
        What is called with the model's output, and may have a state of its own.

    Attributes
    ----------
    found : Reachable

    Raises
    ------
    ArgumentError
        Where something can be neither copied nor put back.
    """

    def __init__(self, model: nn.Module, batch: object, beside: nn.Module | None = None) -> None:
        self._batch = batch
        self.found: Reachable = reachable(model, (batch, beside))
        self._originals = {name: vars(module) for name, module in self.found.modules.items()}
        self._held = {name: held(module) for name, module in self.found.modules.items()}
        self._members = {cls: set(vars(cls)) for cls in self.found.classes}
        kept = (*self.found.modules.values(), *self.found.generators, *self.found.shared)
        self._known: dict[Any, Any] = {id(item): item for item in kept}
        # Parameters are copied once: a forward pass hardly ever writes to them, and they are most of a model.
        for name, module in self.found.modules.items():
            for parameter in module._parameters.values():
                if parameter is not None and id(parameter) not in self._known:
                    self._known[id(parameter)] = _copied_parameter(name, parameter, self._known)

    def renew(self) -> Any:
        """Give the modules new copies of what they held at first; return a copy of the batch."""
        known = dict(self._known)
        # Where deepcopy notes storages: shared, the buffers of one pass would go on in the next.
        known[_STORAGES] = dict(self._known.get(_STORAGES, {}))
        for tensor in self.found.tensors:
            known[id(tensor)] = copy.deepcopy(tensor.detach(), known)
        for variable in self.found.variables:
            _renew_variable(variable, known)
        for name, module in self.found.modules.items():
            contents = dict(self._originals[name])
            for attribute, value in self._held[name].items():
                contents[attribute] = _copied(f"the attribute {attribute!r} of {name}", value, known)
            object.__setattr__(module, "__dict__", contents)
        return _copied_batch(self._batch, known)

    def copied(self, parameter: Tensor) -> Tensor:
        """Return the copy that stands for a parameter in all passes."""
        found: Tensor = self._known[id(parameter)]
        return found

    def put_back(self) -> None:
        """Put the originals back. May be called again."""
        for name, module in self.found.modules.items():
            object.__setattr__(module, "__dict__", self._originals[name])
        for variable in self.found.variables:
            _give(variable, variable.value)
        for cls, members in self._members.items():
            for name in set(vars(cls)) - members:
                delattr(cls, name)


def _copied_batch(nested: Any, known: dict[Any, Any]) -> Any:
    """Return a copy of what a model is called with, as it may work on its input in place."""
    if isinstance(nested, Tensor):  # a slice is copied without the rest of its storage
        return known[id(nested)] if id(nested) in known else nested.detach().clone()
    if type(nested) is dict:
        return {key: _copied_batch(value, known) for key, value in nested.items()}
    if type(nested) in (list, tuple):
        return type(nested)(_copied_batch(value, known) for value in nested)
    return _copied("the batch", nested, known)


def _copied_parameter(name: str, parameter: Tensor, known: dict[Any, Any]) -> Tensor:
    kinds = {kind.__name__ for kind in type(parameter).__mro__} | {type(parameter.data).__name__}
    if kinds & {"DTensor", "FlatParameter"}:
        raise ArgumentError(
            f"the parameters of {name} are distributed over processes ({type(parameter).__name__}), and a forward pass "
            "of this one alone would wait for the others: measure the model before it is distributed"
        )
    if type(parameter) is not nn.Parameter:
        copied: Tensor = _copied(f"a parameter of {name}", parameter, known)
        return copied
    # By way of deepcopy: parameters that share their storage, such as a flattened LSTM's, still do.
    return nn.Parameter(copy.deepcopy(parameter.detach(), known), requires_grad=parameter.requires_grad)


def _renew_variable(variable: Variable, known: dict[Any, Any]) -> None:
    try:
        _give(variable, _copied(f"the variable {variable.name!r} of {variable.owner}", variable.value, known))
    except ArgumentError:
        if variable.essential:
            raise


def _give(variable: Variable, value: Any) -> None:
    if variable.read() is not value:  # a class is not touched for nothing: all that is compiled for it would be lost
        variable.write(value)


def _copied(what: str, value: Any, known: dict[Any, Any]) -> Any:
    """Return a deep copy, in the way that nearly all attributes of modules allow."""
    if type(value) in _ATOMS:
        return value
    if id(value) in known:
        return known[id(value)]
    if type(value) in _CONTAINERS and not value:  # most tables of a module are empty
        known[id(value)] = type(value)()
        return known[id(value)]
    try:
        return copy.deepcopy(value, known)
    except Exception as error:
        raise ArgumentError(
            f"{what} (of type {type(value).__name__}) could not be put back after the measurement, as it cannot be "
            f"copied: {error}. Take it off the model for the measurement, or keep it outside"
        ) from error
