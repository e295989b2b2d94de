"""What is asked of the compiler while it traces a graph, and nothing that it puts into the graph."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# What `_look` found last, for `_answer`; fake tensors, which have no values, of net values that enter graphs, with the
# number of times that they had been overwritten, by site.
_enters = False
_entered: dict[int, list[tuple[Tensor, int]]] = {}


def enters_graph(z: Tensor, number: int) -> bool:
    """Whether a tensor comes into the graph being traced from outside: asked in code that is traced."""
    from torch._dynamo.comptime import comptime  # noqa: PLC0415 - takes seconds; loaded already where code is traced

    comptime(_look)  # type: ignore[no-untyped-call]
    return _answer()


def _look(context: Any) -> None:
    """Look at the locals `z` and `number` of `enters_graph`."""
    global _enters  # noqa: PLW0603 - the compiler gives its callback no way to return anything
    z = context.get_local("z")
    _enters = z.as_proxy().node.op == "placeholder"
    if _enters:
        fake = z.as_fake()
        _entered.setdefault(context.get_local("number").as_python_constant(), []).append((fake, fake._version))


def _answer() -> bool:
    return _enters


# Called while tracing, its result is a constant of the graph. Private: torch.compiler.assume_constant_result sets this
# attribute, but imports the compiler.
_answer._dynamo_marked_constant = True  # type: ignore[attr-defined]


def overwritten(number: int) -> bool:
    """Whether a graph overwrites a net value of a site after it came in from outside."""
    # Its hook is registered when the graph has run, so it would get the gradient of the new value.
    return any(fake._version != version for fake, version in _entered.get(number, ()))


def forget(number: int) -> None:
    """Forget a site."""
    _entered.pop(number, None)
