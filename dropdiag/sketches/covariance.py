"""Covariance of a layer's nodes over a bounded sample, and their Pearson correlation."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.sketches import native
from dropdiag.sketches.devices import sent
from dropdiag.sketches.items import ItemLog, Source
from dropdiag.sketches.mixing import mixed
from dropdiag.sketches.reservoir import Reservoir

MAX_NODES: Final = 1024
MAX_SAMPLES: Final = 2048
RANK_BITS: Final = 40
"""Samples of a rank are numbered with so many bits: a million million of them, of 16 million ranks."""
ROWS: Final = 2048
"""Samples that enter one matrix product; the products are added in float64."""
BLOCK: Final = 128
"""Nodes of a block of products; only blocks on and above the diagonal are computed."""


class Covariance:
    """Node values of up to ``max_samples`` samples, and the covariance of d nodes over them.

    Error: samples are centred before the product is taken, so a large offset does not cancel; for float32
    values about 3e-7 of the product of two standard deviations, for float64 values 1e-15. Of more samples than
    ``max_samples`` those are kept whose running number (over all batches) has the lowest hashes (splitmix64). So it
    does not matter how the samples are split into batches, no random number is drawn, and whatever period the data
    have (positions of an image, tokens of a text), its phases come about as often as in a random sample. A Pearson r
    over n samples has a standard error of (1 - r**2) / sqrt(n): 0.022 at most for 2,048. Memory: 4 d max_samples bytes
    (4 MB for 512 nodes). Time: a copy of the samples that are kept, and one matrix product at the end.

    Parameters
    ----------
    node_axis : callable, optional
        Number of dimensions -> the dimension that counts nodes, or several whose combinations do; all others count
        samples. Default: the last.
    max_nodes : int
        Above this many nodes a random subset of that size is used, the same one for the same width and seed.
    max_samples : int
        Samples that are kept.
    seed : int
        Seed of the subset. Drawn from a generator of its own: the global random state is not touched.

    Attributes
    ----------
    seen : int
        Number of samples that came.
    width : int
        Number of nodes of the layer, of which ``min(width, max_nodes)`` are used.

    Notes
    -----
    A dropout mask on the node values itself lowers their correlation (with inverted dropout and keep
    probability q, a zero-mean r becomes q r): feed node values from before the mask, or from evaluation mode.
    Samples that are not independent (tokens of a text, positions of an image) carry less than their number suggests:
    `items` says of how many items of the batches they are.
    """

    takes_source = True
    """Whether `update` is told which batch the values come from."""

    def __init__(
        self,
        node_axis: Callable[[int], int | tuple[int, ...]] | None = None,
        max_nodes: int = MAX_NODES,
        max_samples: int = MAX_SAMPLES,
        seed: int = 0,
    ) -> None:
        for name, value in (("max_nodes", max_nodes), ("max_samples", max_samples)):
            if value < 2:
                raise ArgumentError(f"a correlation needs {name} of at least 2, got {value}")
        self.seen = 0
        self.width = 0
        self._axis: Callable[[int], int | tuple[int, ...]] = node_axis or (lambda _: -1)
        self._max_nodes, self._max_samples, self._seed = max_nodes, max_samples, seed
        self._subset: Tensor | None = None
        self._kept = Reservoir(max_samples)
        self._room: Tensor = torch.empty(0, 0)
        self._items = ItemLog()
        self._first = 1  # number of the first sample, by which it is chosen or not

    def take_share(self, place: int, of: int) -> None:
        """Keep a share of ``max_samples``, chosen as no other rank chooses; before the first update.

        Parameters
        ----------
        place : int
            Of the rank, or of those that have one batch, from 0. The hash is of it and the sample's running number.
        of : int
            How many ranks choose.
        """
        self._max_samples = max(-(-self._max_samples // of), 2)
        self._kept = Reservoir(self._max_samples)
        self._first = 1 + (place << RANK_BITS)

    def update(self, values: Tensor, source: Source | None = None) -> None:
        """Take in a batch of node values.

        Parameters
        ----------
        values : Tensor of floats
            One dimension counts nodes (``node_axis``), the others samples.
        source : Source, optional
            Tells which samples belong to one item. Without it the number of items is not known.

        Raises
        ------
        ArgumentError
            If the number of nodes differs from that of the first batch.
        """
        values = values.detach()
        if values.ndim == 0:
            values = values.reshape(1)  # a number is one node
        axis = self._axis(values.ndim)
        if isinstance(axis, tuple):
            last = tuple(range(-len(axis), 0))
            values, axis = values.movedim(axis, last).flatten(-len(axis)), -1
        axis %= values.ndim
        self._check_width(values.shape[axis], values.device)
        dims = tuple(values.shape[:axis] + values.shape[axis + 1 :])
        samples = values.numel() // self.width
        keys = mixed(self.seen + self._first, samples)
        chosen, places = self._kept.offer(keys)
        self.seen += samples
        self._items.begin(source)
        if chosen.size:
            if axis != values.ndim - 1 or not self._copy_rows(values, chosen, places):
                self._put(_rows(values, axis, chosen, self._subset), places)
            self._items.put(source, dims, chosen, places)
        self._kept.take(keys, chosen, places)

    def merge(self, other: Covariance) -> None:
        """Take in what another (of the same nodes) has seen."""
        if other.seen == 0:
            return
        if self.seen == 0:
            self.width, self._subset = other.width, other._subset
        mine, theirs = ((c.width, c._max_nodes, c._max_samples, c._seed) for c in (self, other))
        if mine != theirs:
            raise ArgumentError(
                "covariances of different nodes cannot be merged: (width, max_nodes, max_samples, seed) "
                f"are {mine} and {theirs}"
            )
        self.seen += other.seen
        chosen, places = self._kept.offer(other._kept.keys)
        if chosen.size:
            self._put(other.samples()[_index(chosen, other._room.device)], places)
        self._items.take(other._items, chosen, places)
        self._kept.take(other._kept.keys, chosen, places)

    def _check_width(self, width: int, device: torch.device) -> None:
        if self.width == 0:
            self.width = width
            if width > self._max_nodes:
                generator = torch.Generator().manual_seed(self._seed)
                chosen = torch.randperm(width, generator=generator)[: self._max_nodes]
                self._subset = sent(chosen.sort().values, device)
        if width != self.width:
            raise ArgumentError(f"the layer had {self.width} nodes and now has {width}")

    def _make_room(self, nodes: int, dtype: torch.dtype, device: torch.device) -> None:
        if self._room.shape[0] == 0:
            with torch.inference_mode(False):  # a tensor made in inference mode cannot be written to outside of it
                self._room = torch.empty(self._max_samples, nodes, dtype=dtype, device=device)

    def _copy_rows(self, values: Tensor, chosen: NDArray[np.int64], places: NDArray[np.int64]) -> bool:
        """Copy the chosen samples to their places, where the compiled loop can read values that have nodes last."""
        if native.loops is None or self._subset is not None or not values.is_contiguous():
            return False
        if values.dtype != torch.float32 or native.memory_span(values) is None:
            return False
        self._make_room(self.width, values.dtype, values.device)
        if self._room.dtype != values.dtype or not self._room.is_cpu:
            return False
        source, target = (values.data_ptr(), native.address(chosen)), (self._room.data_ptr(), native.address(places))
        native.loops.copy_rows(*source, *target, chosen.size, self.width * values.element_size())
        return True

    def _put(self, rows: Tensor, places: NDArray[np.int64]) -> None:
        """Write rows at their places, new ones or those of samples that are kept no more."""
        self._make_room(rows.shape[1], rows.dtype, rows.device)
        rows, start = rows.to(self._room), int(places[0])
        if places[-1] - start + 1 == places.size:  # ascending, so all that lie between them
            self._room[start : start + places.size] = rows
        else:
            self._room.index_copy_(0, _index(places, self._room.device), rows)

    def samples(self) -> Tensor:
        """Return the node values that are kept, in no particular order.

        Returns
        -------
        Tensor of float32 or float64, shape (n, nodes)
        """
        return self._room[: self.n] if self.n else torch.empty(0, self.nodes)

    @property
    def n(self) -> int:
        """Number of samples that are used: all that came, up to ``max_samples``."""
        return self._kept.n

    @property
    def items(self) -> int | None:
        """Number of items of the batches that the samples used belong to; None where that is not known of each."""
        return self._items.count()

    @property
    def nodes(self) -> int:
        """Number of nodes used: the layer's width, or the subset's size."""
        return min(self.width, self._max_nodes)

    def covariance(self) -> Tensor:
        """Return the covariance over the samples, divided by n (not n - 1).

        Returns
        -------
        Tensor of float64, shape (nodes, nodes)
        """
        x = self.samples()
        n = max(x.shape[0], 1)
        x = x - x.mean(0)
        rest = x.mean(0).to(torch.float64)  # what the rounding of the mean left
        return _products_in_range(x).div_(n).sub_(torch.outer(rest, rest))

    def as_state(self) -> Tensor:
        """Return mean, minimum, maximum and covariance of the nodes: what those of several ranks are merged from.

        Returns
        -------
        Tensor of float64, shape (3 nodes + nodes (nodes + 1) / 2,)
            Of the covariance the upper triangle with the diagonal, row by row.
        """
        x = self.samples().to(torch.float64)
        covariance = self.covariance()
        upper = torch.triu_indices(*covariance.shape, device=x.device)
        return torch.cat([x.mean(0), *torch.aminmax(x, dim=0), covariance[upper[0], upper[1]]])

    def constant(self) -> Tensor:
        """Return which nodes took one value only over the samples: they have no correlation.

        Returns
        -------
        Tensor of bool, shape (nodes,)
        """
        x = self.samples()
        return x.amin(0) == x.amax(0) if x.shape[0] else torch.zeros(self.nodes, dtype=torch.bool)

    def correlation(self, constant: Tensor | None = None) -> Tensor:
        """Pearson's r of every pair of nodes.

        Parameters
        ----------
        constant : Tensor, optional
            What `constant` gave, where that is known already.

        Returns
        -------
        Tensor of float64, shape (nodes, nodes)
            Rounded into [-1, 1]; NaN in the rows and columns of constant nodes.
        """
        covariance = self.covariance()
        constant = self.constant() if constant is None else constant
        scale = torch.where(constant, torch.nan, covariance.diagonal()).rsqrt()
        return covariance.mul_(scale[:, None]).mul_(scale).clamp_(-1.0, 1.0)

    def pairs(self, correlation: Tensor | None = None) -> Tensor:
        """Pearson's r of every pair i < j of nodes.

        Parameters
        ----------
        correlation : Tensor, optional
            What `correlation` gave, where that is known already.

        Returns
        -------
        Tensor of float64, shape (m (m - 1) / 2,)
            For the m nodes that are not constant. On an accelerator for all nodes, with NaN for the pairs of
            constant ones: the host would have to wait to know how many these are.
        """
        if self.n == 0:
            return torch.empty(0, dtype=torch.float64)
        r = self.correlation() if correlation is None else correlation
        if r.is_cpu:
            keep = ~r.diagonal().isnan()
            rows = (r if keep.all() else r[keep][:, keep]).numpy()
            return torch.from_numpy(np.concatenate([row[i + 1 :] for i, row in enumerate(rows)] or [np.empty(0)]))
        upper = torch.triu_indices(r.shape[0], r.shape[0], offset=1, device=r.device)
        return r[upper[0], upper[1]]


def _products(x: Tensor) -> Tensor:
    """Return x.T @ x in float64: sums of products over a few samples each; what lies below a block is mirrored.

    Parameters
    ----------
    x : Tensor of float32 or float64, shape (n, nodes)

    Returns
    -------
    Tensor of float64, shape (nodes, nodes)
    """
    nodes = x.shape[1]
    edges = [*range(0, nodes, BLOCK), nodes]
    part_sums = torch.empty(nodes, nodes, dtype=x.dtype, device=x.device)
    products = torch.zeros(nodes, nodes, dtype=torch.float64, device=x.device) if x.shape[0] > ROWS else None
    for start in range(0, max(x.shape[0], 1), ROWS):
        part = x[start : start + ROWS]
        for low, high in pairwise(edges):
            torch.mm(part[:, low:high].T, part[:, low:], out=part_sums[low:high, low:])
        products = part_sums.to(torch.float64) if products is None else products.add_(part_sums)
    assert products is not None  # noqa: S101 - there is one part at least
    for low, high in pairwise(edges):
        products[high:, low:high] = products[low:high, high:].T
    return products


def _products_in_range(x: Tensor) -> Tensor:
    """Return what `_products` does, also of nodes whose squares its numbers cannot hold."""
    if x.numel() and not x.is_cpu:  # whether there are such nodes, the host would have to wait to know
        return _products_of_any_size(x)
    products = _products(x)
    return _products_of_any_size(x) if _is_out_of_range(products.diagonal(), x) else products


def _is_out_of_range(squares: Tensor, x: Tensor) -> bool:
    """Whether squares of some nodes are too small or too large for the numbers that they were added up in."""
    limits = torch.finfo(x.dtype)
    small = squares < limits.tiny / limits.eps  # below, products of smaller values have lost digits
    if not x.numel() or (not small.any() and bool(squares.isfinite().all())):
        return False
    sizes = x.abs().amax(0)
    return bool(((small & (sizes > 0)) | (~squares.isfinite() & sizes.isfinite())).any())


def _products_of_any_size(x: Tensor) -> Tensor:
    """Return what `_products` does, computed of nodes that are brought to about 1 by powers of two, which is exact."""
    sizes = x.abs().amax(0)
    exponents = torch.frexp(torch.where(sizes.isfinite(), sizes, 0.0)).exponent
    most = 120 if x.dtype == torch.float32 else 500
    exponents = exponents.clamp(-most, most)
    factors = torch.exp2(exponents.to(torch.float64))
    return _products(x / factors.to(x.dtype)).mul_(factors[:, None]).mul_(factors)


def _rows(values: Tensor, axis: int, chosen: NDArray[np.int64], subset: Tensor | None) -> Tensor:
    """Return the chosen samples, counted over all dimensions but the nodes' in their order; to be copied.

    Parameters
    ----------
    values : Tensor
    axis : int
        The nodes' dimension.
    chosen : ndarray of int, shape (k,)
    subset : Tensor of int64 or None
        Nodes to be kept.

    Returns
    -------
    Tensor of float32 or float64, shape (k, nodes)
    """
    before = values.shape[:axis].numel()
    cube = values.reshape(before, values.shape[axis], -1)  # a view where nodes are last, or memory is in order
    if chosen.size == cube.shape[0] and cube.shape[2] == 1:
        rows = cube[:, :, 0]
    elif cube.shape[2] == 1:
        rows = cube[:, :, 0].index_select(0, _index(chosen, values.device))
    else:
        i, j = (_index(part, values.device) for part in np.divmod(chosen, cube.shape[2]))
        rows = cube[i, :, j]
    if subset is not None:
        rows = rows[:, subset]
    return rows if rows.dtype == torch.float64 else rows.to(torch.float32)


def _index(positions: NDArray[np.int64], device: torch.device) -> Tensor:
    return sent(torch.from_numpy(positions), device)
