"""What the ranks of a job saved, and numbers counted from it without dropdiag."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import torch


def load(folder, name, kind, world):
    """Return what each rank had of a training."""
    return [torch.load(folder / f"{name}-{kind}-{rank}.pt", weights_only=False) for rank in range(world)]


def binned(tensors):
    """Count values by the upper 15 bits of their float32, zeros of either sign together."""
    counts = Counter()
    for tensor in tensors:
        values = tensor.detach().to(torch.float32).numpy().ravel()
        bits = values.view(np.uint32) >> 17
        bits[values == 0] = 0
        counts.update(dict(zip(*np.unique(bits, return_counts=True), strict=True)))
    return {int(b): int(n) for b, n in counts.items()}


def passes(ranks, step, *, once=False):
    """Return what went through each layer in a step, of all ranks: layer -> list of (z, gradient).

    ``once``: the ranks hold the same, so that the first one's stands for all.
    """
    found = defaultdict(list)
    for told in ranks[:1] if once else ranks:
        for row in told["steps"][step] if step < len(told["steps"]) else ():
            if row["training"]:
                found[row["layer"]].append((row["z"], row["gradient"]))
    return found


def flow(rows, divisor):
    """Return the mean of |dL/dz| over all values of all passes."""
    total = sum(gradient.double().abs().sum().item() for _, gradient in rows) / divisor
    return total / sum(gradient.numel() for _, gradient in rows)
