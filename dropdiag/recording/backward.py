"""Tells the backward passes that train a model from those that ask for a gradient alone."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from operator import eq
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.sketches.native import PLAIN

# Private, all three. The number of the backward pass that this thread is in, -1 outside of any: torch.utils.checkpoint
# asks the same question. Whether the pass will run a node: torch.autograd.graph.register_multi_grad_hook asks that.
backward_number = torch._C._current_graph_task_id
_will_run = torch._C._will_engine_execute_node

_AUTOGRAD: Final = torch._C.DispatchKey.AutogradFunctionality

NO_NUMBER: Final = -2
"""What no backward pass is called by."""


class BackwardPasses:
    """The backward passes of a step, and which of them train.

    A pass trains if it accumulates into the ``.grad`` of a parameter. ``torch.autograd.grad`` does not: an adversarial
    attack, the derivatives of a physics-informed loss, a gradient penalty, the inner loop of MAML, the Hessian of an
    optimiser. Whether gradients are enabled does not tell them apart, so the engine itself is asked: once a pass,
    when it reaches the first activation. Of a model without a parameter that takes gradients, every pass counts.

    Parameters
    ----------
    model : nn.Module

    Attributes
    ----------
    number : int
        Of the pass that went on last.
    trains : bool
        Whether that one trains.
    kept, left_out : bool
        Whether a pass of this step trained, and whether one did not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.number, self.trains = NO_NUMBER, False
        self._known: dict[int, bool] = {}
        self._last: weakref.ref[Tensor] | None = None
        self._borrowed: list[weakref.ref[Tensor]] = []
        self.kept = self.left_out = False
        self._note_parameters()

    def _note_parameters(self) -> None:
        """Note where the model keeps its parameters, and which these are."""
        tables = [module._parameters for module in self._model.modules()]
        self._tables = [table for table in tables for _ in table]
        self._names = [name for table in tables for name in table]
        self._numbers = [id(tensor) for table in tables for tensor in table.values()]
        self._changed = False

    def step_begins(self) -> None:
        """Forget the passes of the last step."""
        self.number = NO_NUMBER
        self._known.clear()
        self._borrowed.clear()
        self.kept = self.left_out = False
        if self._changed:  # for good, perhaps
            self._note_parameters()

    def forward_begins(self) -> None:
        """Note parameters that stand in for the model's own in this forward pass."""
        # torch.func.functional_call puts a user's tensors into the modules for the length of a forward pass. They may
        # be what is trained, and nothing leads to them any more when the backward pass comes.
        # By C functions alone: this is done in every forward pass.
        if all(map(eq, map(id, map(dict.get, self._tables, self._names)), self._numbers)):
            return
        found = [table.get(name) for table, name in zip(self._tables, self._names, strict=True)]
        changed = [t for t, number in zip(found, self._numbers, strict=True) if t is not None and id(t) != number]
        self._borrowed += [weakref.ref(tensor) for tensor in changed if _takes_gradient(tensor)]
        self._changed = True

    def change_to(self, number: int) -> None:
        """Take note that the backward pass of this number goes on, and of whether it trains."""
        if number not in self._known:
            # Outside of any: a compiled backward pass that the engine knows nothing of.
            self._known[number] = trains = number == -1 or self._accumulates()
            self.kept |= trains
            self.left_out |= not trains
        self.number, self.trains = number, self._known[number]

    def _accumulates(self) -> bool:
        parameter: Tensor | None = None
        for parameter in self._candidates():
            try:
                accumulates: bool = _will_run(_accumulator(parameter))
            except RuntimeError:  # torch.autograd.grad, which was asked for the gradient of this very parameter
                return False
            if accumulates:
                self._last = weakref.ref(parameter)  # the next pass is like this one: it is asked first
                return True
        return parameter is None

    def _candidates(self) -> Iterator[Tensor]:
        last = None if self._last is None else self._last()
        borrowed = [tensor for reference in self._borrowed if (tensor := reference()) is not None]
        yield from filter(_takes_gradient, borrowed if last is None else (last, *borrowed))
        yield from filter(_takes_gradient, self._model.parameters())


def _takes_gradient(tensor: Tensor) -> bool:
    # A subclass is not asked: its attributes may mean anything.
    return type(tensor) in PLAIN and tensor.requires_grad and tensor.is_leaf


def _accumulator(leaf: Tensor) -> Any:
    """Return the node that adds to a leaf's ``.grad``; the engine keeps one as long as a graph needs it."""
    # Not torch.enable_grad, which takes as long as all of the rest: this is done in every training step.
    before = torch.is_grad_enabled()
    torch._C._set_grad_enabled(True)
    try:
        view = leaf.view_as(leaf).grad_fn or _view_inside_an_operator(leaf).grad_fn
    finally:
        torch._C._set_grad_enabled(before)
    return view.next_functions[0][0]  # type: ignore[union-attr]


def _view_inside_an_operator(leaf: Tensor) -> Tensor:
    # Inside an operator of our own, as under torch.compile, autograd is switched off.
    with torch._C._SetExcludeDispatchKeyGuard(_AUTOGRAD, False):
        return leaf.view_as(leaf)
