"""What the masks of a dropout did: how many units they replaced, and how much noise they put on each node."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dropdiag.sketches import native

Number = int | float | Tensor
"""A number, or a tensor of one element where it is on an accelerator: the host need not wait for it."""

_INTEGERS: Final = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
CHUNK: Final = 2**20
"""Values that are widened to float64 at a time."""


class MaskedPass(NamedTuple):
    """One pass through a dropout.

    Attributes
    ----------
    rate : float, Tensor of shape () or None
        Nominal; None where it is not known.
    dropped, counted : int, Tensor of shape () or None
        Units that the mask replaced, and those that it could have: which were not equal to the replacement already.
        None where the mask is not seen.
    noise : NodeNoise or None
        Of the values before the mask; None where there is no form.
    """

    rate: float | Tensor | None
    dropped: Number | None = None
    counted: Number | None = None
    noise: NodeNoise | None = None


class MaskCounter:
    """Counts what a mask replaces, from the values before it and those after it.

    Keeps one boolean (of integers a copy) of what it was given, as the dropout may work in place.

    Parameters
    ----------
    x : Tensor
        Values before the mask: floats, or numbers of tokens.
    leading : int
        How many of the first dimensions number the units.
    locked : bool
        Whether one mask holds for all positions of a sequence, the first or the second dimension.
    replacement : float
        What a dropped unit is set to, on the scale of `x`.
    """

    __slots__ = ("ids", "leading", "live", "locked", "shape")

    def __init__(self, x: Tensor, leading: int, *, locked: bool = False, replacement: float = 0.0) -> None:
        x = x.detach()
        self.shape, self.leading, self.locked = x.shape, leading, locked
        self.ids = x.clone() if x.dtype in _INTEGERS else None
        self.live = _differs(x, replacement)

    def count(self, y: Tensor, replaced: float | Tensor = 0.0, prefix: int = 0) -> tuple[Number, Number] | None:
        """Return how many units were replaced, and how many could have been; None where that cannot be seen.

        Parameters
        ----------
        y : Tensor
            What came out.
        replaced : float or Tensor of shape ()
            What a dropped unit reads in `y`.
        prefix : int
            Tokens at the start that are never dropped, where fewer tokens come out than went in.
        """
        if y.shape != self.shape:
            return self._tokens_left_out(y, prefix)
        if self.ids is not None:
            return _replaced_tokens(self.ids, y)
        live = self.live
        if self.locked and y.ndim > 2:
            kept = _differs(y.detach(), replaced)
            return _likelier([(live.any(d), kept.any(d)) for d in (0, 1)])
        if (found := self._count_on_host(y, replaced)) is not None:
            return found
        kept = _differs(y.detach(), replaced)
        if self.leading < y.ndim:
            live, kept = live.flatten(self.leading).any(-1), kept.flatten(self.leading).any(-1)
        counted, remaining = live.sum(), (live & kept).sum()
        return number(counted - remaining), number(counted)

    def _count_on_host(self, y: Tensor, replaced: float | Tensor) -> tuple[int, int] | None:
        """Return what `count` does, by the compiled loop; None where it cannot read the values."""
        if native.loops is None or not (self.live.is_contiguous() and _exact(y, replaced)):
            return None
        unit = math.prod(self.shape[self.leading :])
        found: tuple[int, int] | None = native.loops.masked(y, self.live.data_ptr(), unit, replaced)
        return found

    def _tokens_left_out(self, y: Tensor, prefix: int) -> tuple[Number, Number] | None:
        alike = y.ndim == len(self.shape) >= 2 and y.shape[0] == self.shape[0] and y.shape[2:] == self.shape[2:]
        if self.leading != 2 or not alike or y.shape[1] > self.shape[1]:
            return None
        return self.shape[0] * (self.shape[1] - y.shape[1]), self.shape[0] * (self.shape[1] - prefix)


def _differs(tensor: Tensor, value: float | Tensor) -> Tensor:
    """Return where a tensor differs from a value, as NaN does."""
    if native.loops is not None and tensor.is_cpu and _exact(tensor, value):
        differs = torch.empty(tensor.shape, dtype=torch.bool, device="cpu")
        if native.loops.differ(tensor, value, differs.data_ptr()):
            return differs
    # The same for 0, in an eighth of the time of a comparison.
    return tensor.bool() if isinstance(value, float) and value == 0 else tensor != value


def _exact(tensor: Tensor, value: float | Tensor) -> bool:
    """Whether a number is compared with a tensor's values by the compiled loop as torch does it."""
    # torch rounds the number to the dtype of the values first.
    return isinstance(value, float) and (value == 0 or tensor.dtype == torch.float32)


def number(tensor: Tensor) -> Number:
    """Return a tensor of one element, as a number where that does not make the host wait."""
    return tensor.item() if tensor.is_cpu else tensor


def _replaced_tokens(ids: Tensor, y: Tensor) -> tuple[Number, Number]:
    changed = ids != y
    # All are replaced by one number, that of an unknown word: tokens that have it already cannot be dropped.
    unknown = torch.where(changed, y, torch.iinfo(ids.dtype).min).max() if ids.numel() else ids.sum()
    return number(changed.sum()), number((ids != unknown).sum())


def _likelier(units: list[tuple[Tensor, Tensor]]) -> tuple[Number, Number]:
    """Return the counts along the dimension that the mask was locked along, where whole rows are gone."""
    counts = torch.stack([torch.stack([(live & ~kept).sum(), live.sum()]) for live, kept in units])
    # Along any other dimension a row is gone only if every mask dropped it. Picked without the host knowing which.
    dropped, counted = counts.gather(0, counts[:, 0].argmax().reshape(1, 1).expand(1, 2))[0].unbind()
    return number(dropped), number(counted)


class NodeNoise:
    """Noise that masks put on each node, beside its variance over the data, in float64.

    Error: that of float64 sums about a value of each node, some 1e-14 relative; a constant node has variance 0 exactly.
    Memory: four numbers a node.

    Attributes
    ----------
    n : int
        Samples.
    table : Tensor of float64, shape (4, nodes)
        A value s of each node, sum (h - s) and sum (h - s)**2 over the samples, and the sum over the samples of the
        variance over masks.
    """

    __slots__ = ("n", "table")

    def __init__(self, values: Tensor, axis: int | tuple[int, ...], factor: float, about: float = 0.0) -> None:
        """Take in the values of a pass before its mask.

        Parameters
        ----------
        values : Tensor of floats
        axis : int or tuple of int
            The dimension that counts nodes, or several whose combinations do.
        factor, about : float
            The variance over masks of a value h is ``factor * (h - about)**2``, on the scale of h.
        """
        axes = (axis,) if isinstance(axis, int) else axis
        nodes = math.prod(values.shape[a] for a in axes)
        self.n = values.numel() // nodes if nodes else 0
        table = _table_on_host(values, axes, factor, about)
        self.table = _table(values.detach(), axes, factor, about) if table is None else table

    def merge(self, other: NodeNoise) -> None:
        """Take in what another has seen."""
        shift, first, second, noise = self.table.unbind()
        from_shift, others, squares, more = other.table.unbind()
        off = from_shift - shift
        second = second + squares + 2 * off * others + other.n * off**2
        self.table = torch.stack([shift, first + others + other.n * off, second, noise + more])
        self.n += other.n

    def finite(self) -> bool | Tensor:
        """Return whether all values are finite: 0 times another value is NaN, so its mask cannot be seen."""
        judged = self._judged_on_host()
        return self.table[1].sum().isfinite() if judged is None else judged[1]

    def _judged_on_host(self) -> tuple[float | None, bool] | None:
        """Return what `ratio` and `finite` do, by the compiled loop; None where it cannot read the table."""
        if native.loops is None or not (self.table.is_cpu and self.n):
            return None
        found: tuple[float | None, bool] = native.loops.noise_ratio(self.table.data_ptr(), self.table.shape[1], self.n)
        return found

    def as_state(self) -> Tensor:
        """Return mean, M2 = sum (h - mean)**2 and noise of the nodes: what those of several ranks are merged from.

        Returns
        -------
        Tensor of float64, shape (3 nodes,)
        """
        n = max(self.n, 1)
        shift, first, second, noise = self.table.unbind()
        return torch.cat([shift + first / n, second - first**2 / n, noise])

    def ratio(self) -> float | Tensor | None:
        """Return noise over variance, averaged over the nodes that vary; None (a tensor: NaN) where none does."""
        if (judged := self._judged_on_host()) is not None:
            return judged[0]
        _, first, second, noise = self.table.unbind()
        variance = second - first**2 / max(self.n, 1)
        varies = variance != 0  # NaN does: a diverged node is not left out
        mean = torch.where(varies, noise / variance, 0.0).sum() / varies.sum()
        return (mean.item() if bool(varies.any()) else None) if mean.is_cpu else mean


def _table_on_host(values: Tensor, axes: tuple[int, ...], factor: float, about: float) -> Tensor | None:
    """Return the table of `NodeNoise`, by the compiled loop; None where it cannot read the values."""
    if native.loops is None or len(axes) != 1 or not values.is_cpu:
        return None
    shape, axis = values.shape, axes[0] % values.ndim
    table = torch.empty((4, shape[axis]), dtype=torch.float64, device="cpu")
    stretches = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    return table if native.loops.node_noise(values, *stretches, factor, about, table.data_ptr()) else None


def _table(values: Tensor, axes: tuple[int, ...], factor: float, about: float) -> Tensor:
    nodes = math.prod(values.shape[a] for a in axes)
    rows = values.movedim(axes, tuple(range(-len(axes), 0))).reshape(-1, nodes)
    n = rows.shape[0]
    shift = rows[0].double() if n else rows.new_zeros(nodes, dtype=torch.float64)
    first, second = torch.zeros_like(shift), torch.zeros_like(shift)
    for part in torch.split(rows, max(CHUNK // max(nodes, 1), 1)):
        d = part.double() - shift
        first += d.sum(0)
        second += d.square_().sum(0)
    off = shift - about
    return torch.stack([shift, first, second, factor * (second + 2 * off * first + n * off**2)])


class DropoutSketch:
    """What the masks of one site did in a step, pooled over its passes.

    Error: counts are exact; that of `NodeNoise`. Memory: some numbers, and four a node.

    Attributes
    ----------
    passes : int
        With a known rate.
    dropped, counted : int, Tensor of shape () or None
    noise : NodeNoise or None
    """

    __slots__ = ("_rates", "counted", "dropped", "noise", "passes")

    def __init__(self) -> None:
        self.passes = 0
        self._rates: float | Tensor = 0.0
        self.dropped: Number | None = None
        self.counted: Number | None = None
        self.noise: NodeNoise | None = None

    # The one sketch that is fed with more than a tensor: Any, as the protocol's argument is a Tensor.
    def update(self, values: Any) -> None:
        """Take in a `MaskedPass`."""
        if values.rate is not None:
            self.passes += 1
            self._rates = self._rates + values.rate
        self._count(values.dropped, values.counted, values.noise)

    def merge(self, other: DropoutSketch) -> None:
        """Take in what another has seen."""
        self.passes += other.passes
        self._rates = self._rates + other._rates
        self._count(other.dropped, other.counted, other.noise)

    def _count(self, dropped: Number | None, counted: Number | None, noise: NodeNoise | None) -> None:
        if dropped is not None and counted is not None:
            self.dropped = dropped if self.dropped is None else self.dropped + dropped
            self.counted = counted if self.counted is None else self.counted + counted
        if noise is not None and self.noise is None:
            self.noise = noise
        elif noise is not None and self.noise is not None:
            self.noise.merge(noise)

    @property
    def rate(self) -> float | Tensor | None:
        """Nominal rate, averaged over the passes; None where it is not known."""
        return self._rates / self.passes if self.passes else None

    @property
    def seen(self) -> bool:
        """Whether any mask was seen."""
        return self.dropped is not None

    @property
    def share(self) -> float | Tensor | None:
        """Share of the units that masks replaced; None (a tensor: NaN) where none could be, or not all can be seen."""
        if self.dropped is None or self.counted is None:
            return None
        finite = None if self.noise is None else self.noise.finite()
        if isinstance(self.counted, Tensor) or isinstance(self.dropped, Tensor):
            share = torch.as_tensor(self.dropped, dtype=torch.float64) / self.counted
            return share if finite is None else torch.where(torch.as_tensor(finite), share, torch.nan)
        return self.dropped / self.counted if self.counted and (finite is None or finite) else None

    @property
    def noise_to_signal(self) -> float | Tensor | None:
        """Noise-to-signal ratio, averaged over nodes; None where it has no form or no node varies."""
        return None if self.noise is None else self.noise.ratio()
