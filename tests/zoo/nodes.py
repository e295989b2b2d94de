"""Which dimension of a node value counts nodes, found without any knowledge of layers or layouts.

Where the weights of one unit are changed, that unit's values change, in every sample, and no other's do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from tests.zoo.tally import Pass
from tests.zoo.training import Trained

_UNITS_SECOND = ("ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "Embedding", "Conv1D")  # transformers'
_MOST = 12  # layers that are tried in a network


def node_dimensions(slow: Trained, part: str) -> tuple[list[Pass], list[int | None]]:
    """Return the passes of the evaluation with the dimension that counts nodes; None where that is not known."""
    base = slow.evaluate()[part]
    found: list[int | None] = [None] * len(base)
    units = list(_units(slow.parts[part]))
    for weights in units[:: -(-len(units) // _MOST)]:
        kept = weights.detach().clone()
        with torch.no_grad():
            weights.add_(0.5 + torch.linspace(0, 1, weights.numel()).view_as(weights))
        try:
            changed = slow.evaluate()[part]
        finally:
            with torch.no_grad():
                weights.copy_(kept)
        if len(changed) == len(base):  # an expert may be chosen for no input any more
            # Of several layers the last one counts: one that mixes tokens may come before.
            pairs = zip(base, changed, found, strict=True)
            found = [_only_dimension(before, after) or known for before, after, known in pairs]
    return base, found


def _units(model: nn.Module) -> Iterator[Tensor]:
    """Give the weights of one unit of each layer."""
    for module in model.modules():
        dimension = 1 if type(module).__name__ in _UNITS_SECOND else 0
        for parameter in module.parameters(recurse=False):
            if parameter.ndim >= 2 and parameter.shape[dimension] > 1 and parameter.is_floating_point():
                yield parameter.select(dimension, 1)


def _only_dimension(before: Pass, after: Pass) -> int | None:
    """Return the dimension in which one index changed alone, in all samples."""
    if len(before.z.arrays) != 1 or len(after.z.arrays) != 1 or before.z.arrays[0].shape != after.z.arrays[0].shape:
        return None
    changed = before.z.arrays[0] != after.z.arrays[0]
    if not changed.size:
        return None
    for dimension in range(1, changed.ndim):  # the first counts samples
        others = tuple(i for i in range(changed.ndim) if i != dimension)
        share = changed.mean(axis=others)
        if changed.shape[dimension] > 1 and np.count_nonzero(share) == 1 and share.max() > 0.9:
            return dimension
    return None


def mean_correlation(h: np.ndarray, dimension: int) -> float:
    """Return the mean |r| over the pairs of nodes that are not constant."""
    nodes = np.moveaxis(h, dimension, 0).reshape(h.shape[dimension], -1).astype(np.float64)
    nodes = nodes[np.ptp(nodes, axis=1) > 0]
    if len(nodes) < 2:
        return float("nan")
    r = np.corrcoef(nodes)
    return float(np.abs(r[np.triu_indices(len(nodes), 1)]).mean())
