"""The items of a forward pass's batch: how many they are, and which of them the samples of a tensor belong to.

Nothing here looks at values: the shape of what the model is called with, and what its recurrent layers and attention,
which know their batch, take and give. Where these do not say how many items there are, it is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from dropdiag.sketches.items import Numbers
from dropdiag.sketches.native import PLAIN

_LAYERS: Final = (nn.RNNBase, nn.MultiheadAttention)


class Batch:
    """What is known of the items of one forward pass.

    A model's first input has them in its first dimension, unless a recurrent layer or attention has taken them out of
    the second: a sequence-first network. Where such a layer took numbers of items that the dimension does not explain,
    or none of them was seen in a model that has some which are sequence-first, the number is not known.

    Parameters
    ----------
    shape : sequence of int or None
        Of the model's first input; None where there is no tensor, or several disagree.
    sequence_first : callable
        Whether the model has recurrent layers or attention whose items are in the second dimension.
    """

    __slots__ = ("_alone", "_layers", "_packed", "_sequence_first", "_shape", "_steps")

    def __init__(self, shape: Sequence[int] | None, sequence_first: Callable[[], bool]) -> None:
        self._shape = () if shape is None else tuple(shape)
        self._sequence_first = sequence_first
        self._layers: set[tuple[int, int]] = set()
        self._steps: set[int] = set()
        self._alone = False
        self._packed: dict[int, Numbers] = {}

    @property
    def batch(self) -> Batch:
        """Itself: a whole batch."""
        return self

    def ran(self, items: int, length: int) -> None:
        """Take note that a layer has taken so many items, sequences of such a length."""
        self._layers.add((items, length))

    def ran_step(self, items: int) -> None:
        """Take note that a layer has taken one step of so many sequences."""
        self._steps.add(items)

    def ran_alone(self) -> None:
        """Take note that a layer has taken one item as it is, without a dimension of items."""
        self._alone = True

    def packed(self, sizes: Tensor) -> None:
        """Take note of packed sequences, by the number of items at each position."""
        rows: Numbers = np.concatenate([np.arange(n, dtype=np.int64) for n in sizes.tolist()])
        self._packed[rows.size] = rows

    def decided(self) -> tuple[int | None, bool]:
        """Return the number of items (None where it is not known), and whether the second dimension counts them."""
        numbers = {items for items, _ in self._layers} | self._steps
        if not self._shape or 0 in self._shape[:2]:
            return None, False
        if not numbers:
            first = 1 if self._alone else self._shape[0]
            return (None if not self._alone and self._sequence_first() else first), False
        return self._by_layers(numbers, *(*self._shape, 0)[:2])

    def _by_layers(self, numbers: set[int], first: int, second: int) -> tuple[int | None, bool]:
        """Return what `decided` does, of the numbers of items that layers have taken."""
        turned = second != first and (second, first) in self._layers
        if first in numbers:  # with `turned`: one layer says the first dimension, another one the second
            size, in_turn = (None if turned else first), False
        elif turned:
            size, in_turn = second, True
        elif len(self._shape) <= 2 and self._layers == {(1, first)} and not self._steps:
            return 1, False  # it is one sequence, without a dimension of items
        else:  # a number that both explain says nothing: which of them it is made of is not known
            size, in_turn = (second, True) if second in numbers else (first, False)
            if in_turn and all(n % first == 0 for n in numbers):
                size = None
        fits = size is not None and not self._alone and all(n % size == 0 for n in numbers)
        return (size if fits else None), in_turn

    def items(self, dims: tuple[int, ...], samples: Numbers) -> Numbers | None:
        """Return which item each sample belongs to; None where that cannot be told.

        A dimension of the items' number counts them. A first dimension that is a multiple of it is made of stretches
        of one item each, as a view of all but the last dimension is; of all items in turn, if they were in the second.

        Parameters
        ----------
        dims : tuple of int
            The dimensions of a tensor that count samples.
        samples : ndarray of int64
            Numbers of samples, counted over these dimensions in their order.
        """
        size, in_turn = self.decided()
        if size == 1:
            return np.zeros_like(samples)
        if size is None or not dims:
            return None
        first = samples // math.prod(dims[1:])
        if dims[0] in self._packed:
            return self._of_packed(self._packed[dims[0]], first, size)
        if size in dims and (in_turn or dims[0] == size or dims[0] % size):
            return samples // math.prod(dims[dims.index(size) + 1 :]) % size
        if dims[0] % size:
            return None
        return first % size if in_turn else first // (dims[0] // size)

    @staticmethod
    def _of_packed(rows: Numbers, chosen: Numbers, size: int) -> Numbers | None:
        of_each, rest = divmod(int(rows.max()) + 1, size)
        return None if rest else rows[chosen] // of_each


class Unpadded:
    """The tokens of a batch that are no padding, in the order in which a mask takes them out.

    Parameters
    ----------
    batch : Batch
    mask : Tensor of bool
        True for what is no padding.
    """

    def __init__(self, batch: Batch, mask: Tensor) -> None:
        self.batch = batch
        self._shape = tuple(mask.shape)
        # Taking tokens out by a mask has made the host wait for a device already.
        self._places: NDArray[np.int64] = mask.nonzero().cpu().numpy()

    def items(self, dims: tuple[int, ...], samples: Numbers) -> Numbers | None:
        """Return which item each sample belongs to, as `Batch.items` does."""
        size, in_turn = self.batch.decided()
        if size not in self._shape or not dims or dims[0] != len(self._places):
            return None
        at = self._shape.index(size) if not in_turn else len(self._shape) - 1 - self._shape[::-1].index(size)
        found: Numbers = self._places[samples // math.prod(dims[1:]), at]
        return found


class Batches:
    """The batches of a model's forward passes, one at a time.

    Parameters
    ----------
    model : nn.Module

    Attributes
    ----------
    now : Batch or None
        That of the pass that is running; None outside of any, and where nobody asks for it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.now: Batch | None = None
        self._sequence_first: bool | None = None
        self._unpadded: tuple[Batch, Tensor, Unpadded] | None = None

    def forget(self) -> None:
        """Forget what is known of the model: its modules may be others in the next pass."""
        self.now = self._sequence_first = self._unpadded = None

    def begin(self, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        """Take in what the model is called with."""
        given = next((value for value in args if value is not None), None)
        if isinstance(given, PackedSequence):
            self.now = Batch(given.batch_sizes[:1].tolist(), _never)
            self.now.packed(given.batch_sizes)
        else:
            self.now = Batch(_shape(args, keywords), self._is_sequence_first)

    def end(self) -> None:
        """Take note that the pass is over."""
        self.now = self._unpadded = None

    def source(self, mask: Tensor | None) -> Batch | Unpadded | None:
        """Return where samples of this pass come from, or those that a padding mask has left."""
        batch = self.now
        if batch is None or mask is None:
            return batch
        if self._unpadded is None or self._unpadded[0] is not batch or self._unpadded[1] is not mask:
            self._unpadded = batch, mask, Unpadded(batch, mask)
        return self._unpadded[2]

    def returned(self, module: nn.Module, output: Any) -> None:
        """Take in what a recurrent layer or attention gives: it knows its batch."""
        batch = self.now
        h = output[0] if isinstance(output, tuple) and not isinstance(output, PackedSequence) else output
        if batch is None or not isinstance(module, _LAYERS):
            return
        if isinstance(h, PackedSequence):
            batch.packed(h.batch_sizes)
        elif type(h) in PLAIN and h.ndim == 2:
            batch.ran(1, h.shape[0])
        elif type(h) in PLAIN and h.ndim == 3:
            first, second = h.shape[:2]
            batch.ran(*((first, second) if module.batch_first else (second, first)))

    def _is_sequence_first(self) -> bool:
        if self._sequence_first is None:
            self._sequence_first = any(
                isinstance(module, nn.RNNCellBase) or (isinstance(module, _LAYERS) and not module.batch_first)
                for module in self._model.modules()
            )
        return self._sequence_first


def _never() -> bool:
    return False


def _shape(args: Sequence[Any], keywords: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the shape of a model's first input; None where it is not known which that is."""
    given = [value for value in args if value is not None]
    if given and _has_items(given[0]):
        return tuple(given[0].shape)
    if not given:
        return _agreed(keywords.values())
    return _agreed(given[0].values()) if isinstance(given[0], Mapping) else None


def _agreed(values: Iterable[Any]) -> tuple[int, ...] | None:
    """Return the shape of the first of several inputs by name that have as many items; None where they differ."""
    shapes = [tuple(value.shape) for value in values if _has_items(value)]
    several = [shape for shape in shapes if shape[0] != 1] or shapes  # numbers of positions, say, come once for all
    return several[0] if several and len({shape[0] for shape in several}) == 1 else None


def _has_items(value: Any) -> bool:
    return type(value) in PLAIN and not value.is_nested and value.ndim > 0


Saw = Callable[[Batch, Sequence[Any], Mapping[str, Any]], None]


def _recurrent(batch: Batch, args: Sequence[Any], _keywords: Mapping[str, Any]) -> None:
    if args[0].ndim == 3:  # else it is packed
        first, second = args[0].shape[:2]
        batch.ran(*((first, second) if args[-1] else (second, first)))  # the last argument is batch_first


def _cell(batch: Batch, args: Sequence[Any], _keywords: Mapping[str, Any]) -> None:
    if args[0].ndim == 2:  # as it always is: a cell adds the dimension where it is not there
        batch.ran_step(args[0].shape[0])


def _attention(batch: Batch, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    query = args[0] if args else keywords["query"]
    length, items = query.shape[:2] if query.ndim == 3 else (query.shape[0], 1)
    batch.ran(items, length)


def _dot_products(batch: Batch, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
    query = args[0] if args else keywords["query"]
    if query.ndim == 4:  # items, heads, positions, features
        batch.ran(query.shape[0], query.shape[2])


def _convolution(dims: int) -> Saw:
    def saw(batch: Batch, args: Sequence[Any], keywords: Mapping[str, Any]) -> None:
        x = args[0] if args else keywords["input"]
        if x.ndim == dims + 1:
            batch.ran_alone()

    return saw


SEEN_BY: Final[dict[Any, Saw]] = {
    **dict.fromkeys((torch.lstm, torch.gru, torch.rnn_tanh, torch.rnn_relu), _recurrent),
    **dict.fromkeys((torch.lstm_cell, torch.gru_cell, torch.rnn_tanh_cell, torch.rnn_relu_cell), _cell),
    F.multi_head_attention_forward: _attention,
    F.scaled_dot_product_attention: _dot_products,
    **{getattr(torch, f"conv{n}d"): _convolution(n) for n in (1, 2, 3)},
}
"""Functions that know their batch, with what takes note of it."""
