"""Covariance of a layer's nodes, and their Pearson correlation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dropdiag.errors import ArgumentError

MAX_NODES = 1024


class Covariance:
    """Mean and co-moment matrix of d nodes over samples, in float64.

    Error: each batch is centred on its own mean before the product is taken and batches are combined by
    Chan's formula, so a large offset does not cancel; about 1e-12 relative to the variances. Memory: 8 d^2
    bytes (8 MB at the default limit of 1,024 nodes, whatever the layer's width). Time: one float64 matrix
    product a batch.

    Parameters
    ----------
    node_axis : callable, optional
        Number of dimensions -> the dimension that counts nodes; all others count samples. Default: the last.
    max_nodes : int
        Above this many nodes a random subset of that size is used, the same one for the same width and seed.
    seed : int
        Seed of the subset. Drawn from a generator of its own: the global random state is not touched.

    Attributes
    ----------
    n : int
        Number of samples.
    width : int
        Number of nodes of the layer, of which ``min(width, max_nodes)`` are used.

    Notes
    -----
    A dropout mask on the node values itself lowers their correlation (with inverted dropout and keep
    probability q, a zero-mean r becomes q r): feed node values from before the mask, or from evaluation mode.

    References
    ----------
    T. F. Chan, G. H. Golub and R. J. LeVeque, Algorithms for computing the sample variance, The American
    Statistician 37 (1983).
    """

    def __init__(
        self, node_axis: Callable[[int], int] | None = None, max_nodes: int = MAX_NODES, seed: int = 0
    ) -> None:
        if max_nodes < 2:
            raise ArgumentError(f"a correlation needs max_nodes of at least 2, got {max_nodes}")
        self.n = 0
        self.width = 0
        self._axis = node_axis or (lambda _: -1)
        self._max_nodes, self._seed = max_nodes, seed
        self._subset: Tensor | None = None
        self._mean: Tensor = torch.empty(0)
        self._comoment: Tensor = torch.empty(0)
        self._low: Tensor = torch.empty(0)
        self._high: Tensor = torch.empty(0)

    def update(self, values: Tensor) -> None:
        """Take in a batch of node values.

        Parameters
        ----------
        values : Tensor of floats
            One dimension counts nodes (``node_axis``), the others samples.

        Raises
        ------
        ArgumentError
            If the number of nodes differs from that of the first batch.
        """
        x = self._samples_by_nodes(values)
        if x.shape[0] == 0:
            return
        mean = x.mean(0)
        centred = x - mean
        low, high = torch.aminmax(x, dim=0)
        self._add(x.shape[0], mean, centred.T @ centred, low, high)

    def merge(self, other: Covariance) -> None:
        """Take in what another (of the same nodes) has seen."""
        if other.n == 0:
            return
        if self.n == 0:
            self.width, self._subset = other.width, other._subset
        if (other.width, other._max_nodes, other._seed) != (self.width, self._max_nodes, self._seed):
            raise ArgumentError(
                f"covariances of different nodes cannot be merged: {self.width} nodes (limit {self._max_nodes}, seed "
                f"{self._seed}) and {other.width} (limit {other._max_nodes}, seed {other._seed})"
            )
        self._add(other.n, other._mean, other._comoment, other._low, other._high)

    def _samples_by_nodes(self, values: Tensor) -> Tensor:
        values = values.detach() if values.ndim else values.detach().reshape(1)  # a number is one node
        x = values.movedim(self._axis(values.ndim), -1)
        x = x.reshape(-1, x.shape[-1])
        if self.width == 0:
            self._choose(x)
        if x.shape[1] != self.width:
            raise ArgumentError(f"the layer had {self.width} nodes and now has {x.shape[1]}")
        if self._subset is not None:
            x = x[:, self._subset]
        return x.to(torch.float64)

    def _choose(self, x: Tensor) -> None:
        self.width = x.shape[1]
        if self.width > self._max_nodes:
            generator = torch.Generator().manual_seed(self._seed)
            chosen = torch.randperm(self.width, generator=generator)[: self._max_nodes]
            self._subset = chosen.sort().values.to(x.device)

    def _add(self, n: int, mean: Tensor, comoment: Tensor, low: Tensor, high: Tensor) -> None:
        if self.n == 0:
            self._mean, self._comoment, self._low, self._high = mean, comoment.clone(), low, high
        else:
            total = self.n + n
            delta = mean - self._mean
            self._comoment += comoment
            self._comoment.addr_(delta, delta, alpha=self.n * n / total)
            self._mean = self._mean + delta * (n / total)
            self._low, self._high = torch.minimum(self._low, low), torch.maximum(self._high, high)
        self.n += n

    @property
    def nodes(self) -> int:
        """Number of nodes used: the layer's width, or the subset's size."""
        return min(self.width, self._max_nodes)

    def covariance(self) -> Tensor:
        """Return the covariance over samples, divided by n (not n - 1).

        Returns
        -------
        Tensor of float64, shape (nodes, nodes)
        """
        return self._comoment / max(self.n, 1)

    def constant(self) -> Tensor:
        """Return which nodes took one value only: they have no correlation.

        Returns
        -------
        Tensor of bool, shape (nodes,)
        """
        return self._low == self._high

    def correlation(self) -> Tensor:
        """Pearson's r of every pair of nodes.

        Returns
        -------
        Tensor of float64, shape (nodes, nodes)
            Rounded into [-1, 1]; NaN in the rows and columns of constant nodes.
        """
        sd = self._comoment.diagonal().sqrt()
        sd = torch.where(self.constant(), torch.nan, sd)
        return (self._comoment / sd[:, None] / sd[None, :]).clamp(-1.0, 1.0)

    def pairs(self) -> Tensor:
        """Pearson's r of every pair i < j of nodes that are not constant.

        Returns
        -------
        Tensor of float64, shape (m (m - 1) / 2,)
            For m nodes that are not constant.
        """
        if self.n == 0:
            return torch.empty(0, dtype=torch.float64)
        keep = ~self.constant()
        r = self.correlation()[keep][:, keep]
        upper = torch.triu_indices(r.shape[0], r.shape[0], offset=1, device=r.device)
        return r[upper[0], upper[1]]
