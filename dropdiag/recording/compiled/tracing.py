"""What is asked of the compiler while it traces a graph, and nothing that it puts into the graph."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

INSIDE: Final = "inside"
OUTSIDE: Final = "outside"
UNREACHABLE: Final = "unreachable"


class Traced:
    """What a graph being traced tells that it is traced."""

    traced: Callable[[], None] | None = None


# Weakly: what is told is on a model, which is freed when nobody has it any more.
_called: weakref.WeakValueDictionary[int, Traced] = weakref.WeakValueDictionary()
_places = itertools.count()
# What `_look` found last, for `_answer`; fake tensors, which have no values, of net values that enter graphs, with the
# number of times that they had been overwritten, by place.
_found = INSIDE
_entered: dict[int, tuple[Tensor, int]] = {}
_overwritten: set[int] = set()


def where_watched(z: Tensor, place: int) -> str:  # noqa: ARG001 - `_look` reads them
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
    """Look at the locals `z` and `place` of `where_watched`."""
    global _found  # noqa: PLW0603 - the compiler gives its callback no way to return anything
    # Private, as its name says. It is what Dynamo decides by itself; that the tensor is an input of the graph is not
    # the same, as the bodies of operators have inputs of their own.
    translator = context._i_will_not_complain_if_bc_breaks_InstructionTranslator()
    _found = INSIDE
    if translator.symbolic_locals["z"].source is not None:
        nested = translator.output.current_tracer.parent is not None
        _found = UNREACHABLE if nested else OUTSIDE
        fake = context.get_local("z").as_fake()
        _entered[context.get_local("place").as_python_constant()] = fake, fake._version


def _answer() -> str:
    return _found


def new_place() -> int:
    """Return a number of its own for an operator in the graph being traced."""
    return next(_places)


# Called while tracing, their results are constants of the graph. Private: torch.compiler.assume_constant_result sets
# this attribute, but imports the compiler.
for _constant in (_answer, new_place):
    vars(_constant)["_dynamo_marked_constant"] = True


def note(number: int) -> None:  # noqa: ARG001 - `_note` reads it
    """Call what `call_when_traced` was given for a number: asked for in code that is being traced."""
    from torch._dynamo.comptime import comptime  # noqa: PLC0415 - as above

    comptime(_note)


def _note(context: Any) -> None:
    variable = context.get_local("number")
    # Parts of the same code share a graph, which takes the number as an argument then; this is the one of the part that
    # is being traced.
    number = variable.as_python_constant() if variable.is_python_constant() else variable.as_fake().node.hint
    called = _called.get(number)
    if called is not None and called.traced is not None:
        called.traced()


def call_when_traced(number: int, owner: Traced, function: Callable[[], None]) -> None:
    """Call a function whenever `note` with this number is traced (not when the graph runs), while its owner lives."""
    owner.traced = function
    _called[number] = owner


def overwritten(place: int) -> bool:
    """Whether a graph overwrites the net value of an operator at this place after it came in from outside.

    To be asked when the graph runs.
    """
    # A hook on it is registered when the graph has run, so it would get the gradient of the new value, or none.
    _overwritten.update(at for at, (fake, version) in _entered.items() if fake._version != version)
    _entered.clear()  # what runs has been traced: nothing that belongs to the compiler is kept
    return place in _overwritten


def forget(number: int) -> None:
    """Forget what is called for a number."""
    _called.pop(number, None)
