"""The image data sets: what each is called, who publishes it, what reads it, and how it lies in memory.

Neither torch nor numpy is imported here: the command line shows the names without paying for them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from dropdiag.errors import ArgumentError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

ENVIRONMENT: Final = "DROPDIAG_DATA"
"""Environment variable that names the data directory where none is given."""


class Split(NamedTuple):
    """Training or test images as a reader gives them.

    Attributes
    ----------
    images : ndarray of uint8, shape (n, channels, height, width), or (n, height, width) of grey images
    labels : ndarray of int64, shape (n,)
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


class Contents(NamedTuple):
    """What a reader found.

    Attributes
    ----------
    train, test : Split
    path : Path
        The folder or archive that was read.
    checked : str
        Whether the files are the published ones, in words; empty where no digest of any file is published.
    """

    train: Split
    test: Split
    path: Path
    checked: str


@dataclass(frozen=True)
class Dataset:
    """A data set of images.

    Attributes
    ----------
    key : str
        Its name on the command line.
    title : str
        Its name in prose.
    classes : int
    flip : bool
        Whether a mirrored image keeps its label, so that training may mirror it.
    publisher : str
        Who publishes it, and where, in words.
    reader : str
        Module of `dropdiag.experiments.data` whose ``read(dataset, directory)`` returns its `Contents`.
    unflipped : str
        Why a mirrored image does not, in words; empty where it does.
    shape : tuple of int
        Channels, height, width of an image.
    sample : Path, optional
        A folder that is shipped with dropdiag and is read where no directory is given.
    """

    key: str
    title: str
    classes: int
    flip: bool
    publisher: str
    reader: str
    unflipped: str = ""
    shape: tuple[int, int, int] = (3, 32, 32)
    sample: Path | None = None

    def read(self, directory: Path) -> Contents:
        """Read the files in `directory`.

        Raises
        ------
        DataError
            If a file is missing or damaged. The message names it.
        """
        # By name: the table below is read by the command line, which must not import what the readers need.
        read: Callable[[Dataset, Path], Contents] = import_module(f"dropdiag.experiments.data.{self.reader}").read
        return read(self, directory)


_LECUN: Final = "by Yann LeCun, Corinna Cortes and Christopher J. C. Burges"
_KRIZHEVSKY: Final = "by Alex Krizhevsky, on his page at the University of Toronto, www.cs.toronto.edu/~kriz/cifar.html"
_NETZER: Final = "by Yuval Netzer and others, on the page ufldl.stanford.edu/housenumbers of Stanford University"
_ZALANDO: Final = "by Zalando Research, on github.com/zalandoresearch/fashion-mnist"

_DIGITS: Final = "a mirrored digit is none"

MNIST: Final = Dataset(
    "mnist", "MNIST", 10, flip=False, unflipped=_DIGITS, publisher=_LECUN, reader="mnist", shape=(1, 28, 28),
    sample=Path(__file__).parent / "mnist_sample",
)  # fmt: skip
CIFAR10: Final = Dataset("cifar10", "CIFAR-10", 10, flip=True, publisher=_KRIZHEVSKY, reader="cifar")
CIFAR100: Final = Dataset("cifar100", "CIFAR-100", 100, flip=True, publisher=_KRIZHEVSKY, reader="cifar")
SVHN: Final = Dataset("svhn", "SVHN", 10, flip=False, publisher=_NETZER, reader="svhn", unflipped=_DIGITS)
FASHION_MNIST: Final = Dataset(
    "fashion-mnist", "Fashion-MNIST", 10, flip=True, publisher=_ZALANDO, reader="fashion_mnist", shape=(1, 28, 28)
)
_ALL: Final = (
    MNIST,
    CIFAR10,
    CIFAR100,
    SVHN,
    FASHION_MNIST,
)
DATASETS: Final = {dataset.key: dataset for dataset in _ALL}
"""All data sets by key. A new one is a line above and a file with its reader."""


@dataclass(frozen=True)
class Images:
    """A data set in memory, as its files hold it.

    Attributes
    ----------
    dataset : Dataset
    train_images, test_images : Tensor of uint8
        Values 0..255, shape (n, channels, height, width), or (n, height, width) of grey images.
    train_labels, test_labels : Tensor of int64, shape (n,)
        0 to ``dataset.classes - 1``.
    folder : Path
        The data directory: loading it again reads the same files.
    source : str
        Where the data came from, in words.
    checked : str
        Whether the files are the published ones, in words; see `Contents`.
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
            # As bytes, as the files have them: labels are int64 in memory only because torch asks for it.
            digest.update(part.contiguous().numpy().astype("uint8", copy=False).reshape(-1).data)
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
        raise ArgumentError(f"unknown data set {key!r}; the data sets are {', '.join(DATASETS)}")
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
    # Here, since the loss would fail for it without naming the file, on a GPU some steps later.
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels[(labels < 0) | (labels >= classes)][0]
        raise DataError(f"{where}: label {wrong} is outside 0..{classes - 1}")
    return labels
