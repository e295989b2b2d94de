"""Tiny data sets in the formats of MNIST and SVHN, the same on every machine: no random numbers are drawn."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import scipy.io


def write_mnist(folder: Path, train: int = 100, test: int = 20) -> None:
    """Write the four IDX files of MNIST with so many images."""
    folder.mkdir(parents=True)
    for split, n in (("train", train), ("t10k", test)):
        images, labels = pictures(n, (28, 28))
        (folder / f"{split}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, n, 28, 28) + images.tobytes())
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, n) + labels.tobytes())


def write_svhn(folder: Path, train: int = 60, test: int = 20) -> None:
    """Write the two MATLAB files of SVHN with so many images."""
    folder.mkdir(parents=True)
    for split, n in (("train", train), ("test", test)):
        images, labels = pictures(n, (32, 32, 3))
        tens = np.where(labels == 0, 10, labels)  # SVHN calls the digit 0 a ten
        scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": images.transpose(1, 2, 3, 0), "y": tens[:, None]})


def pictures(n: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return images of a stripe pattern that depends on the label, and the labels."""
    labels = (np.arange(n) % 10).astype(np.uint8)
    pixels = np.arange(int(np.prod(shape)))
    values = (np.arange(n)[:, None] * 37 + pixels * (11 + labels[:, None].astype(np.int64))) * 7 % 251
    return values.astype(np.uint8).reshape(n, *shape), labels
