"""The data sets of Figure 8: what they are called, where they are published, and how they lie in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import ArgumentError, DataError

CHANNELS: Final = 3
SIDE: Final = 32
VALUES: Final = CHANNELS * SIDE * SIDE


@dataclass(frozen=True)
class Dataset:
    """A data set of 3 x 32 x 32 images.

    Attributes
    ----------
    key : str
        Its name on the command line.
    title : str
        Its name in prose.
    classes : int
    flip : bool
        Whether a mirrored image keeps its label, so that training may mirror it. A mirrored digit does not.
    publisher : str
        Who publishes it, and where, in words.
    """

    key: str
    title: str
    classes: int
    flip: bool
    publisher: str


_KRIZHEVSKY: Final = "by Alex Krizhevsky, on his page at the University of Toronto, www.cs.toronto.edu/~kriz/cifar.html"
_NETZER: Final = "by Yuval Netzer and others, on the page ufldl.stanford.edu/housenumbers of Stanford University"

CIFAR10: Final = Dataset("cifar10", "CIFAR-10", 10, flip=True, publisher=_KRIZHEVSKY)
CIFAR100: Final = Dataset("cifar100", "CIFAR-100", 100, flip=True, publisher=_KRIZHEVSKY)
SVHN: Final = Dataset("svhn", "SVHN", 10, flip=False, publisher=_NETZER)
DATASETS: Final = {dataset.key: dataset for dataset in (CIFAR10, CIFAR100, SVHN)}


@dataclass(frozen=True)
class Split:
    """Training or test images as a reader gives them.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, 3, 32, 32)
    labels : ndarray of int64, shape (n,)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """A data set in memory, as its files hold it.

    Attributes
    ----------
    dataset : Dataset
    train_images, test_images : Tensor of uint8, shape (n, 3, 32, 32)
        Red, green, blue, 0..255.
    train_labels, test_labels : Tensor of int64, shape (n,)
        0 to ``dataset.classes - 1``.
    folder : Path
        What was given as the data directory: the same call with it reads the same files again.
    source : str
        Where the data came from, in words.
    checked : str
        Whether the files are the published ones, in words.
    """

    dataset: Dataset
    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    folder: Path
    source: str
    checked: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and values, in hexadecimal: equal digests, equal data, however packed."""
        digest = hashlib.sha256()
        for part in (self.train_images, self.train_labels, self.test_images, self.test_labels):
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(part.to(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> str:
        """Return counts and source in one line."""
        return f"{len(self.train_labels):,} training and {len(self.test_labels):,} test images, {self.source}"


def dataset_named(key: str) -> Dataset:
    """Return the data set that `key` means.

    Raises
    ------
    ArgumentError
        If there is none; the message lists all.
    """
    if key not in DATASETS:
        raise ArgumentError(f"unknown data set {key!r}; the data sets of Figure 8 are {', '.join(DATASETS)}")
    return DATASETS[key]


def checked_labels(labels: NDArray[np.int64], classes: int, where: str) -> NDArray[np.int64]:
    """Return `labels` if there is one at least, and all are in 0 to ``classes - 1``.

    Raises
    ------
    DataError
        If not; the message begins with `where`, the file's name.
    """
    if not len(labels):
        raise DataError(f"{where}: holds no image")
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"{where}: label {wrong} is outside 0..{classes - 1}")
    return labels
