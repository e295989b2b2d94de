"""Make a sample of MNIST, as the one that dropdiag ships, or of Fashion-MNIST.

    python -m dropdiag.experiments.data.make_sample SOURCE TARGET [DATASET TRAIN TEST]

Deterministic, with no random number: within each class the images are taken at even distances in the order of
the original files, as many as the class's share of the set asks for (largest remainder), and written in that
order. SOURCE holds the four original IDX files; TRAIN and TEST are how many images are taken of each part.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
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


def make_sample(source: str | Path, target: Path, key: str = MNIST.key, sizes: Mapping[str, int] = SIZES) -> None:
    """Write the four files of a sample into `target`, from the full data set in `source`.

    Parameters
    ----------
    source, target : path
        Folders.
    key : {"mnist", "fashion-mnist"}
    sizes : mapping
        How many images of "train" and of "test".
    """
    full = load_images(key, source)
    target.mkdir(parents=True, exist_ok=True)
    parts = {"train": (full.train_images, full.train_labels), "test": (full.test_images, full.test_labels)}
    for split, (images, labels) in parts.items():
        classes = labels.numpy().astype(np.uint8)
        chosen = stratified(classes, sizes[split])
        write_idx(target / f"{FILES[f'{split} images']}.gz", images.numpy()[chosen])
        write_idx(target / f"{FILES[f'{split} labels']}.gz", classes[chosen])


def main(arguments: Sequence[str]) -> None:
    """Make the sample that a command line asks for."""
    if len(arguments) not in {2, 5}:
        sys.exit("usage: python -m dropdiag.experiments.data.make_sample SOURCE TARGET [DATASET TRAIN TEST]")
    source, target, *rest = arguments
    key, *counts = rest or [MNIST.key, *map(str, SIZES.values())]
    make_sample(source, Path(target), key, dict(zip(SIZES, map(int, counts), strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
