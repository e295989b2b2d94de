"""What is asked of the compiler while it traces a graph, and nothing that it puts into the graph."""

from __future__ import annotations

import itertools
from typing import Any, Final

from torch import Tensor

INSIDE: Final = "inside"
OUTSIDE: Final = "outside"
UNREACHABLE: Final = "unreachable"

_places = itertools.count()
# What `_look` found last, for `_answer`; fake tensors, which have no values, of net values that enter graphs, with the
# number of times that they had been overwritten, by site.
_found = INSIDE
_entered: dict[int, list[tuple[Tensor, int]]] = {}


def where_watched(z: Tensor, number: int) -> str:
    """Return where the gradient of a tensor is found: asked in code that is being traced.

    Returns
    -------
    {"inside", "outside", "unreachable"}
        In the graph being traced; on the tensor itself, which comes into the graph; nowhere, as it comes into the graph
        and from there into the body of an operator (a checkpoint).
    """
    from torch._dynamo.comptime import comptime  # noqa: PLC0415 - takes seconds; loaded already where code is traced

    comptime(_look)
    return _answer()


def _look(context: Any) -> None:
    """Look at the locals `z` and `number` of `where_watched`."""
    global _found  # noqa: PLW0603 - the compiler gives its callback no way to return anything
    # Private, as its name says. It is what Dynamo decides by itself; that the tensor is an input of the graph is not
    # the same, as the bodies of operators have inputs of their own.
    translator = context._i_will_not_complain_if_bc_breaks_InstructionTranslator()
    _found = INSIDE
    if translator.symbolic_locals["z"].source is not None:
        nested = translator.output.current_tracer.parent is not None
        _found = UNREACHABLE if nested else OUTSIDE
        fake = context.get_local("z").as_fake()
        _entered.setdefault(context.get_local("number").as_python_constant(), []).append((fake, fake._version))


def _answer() -> str:
    return _found


def new_place() -> int:
    """Return a number of its own for an operator in the graph being traced."""
    return next(_places)


# Called while tracing, their results are constants of the graph. Private: torch.compiler.assume_constant_result sets
# this attribute, but imports the compiler.
for _constant in (_answer, new_place):
    _constant._dynamo_marked_constant = True  # type: ignore[attr-defined]


def overwritten(number: int) -> bool:
    """Whether a graph overwrites a net value of a site after it came in from outside."""
    # Its hook is registered when the graph has run, so it would get the gradient of the new value.
    return any(fake._version != version for fake, version in _entered.get(number, ()))


def forget(number: int) -> None:
    """Forget a site."""
    _entered.pop(number, None)
