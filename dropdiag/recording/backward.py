"""Tells the backward passes that train a model from those that ask for a gradient alone."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

import torch
from torch import Tensor, nn

from dropdiag.recording.parts import is_spread
from dropdiag.sketches.native import PLAIN

# Private, all of these. The number of the backward pass that this thread is in, -1 outside of any: torch's checkpoint
# asks the same question. Whether the pass will run a node: torch.autograd.graph.register_multi_grad_hook asks that.
backward_number = torch._C._current_graph_task_id
_will_run = torch._C._will_engine_execute_node

_ACCUMULATES: Final[Any] = torch._C._functions.AccumulateGrad  # type: ignore[attr-defined]
_AUTOGRAD: Final = torch._C.DispatchKey.AutogradFunctionality

NEAR: Final = 64
"""Nodes of a graph that are looked at for a parameter."""
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
    node : Node or None
        That adds to the gradient of a parameter which a forward pass of this step has used.
    kept, left_out : bool
        Whether a pass of this step trained, and whether one did not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.number, self.trains = NO_NUMBER, False
        self._known: dict[int, bool] = {}
        self.node: Any = None
        self._borrowed: list[weakref.ref[Tensor]] = []
        self.kept = self.left_out = False
        self._note_parameters()

    def _note_parameters(self) -> None:
        """Note where the model keeps its parameters, and which these are."""
        tables: list[dict[str, Any]] = [module._parameters for module in self._model.modules()]
        places = [(table, name, tensor) for table in tables for name, tensor in table.items()]
        self._parameters = [(table, name, id(tensor)) for table, name, tensor in places]
        # One of those that are trained stands for all: this is looked at in every forward pass.
        trained = [(table, name, id(tensor)) for table, name, tensor in places if _takes_gradient(tensor)]
        # Parameters that are spread over ranks are not asked for their nodes, which takes operations on the whole.
        self._spread = any(is_spread(tensor) for _, _, tensor in places)
        self._first = (trained or self._parameters or [({}, "", id(None))])[0]
        self._changed = False

    def step_begins(self) -> None:
        """Forget the passes of the last step."""
        self.number = NO_NUMBER
        self.node = None
        self._known.clear()
        self._borrowed.clear()
        self.kept = self.left_out = False
        if self._changed:  # for good, perhaps
            self._note_parameters()

    def forward_begins(self) -> None:
        """Note parameters that stand in for the model's own in this forward pass."""
        # torch.func.functional_call puts a user's tensors into the modules for the length of a forward pass. They may
        # be what is trained, and nothing leads to them any more when the backward pass comes.
        table, name, number = self._first
        if id(table.get(name)) == number:
            return
        found = [(table.get(name), number) for table, name, number in self._parameters]
        changed = [tensor for tensor, number in found if tensor is not None and id(tensor) != number]
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

    def see(self, z: Tensor) -> None:
        """Look for a parameter right before a net value, and keep its node until the step is over."""
        # It is the first to be asked, as that takes no time. The node holds the parameter and nothing else.
        for node, _ in z.grad_fn.next_functions if z.grad_fn is not None else ():
            if isinstance(node, _ACCUMULATES) and type(node.variable) is nn.Parameter:
                self.node = node
                return
        if self._spread:
            self.node = _near(z.grad_fn)

    def _accumulates(self) -> bool:
        node: Any = None
        try:
            for node in self._nodes():
                if _will_run(node):
                    return True
        except RuntimeError:  # torch.autograd.grad, which was asked for the gradient of this very parameter
            return False
        return node is None

    def _nodes(self) -> Iterator[Any]:
        if self.node is not None:
            yield self.node
        borrowed = (tensor for reference in self._borrowed if (tensor := reference()) is not None)
        yield from map(_accumulator, filter(_takes_gradient, chain(borrowed, self._model.parameters())))


def _near(node: Any) -> Any:
    """Return the nearest node that adds to the gradient of a parameter, among the few before this one."""
    seen, waiting = 0, deque([node])
    while waiting and seen < NEAR:
        node, seen = waiting.popleft(), seen + 1
        if isinstance(node, _ACCUMULATES) and (type(node.variable) is nn.Parameter or is_spread(node.variable)):
            return node
        waiting.extend(before for before, _ in (node.next_functions if node is not None else ()) if before is not None)
    return None


def _takes_gradient(tensor: Tensor) -> bool:
    # A subclass is not asked: its attributes may mean anything.
    return type(tensor) in PLAIN and tensor.requires_grad and tensor.is_leaf


def _accumulator(leaf: Tensor) -> Any:
    """Return the node that adds to a leaf's ``.grad``; the engine keeps one as long as a graph needs it."""
    with torch.enable_grad():
        view = leaf.view_as(leaf)
        node = view.grad_fn or _view_inside_an_operator(leaf).grad_fn
    return node.next_functions[0][0]  # type: ignore[union-attr]


def _view_inside_an_operator(leaf: Tensor) -> Tensor:
    # Inside an operator of our own, as under torch.compile, autograd is switched off.
    with torch._C._SetExcludeDispatchKeyGuard(_AUTOGRAD, False):
        return leaf.view_as(leaf)
