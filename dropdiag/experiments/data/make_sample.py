"""Make the sample of MNIST that dropdiag ships.

    python -m dropdiag.experiments.data.make_sample SOURCE TARGET

Deterministic, with no random number: within each digit the images are taken at even distances in the order of
the original files, as many as the digit's share of the set asks for (largest remainder), and written in that
order. SOURCE holds the four original IDX files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.experiments.data.datasets import MNIST
from dropdiag.experiments.data.idx import write_idx
from dropdiag.experiments.data.load import load_images
from dropdiag.experiments.data.mnist import FILES

SIZES: Final = {"train": 10_000, "test": 2_000}


def stratified(labels: NDArray[np.uint8], size: int) -> NDArray[np.int64]:
    """Choose indices with each label in its share, at even distances.

    Parameters
    ----------
    labels : ndarray of uint8, shape (n,)
    size : int
        How many, at most n.

    Returns
    -------
    ndarray of int64, shape (size,)
        Ascending, without repetition.
    """
    classes, counts = np.unique(labels, return_counts=True)
    exact = counts * size / len(labels)
    take = np.floor(exact).astype(int)
    # What rounding down has left goes to the largest remainders; stable, so that ties fall to the lower digit.
    take[np.argsort(take - exact, kind="stable")[: size - take.sum()]] += 1
    chosen = [
        np.flatnonzero(labels == c)[((np.arange(k) + 0.5) * n / k).astype(int)]
        for c, n, k in zip(classes, counts, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def make_sample(source: str | Path, target: Path) -> None:
    """Write the four files of the sample into `target`, from the full MNIST in `source`."""
    full = load_images(MNIST.key, source)
    target.mkdir(parents=True, exist_ok=True)
    parts = {"train": (full.train_images, full.train_labels), "test": (full.test_images, full.test_labels)}
    for split, (images, labels) in parts.items():
        digits = labels.numpy().astype(np.uint8)
        chosen = stratified(digits, SIZES[split])
        write_idx(target / f"{FILES[f'{split} images']}.gz", images.numpy()[chosen])
        write_idx(target / f"{FILES[f'{split} labels']}.gz", digits[chosen])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m dropdiag.experiments.data.make_sample SOURCE TARGET")
    make_sample(sys.argv[1], Path(sys.argv[2]))
