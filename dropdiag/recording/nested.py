"""The tensors in what modules are called with and return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence


def tensors(nested: Any) -> Iterator[Tensor]:
    """Give the tensors of nested containers, depth first; a PackedSequence is its data."""
    if isinstance(nested, Tensor):
        yield nested
    elif isinstance(nested, PackedSequence):
        yield nested.data
    elif isinstance(nested, (dict, tuple, list)):
        for value in nested.values() if isinstance(nested, dict) else nested:
            yield from tensors(value)
