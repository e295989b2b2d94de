"""What a network gives: its floating tensors by name, and the logits where it gives probabilities or a loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final, NamedTuple

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from dropdiag.recording.chain.graph import Edge, edge_of, softmax_input
from dropdiag.sketches.native import PLAIN

NAME: Final = "(output)"
MOST: Final = 16
"""Outputs that are read: those that are made last."""
NEAR: Final = 3
"""Nodes between a network's output and the softmax that it is looked for behind."""
NEAR_LOSS: Final = 64
"""The same, behind a loss that the network computes itself."""
_SOFTMAX: Final = ("LogSoftmaxBackward0", "SoftmaxBackward0")


class Given(NamedTuple):
    """An output.

    Attributes
    ----------
    layer : str
        ``(output)`` of a network that gives one tensor, ``(output).logits`` of what it gives by name or place.
    edge : tuple
        Its place in the graph.
    """

    layer: str
    edge: Edge


def given(output: Any, readable: Callable[[Tensor], bool]) -> list[Given]:
    """Return a network's outputs that may get a gradient, in order of execution.

    Of an output that is made by a (log-)softmax, what enters that is meant; so it is of a network that gives nothing
    but a loss.

    Parameters
    ----------
    output : object
    readable : callable
        Whether a tensor's values can be read.
    """
    plain = [(path, t) for path, t in _named(output, NAME) if type(t) in PLAIN and t.is_floating_point()]
    found = [(path, t, edge) for path, t in plain if (edge := edge_of(t)) is not None and readable(t)]
    outputs = [_behind_softmax(path, edge) for path, tensor, edge in found if tensor.ndim]
    if not outputs:
        logits = {at: path for path, _, edge in found if (at := softmax_input(edge, _SOFTMAX, NEAR_LOSS)) is not None}
        outputs = [Given(NAME, edge) for edge in logits] if len(logits) == 1 else []
    outputs.sort(key=lambda one: one.edge[0]._sequence_nr())
    return outputs[-MOST:]


def _behind_softmax(path: str, edge: Edge) -> Given:
    logits = softmax_input(edge, _SOFTMAX, NEAR)
    return Given(path, edge if logits is None else logits)


def _named(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Give the tensors of nested containers and dataclasses with their names."""
    if isinstance(value, Tensor):
        yield name, value
    else:
        for key, one in _parts(value):
            yield from _named(one, f"{name}.{key}")


def _parts(value: Any) -> Iterable[tuple[object, Any]]:
    if isinstance(value, PackedSequence):
        return [("data", value.data)]
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, (tuple, list)):
        return zip(getattr(value, "_fields", range(len(value))), value, strict=False)
    if is_dataclass(value) and not isinstance(value, type):
        return [(field.name, getattr(value, field.name, None)) for field in fields(value)]
    return ()
