"""Split a batch into mini-batches of one size, by lot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dropdiag.errors import ArgumentError
from dropdiag.measure.passes.state.random_states import derived
from dropdiag.measure.passes.tensors import tensors_in


def samples_in(inputs: Any, targets: Any) -> int:
    """Return how many samples a batch has, along the first dimension of each of its tensors.

    Raises
    ------
    ArgumentError
        Where that cannot be said: tensors of several lengths, or none.
    """
    lengths = {tensor.shape[0] for tensor in tensors_in((inputs, targets)) if tensor.ndim}
    if len(lengths) != 1:
        told = " and ".join(map(str, sorted(lengths))) or "no tensor"
        raise ArgumentError(
            f"the batch cannot be split into mini-batches: the first dimension of all its tensors, and of those of the "
            f"targets, must count samples, got lengths of {told}"
        )
    return lengths.pop()


def mini_batches(samples: int, batches: int, seed: int) -> Iterator[list[int]]:
    """Give the samples of each of several mini-batches of one size; what is left over is in none.

    Parameters
    ----------
    samples, batches : int
    seed : int
        Of the order in which samples are dealt out.

    Raises
    ------
    ArgumentError
        If there are fewer samples than batches.
    """
    if samples < batches:
        raise ArgumentError(f"a batch of {samples} samples cannot be split into batches={batches}; give more samples")
    size = samples // batches
    order = np.random.default_rng(derived(seed, "mini-batches")).permutation(samples)
    return (order[k * size : (k + 1) * size].tolist() for k in range(batches))


def rows_of(nested: Any, rows: list[int]) -> Any:
    """Return some samples of all tensors in what a model is called with."""
    if isinstance(nested, Tensor):
        return nested.index_select(0, torch.tensor(rows, device=nested.device)) if nested.ndim else nested
    if isinstance(nested, Mapping):
        return {name: rows_of(value, rows) for name, value in nested.items()}
    if isinstance(nested, (tuple, list)):
        parts = [rows_of(value, rows) for value in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    return nested
