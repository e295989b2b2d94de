"""SVHN, cropped digits: ``train_32x32.mat`` and ``test_32x32.mat``, in MATLAB's format.

Each holds ``X``, uint8 of shape (32, 32, 3, n), and ``y``, n labels 1..10 in which 10 means the digit 0. Source:
ufldl.stanford.edu/housenumbers. The "extra" images are not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy.io
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.archive import compared
from dropdiag.experiments.data.datasets import SVHN, Contents, Dataset, Split

FILES: Final = {
    "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
}
"""File -> its MD5, as torchvision lists it."""

SUBFOLDERS: Final = ("", "svhn", "SVHN")
TEN: Final = 10
"""The label of the digit 0."""


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
        if any((directory / sub / name).is_file() for name in FILES):
            return directory / sub
    raise DataError(
        f"no SVHN in {directory}; looked for {' and '.join(FILES)} (cropped digits, format 2); SVHN is published "
        f"{dataset.publisher}: fetch the two files from there and name their folder"
    )


def _read(path: Path) -> Split:
    if not path.is_file():
        raise DataError(f"{path}: missing; the other file of SVHN lies there")
    try:
        content = scipy.io.loadmat(str(path), variable_names=["X", "y"])
    except NotImplementedError:
        raise DataError(f"{path}: is a MATLAB file of version 7.3; SVHN is published as version 5: fetch it") from None
    # scipy lets through whatever goes wrong in a damaged file: ValueError, zlib.error, MemoryError and others.
    except Exception as error:
        raise DataError(f"{path}: is damaged, or no MATLAB file ({type(error).__name__}: {error}); fetch it") from error
    if not {"X", "y"} <= content.keys():
        raise DataError(f"{path}: holds no 'X' and 'y'; is this the right file?")
    images = _images(content["X"], path)
    labels = _labels(content["y"], path)
    if len(images) != len(labels):
        raise DataError(f"{path}: holds {len(images)} images but {len(labels)} labels; fetch it again")
    return Split(images, labels)


def _images(given: Any, path: Path) -> NDArray[np.uint8]:
    channels, height, width = SVHN.shape
    if given.dtype != np.uint8 or given.ndim != 4 or given.shape[:3] != (height, width, channels):
        raise DataError(
            f"{path}: 'X' is {given.dtype} of shape {given.shape}, expected uint8 of shape ({height}, {width}, "
            f"{channels}, n)"
        )
    if not given.shape[3]:
        raise DataError(f"{path}: holds no image")
    # MATLAB stores columns first; a transposed view would make every batch gather bytes from all over the file.
    return np.ascontiguousarray(given.transpose(3, 2, 0, 1))


def _labels(given: Any, path: Path) -> NDArray[np.int64]:
    # MATLAB writes numbers as double unless told otherwise: copies that were saved again have float labels.
    if given.dtype.kind not in "uif":
        raise DataError(f"{path}: 'y' is {given.dtype}, expected labels 1..{TEN}")
    flat = given.ravel()
    wrong = flat[~np.isin(flat, np.arange(1, TEN + 1))]
    if len(wrong):
        raise DataError(f"{path}: label {wrong[0]} is outside 1..{TEN}, in which {TEN} means the digit 0")
    labels: NDArray[np.int64] = flat.astype(np.int64) % TEN
    return labels
