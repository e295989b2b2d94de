"""MNIST: where it is looked for, and how it is checked."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dropdiag.errors import DataError
from dropdiag.experiments.data.idx import read_idx

ENVIRONMENT: Final = "DROPDIAG_DATA"
SAMPLE: Final = Path(__file__).parent / "mnist_sample"
FILES: Final = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}
SUBFOLDERS: Final = ("", "mnist", "MNIST/raw")
SIDE: Final = 28
CLASSES: Final = 10


@dataclass(frozen=True)
class Mnist:
    """MNIST in memory, as its files hold it.

    Attributes
    ----------
    train_images, test_images : Tensor of uint8, shape (n, 28, 28)
        Grey values 0..255.
    train_labels, test_labels : Tensor of int64, shape (n,)
        Digits 0..9.
    folder : Path
        Where the four files lie.
    source : str
        Where the data came from, in words.
    """

    train_images: Tensor = field(repr=False)
    train_labels: Tensor = field(repr=False)
    test_images: Tensor = field(repr=False)
    test_labels: Tensor = field(repr=False)
    folder: Path
    source: str

    @cached_property
    def digest(self) -> str:
        """SHA-256 of shapes and values, in hexadecimal: equal digests, equal data, however packed."""
        parts = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        digest = hashlib.sha256()
        for part in parts:
            digest.update(repr(tuple(part.shape)).encode())
            digest.update(part.to(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def train_inputs(self) -> Tensor:
        """Training images as float32 in [0, 1], shape (n, 784)."""
        return as_inputs(self.train_images)

    @property
    def test_inputs(self) -> Tensor:
        """Test images as float32 in [0, 1], shape (n, 784)."""
        return as_inputs(self.test_images)

    def describe(self) -> str:
        """Return counts and source in one line."""
        return f"{len(self.train_labels):,} training and {len(self.test_labels):,} test images, {self.source}"


def as_inputs(images: Tensor) -> Tensor:
    """Turn images, uint8 of shape (n, 28, 28), into network inputs, float32 in [0, 1] of shape (n, 784)."""
    return images.flatten(1).float().div_(255)


def load_mnist(directory: str | Path | None = None) -> Mnist:
    """Load MNIST from its four IDX files, gzipped or not.

    Parameters
    ----------
    directory : path, optional
        Folder of the files; its subfolders ``mnist`` and ``MNIST/raw`` are looked into as well. Without it,
        the folder named by the environment variable DROPDIAG_DATA; without that, the sample shipped with
        dropdiag (10,000 training and 2,000 test images).

    Returns
    -------
    Mnist
        Its ``source`` says which of the three was used.

    Raises
    ------
    DataError
        If a file is missing, damaged, or disagrees with the others. The message names the file.
    """
    folder, source = _resolve(directory)
    paths = {role: _path(folder, name) for role, name in FILES.items()}
    train = _split(paths["train images"], paths["train labels"])
    test = _split(paths["test images"], paths["test labels"])
    return Mnist(*train, *test, folder=folder, source=source)


def _resolve(directory: str | Path | None) -> tuple[Path, str]:
    if directory is not None:
        folder = _find(Path(directory), "the data directory")
        return folder, f"MNIST from {folder}"
    if named := os.environ.get(ENVIRONMENT):
        folder = _find(Path(named), f"the environment variable {ENVIRONMENT}")
        return folder, f"MNIST from {folder} ({ENVIRONMENT})"
    return SAMPLE, "the sample of MNIST shipped with dropdiag"


def _find(directory: Path, origin: str) -> Path:
    directory = directory.expanduser()
    places = [directory / sub for sub in SUBFOLDERS]
    for place in places:
        if any(_existing(place, name) for name in FILES.values()):
            return place
    wanted = ", ".join(FILES.values())
    where = ", ".join(map(str, places))
    raise DataError(
        f"no MNIST file in {directory}, given as {origin}; looked in {where} for {wanted}, each with or "
        f"without .gz; name a folder that holds the four files, or none for the sample that dropdiag ships"
    )


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _path(folder: Path, name: str) -> Path:
    path = _existing(folder, name)
    if path is None:
        raise DataError(f"{folder / name}: missing, with and without .gz; the other files of MNIST lie there")
    return path


def _split(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    _check(images, images_path, labels, labels_path)
    return torch.from_numpy(images), torch.from_numpy(labels).long()


def _check(images: NDArray[np.uint8], images_path: Path, labels: NDArray[np.uint8], labels_path: Path) -> None:
    if images.shape[1:] != (SIDE, SIDE):
        height, width = images.shape[1:]
        raise DataError(f"{images_path}: images of {height} x {width} pixels, expected {SIDE} x {SIDE}")
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} labels; "
            f"they must come from the same set"
        )
    if not len(images):
        raise DataError(f"{images_path}: holds no image")
    if labels.max() >= CLASSES:
        raise DataError(f"{labels_path}: label {labels.max()} is not a digit 0..{CLASSES - 1}")
