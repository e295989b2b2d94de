"""MNIST's four IDX files, and those of data sets in its form: where they are looked for, how they are checked."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dropdiag.errors import DataError
from dropdiag.experiments.data.datasets import Contents, Dataset, Split, checked_labels
from dropdiag.experiments.data.files import there
from dropdiag.experiments.data.idx import read_idx

FILES: Final = {
    "train images": "train-images-idx3-ubyte",
    "train labels": "train-labels-idx1-ubyte",
    "test images": "t10k-images-idx3-ubyte",
    "test labels": "t10k-labels-idx1-ubyte",
}

MOST: Final = 300_000
"""Images that a file may hold: five times as many as MNIST's, and as many as the larger sets in its form."""


def read(dataset: Dataset, directory: Path) -> Contents:
    """Read MNIST; see `read_four`. Nothing is checked but the content: no digest of its files is published."""
    return read_four(dataset, find_four(dataset, directory), checked="")


def find_four(dataset: Dataset, directory: Path) -> dict[str, Path]:
    """Find the four files, gzipped or not.

    Parameters
    ----------
    dataset : Dataset
    directory : Path
        Their folder, or one with a subfolder of them: that of the data set's name, or torchvision's.

    Returns
    -------
    dict
        Key of `FILES` -> path.

    Raises
    ------
    DataError
        If one is missing; the message names it, or all places where the first was looked for.
    """
    places = [directory / sub for sub in ("", dataset.key, f"{dataset.title.replace('-', '')}/raw")]
    for place in places:
        # Any one of the four decides on the place, so that one that is missing is named, not looked for elsewhere.
        if any(_existing(place, name) for name in FILES.values()):
            return {role: _path(dataset, place, name) for role, name in FILES.items()}
    raise DataError(
        f"no {dataset.title} file in {directory}; looked in {', '.join(map(str, places))} for "
        f"{', '.join(FILES.values())}, each with or without .gz; name a folder that holds the four files"
        + (", or none for the sample that dropdiag ships" if dataset.sample else "")
    )


def read_four(dataset: Dataset, paths: dict[str, Path], checked: str) -> Contents:
    """Read the four files of `find_four`.

    Parameters
    ----------
    dataset : Dataset
    paths : dict
    checked : str
        See `Contents`.

    Returns
    -------
    Contents
        Images of shape (n, height, width).

    Raises
    ------
    DataError
        If one is damaged, or disagrees with the others or with `dataset`. The message names the file.
    """
    train, test = (_split(dataset, paths[f"{part} images"], paths[f"{part} labels"]) for part in ("train", "test"))
    return Contents(train, test, paths["train images"].parent, checked)


def _existing(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if there(path)), None)


def _path(dataset: Dataset, folder: Path, name: str) -> Path:
    path = _existing(folder, name)
    if path is None:
        raise DataError(f"{folder / name}: missing, with and without .gz; the other files of {dataset.title} lie there")
    return path


def _split(dataset: Dataset, images_path: Path, labels_path: Path) -> Split:
    images = read_idx(images_path, 3, MOST * math.prod(dataset.shape))
    labels = read_idx(labels_path, 1, MOST)
    _check_images(images, images_path, dataset.shape[1:])
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} holds {len(labels)} labels; "
            f"they must come from the same set"
        )
    return Split(images, checked_labels(labels.astype(np.int64), dataset.classes, str(labels_path)))


def _check_images(images: NDArray[np.uint8], path: Path, wanted: tuple[int, ...]) -> None:
    if images.shape[1:] != wanted:
        got, expected = (" x ".join(map(str, size)) for size in (images.shape[1:], wanted))
        raise DataError(f"{path}: images of {got} pixels, expected {expected}")
