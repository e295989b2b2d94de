"""How many dimensions do a layer's nodes span? Two numbers of one correlation matrix.

Both are between 1 (all nodes are copies of one) and m, the number of nodes that are not constant (no two are
correlated). They are taken of the correlation, not the covariance: how much a node varies does not enter, so that
they describe many nodes at once as Pearson's r describes two.
"""

from __future__ import annotations

import torch
from torch import Tensor


def participation_ratio(correlation: Tensor) -> Tensor:
    """Participation ratio (tr R)^2 / tr R^2 of the nodes that are not constant.

    Parameters
    ----------
    correlation : Tensor of float64, shape (nodes, nodes)
        NaN in the rows and columns of constant nodes.

    Returns
    -------
    Tensor of float64, shape ()
        On the matrix's device; NaN without any node. Equal to m / (1 + (m - 1) r2), r2 being the mean of r^2 over
        pairs: |r| on the scale of dimensions.
    """
    nodes = correlation.diagonal().nansum()
    return nodes**2 / _sum_of_squares(correlation)


def _sum_of_squares(correlation: Tensor) -> Tensor:
    """Return the sum over what is not NaN."""
    if correlation.is_cpu:
        values = correlation.flatten()
        total = values.dot(values)  # in one pass, with no table of squares
        if not total.isnan():
            return total
    return correlation.square().nansum()


def effective_rank(correlation: Tensor, samples: Tensor) -> float | None:
    """Effective rank: exp of the entropy of the normalised eigenvalues (Roy and Vetterli 2007).

    Error: that of LAPACK in float64, about 1e-12. Time: one eigenvalue decomposition without vectors of the smaller
    of nodes and samples: 2 ms for 256, 14 ms for 512, 70 ms for 1,024 on two cores.

    Parameters
    ----------
    correlation : Tensor of float64, shape (nodes, nodes)
        NaN in the rows and columns of constant nodes.
    samples : Tensor of floats, shape (n, nodes)
        What it was taken over; used where there are fewer samples than nodes.

    Returns
    -------
    float or None
        NaN without any node. None on an accelerator, where torch's decomposition makes the host wait.
    """
    if not correlation.is_cpu:
        return None
    keep = ~correlation.diagonal().isnan()
    nodes = int(keep.sum())
    if nodes == 0:
        return float("nan")
    matrix = correlation[keep][:, keep] if nodes <= samples.shape[0] else _between_samples(samples[:, keep])
    if not matrix.isfinite().all():
        return float("nan")
    shares = torch.linalg.eigvalsh(matrix).clamp(min=0.0)
    return float(torch.special.entr(shares / shares.sum()).sum().exp())


def _between_samples(x: Tensor) -> Tensor:
    """Return the products of standardised samples: the correlation's eigenvalues but for zeros and a factor."""
    # Z Z' and Z'Z have the same eigenvalues but for zeros, and the smaller of the two is much the faster.
    z = x.to(torch.float64) - x.to(torch.float64).mean(0)
    z = z / z.square().mean(0).sqrt()
    return z @ z.T
