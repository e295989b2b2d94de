"""How much of a node's variance do the others of its layer tell? Of a correlation matrix, of one rank or of several."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDING: Final = 1e-6
"""A correlation of float32 node values is known to so much."""
RIDGES: Final = (0.0, ROUNDING, 10 * ROUNDING)
"""What is added to the diagonal where nodes depend on others: the first that makes the matrix positive definite."""
WORST: Final = 1e-3
"""A mean of R^2 that is not known to so much is missing."""


def multiple_correlation(r: Floats, samples: int) -> float | None:
    """Mean over nodes of the adjusted R_i^2: how much of a node's variance a linear map of all others tells.

    ``R_i^2 = 1 - 1 / (C^-1)_ii`` of the correlation C of m nodes, adjusted for the m - 1 regressors (Ezekiel 1930):
    ``1 - (1 - R_i^2) (n - 1) / (n - m)``, 0 on average for independent nodes.

    Error: beside least squares on the same samples about 1e-12 for float64 node values, 1e-6 for float32. Nodes that
    depend on others exactly (copies; two that answer to one sample alone, and the same) have an R_i^2 of 1, to 1e-5,
    and leave those of the others alone. Time: a Cholesky factor and an inverse: 3 ms for 256 nodes, 15 ms for 512.

    Parameters
    ----------
    r : ndarray of float64, shape (nodes, nodes)
        Of the nodes that vary.
    samples : int
        Number n that it was taken over.

    Returns
    -------
    float or None
        None where there are no more samples than nodes, fewer than two nodes, or where rounding decides (by more than
        1e-3); NaN of a node that has diverged.
    """
    nodes = len(r)
    if null_multiple_correlation(nodes, samples) is None:
        return None
    if not np.isfinite(r).all():
        return float("nan")
    for ridge in RIDGES:
        inverse = _inverse(r + ridge * np.eye(nodes))
        if inverse is not None:
            scale = inverse.diagonal()
            # The others tell node i as -v_j / v_i, with v the i-th column: an error of C changes R_i^2 by itself times
            # |v|^2 / v_i^2.
            error = max(ridge, ROUNDING) * ((inverse**2).sum(0) / scale**2).mean()
            told = float(1.0 - (1.0 / scale).mean() * (samples - 1) / (samples - nodes))
            return told if error <= WORST else None
    return None


def null_multiple_correlation(nodes: int, samples: int) -> float | None:
    """Mean R_i^2 of independent nodes before it is adjusted, ``(m - 1) / (n - 1)``; None as for too few samples."""
    return (nodes - 1) / (samples - 1) if samples > nodes >= 2 else None


def _inverse(r: Floats) -> Floats | None:
    """Return the inverse; None where the matrix is not positive definite."""
    try:
        np.linalg.cholesky(r)
        found = np.asarray(np.linalg.inv(r), np.float64)
    except np.linalg.LinAlgError:
        return None
    return found if (found.diagonal() > 0.0).all() else None
