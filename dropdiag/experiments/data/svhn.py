"""SVHN, cropped digits: ``train_32x32.mat`` and ``test_32x32.mat``, in MATLAB's format.

Each holds ``X``, uint8 of shape (32, 32, 3, n), and ``y``, n labels 1..10 in which 10 means the digit 0. Source:
ufldl.stanford.edu/housenumbers. The "extra" images are not used.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.archive import compared
from dropdiag.experiments.data.datasets import SVHN, Contents, Dataset, Split
from dropdiag.experiments.data.files import opened, there
from dropdiag.experiments.data.mat import NewerVersionError, Variable, variables

FILES: Final = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
"""File -> its MD5, as torchvision lists it."""

SUBFOLDERS: Final = ("", "svhn", "SVHN")
TEN: Final = 10
"""The label of the digit 0."""

MOST: Final = 80_000
"""Images that a file may hold; the larger one has 73,257."""

LIMIT: Final = 1 << 28
"""Bytes that a file may have: as many images, not even compressed."""

CHUNK: Final = 1024
"""Images that are turned at a time."""


def read(dataset: Dataset, directory: Path) -> Contents:
    """Read SVHN's training and test digits.

    Parameters
    ----------
    dataset : Dataset
        `SVHN`.
    directory : Path
        The folder of the two files, or one with a subfolder ``svhn`` of them.

    Returns
    -------
    Contents

    Raises
    ------
    DataError
        If a file is missing or damaged. The message names the file.
    """
    folder = _find(dataset, directory)
    train, test = (_read(folder / name) for name in FILES)
    return Contents(train, test, folder, compared({folder / name: digest for name, digest in FILES.items()}))


def _find(dataset: Dataset, directory: Path) -> Path:
    for sub in SUBFOLDERS:
        if any(there(directory / sub / name) for name in FILES):
            return directory / sub
    raise DataError(
        f"no SVHN in {directory}; looked for {' and '.join(FILES)} (cropped digits, format 2); SVHN is published "
        f"{dataset.publisher}: fetch the two files from there and name their folder"
    )


def _read(path: Path) -> Split:
    if not there(path):
        raise DataError(f"{path}: missing; the other file of SVHN lies there")
    try:
        with opened(path, LIMIT) as file:
            found = _found(file, path)
    except NewerVersionError:
        raise DataError(f"{path}: is a MATLAB file of version 7.3; SVHN is published as version 5: fetch it") from None
    except (ValueError, EOFError, zlib.error, struct.error) as error:
        raise DataError(f"{path}: is damaged, or no MATLAB file ({error}); fetch it again") from error
    if found.keys() != VALUES.keys():
        raise DataError(f"{path}: holds no 'X' and 'y'; is this the right file?")
    images, labels = found["X"], found["y"]
    if len(images) != len(labels):
        raise DataError(f"{path}: holds {len(images)} images but {len(labels)} labels; fetch it again")
    return Split(images, labels)


def _found(file: BufferedReader, path: Path) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    for variable in variables(file):
        if variable.name in found:
            raise ValueError(f"it holds {variable.name} twice")
        if variable.name in VALUES:
            found[variable.name] = VALUES[variable.name](variable, path)
    return found


def _images(variable: Variable, path: Path) -> NDArray[np.uint8]:
    channels, height, width = SVHN.shape
    kind, shape = variable.kind, variable.shape
    if kind != "uint8" or len(shape) != 4 or shape[:3] != (height, width, channels):
        raise DataError(
            f"{path}: 'X' is {kind} of shape {shape}, expected uint8 of shape ({height}, {width}, {channels}, n)"
        )
    if not shape[3]:
        raise DataError(f"{path}: holds no image")
    _check_count(shape[3], path)
    # MATLAB stores columns first: image by image, channel by channel, but each turned on its side.
    images = variable.values().reshape(-1, channels, width, height)
    for begin in range(0, len(images), CHUNK):
        images[begin : begin + CHUNK] = images[begin : begin + CHUNK].transpose(0, 1, 3, 2).copy()
    return images


def _labels(variable: Variable, path: Path) -> NDArray[np.int64]:
    # MATLAB writes numbers as double unless told otherwise: copies that were saved again have float labels.
    if not variable.kind.startswith(("uint", "int", "float")):
        raise DataError(f"{path}: 'y' is {variable.kind}, expected labels 1..{TEN}")
    _check_count(math.prod(variable.shape), path)
    given = variable.values()
    wrong = given[~np.isin(given, np.arange(1, TEN + 1))]
    if len(wrong):
        raise DataError(f"{path}: label {wrong[0]} is outside 1..{TEN}, in which {TEN} means the digit 0")
    labels: NDArray[np.int64] = given.astype(np.int64) % TEN
    return labels


def _check_count(count: int, path: Path) -> None:
    if count > MOST:
        raise DataError(
            f"{path}: announces {count:,} digits, and a file of SVHN holds {MOST:,} at most; fetch it again"
        )


VALUES: Final[dict[str, Callable[[Variable, Path], NDArray[Any]]]] = {"X": _images, "y": _labels}
"""Variable -> what reads it and checks it, before there is room for its values."""
