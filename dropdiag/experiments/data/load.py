"""CIFAR-10, CIFAR-100 and SVHN: where they are looked for, and one way to load them."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dropdiag.errors import ArgumentError, DataError
from dropdiag.experiments.data.cifar import read_cifar
from dropdiag.experiments.data.datasets import SVHN, Dataset, Images, Split, dataset_named
from dropdiag.experiments.data.mnist import ENVIRONMENT
from dropdiag.experiments.data.svhn import read_svhn


def load_images(key: str, directory: str | Path | None = None, limit: int | None = None) -> Images:
    """Load a data set of Figure 8 from its published files.

    Parameters
    ----------
    key : {"cifar10", "cifar100", "svhn"}
    directory : path, optional
        Where the files lie: for CIFAR the extracted folder (pickles or binary), a folder that holds it or the
        published ``.tar.gz``, or that archive itself; for SVHN the folder of the two ``.mat`` files. Without it,
        the folder named by the environment variable DROPDIAG_DATA. None of them is shipped with dropdiag.
    limit : int, optional
        Keep the first so many training images and the first so many test images, for a quick look.

    Returns
    -------
    Images

    Raises
    ------
    ArgumentError
        For an unknown data set or a limit below 1.
    DataError
        If a file is missing, damaged, or names anything but arrays. The message names the file.

    Notes
    -----
    A file whose MD5 is not the published one is read all the same, and `Images.checked` says so: it may have
    been written anew. It is damaged if its content is not what its format says.
    """
    dataset = dataset_named(key)
    if limit is not None and limit < 1:
        raise ArgumentError(f"limit must be at least 1, got {limit}")
    folder = _given(dataset, directory)
    train, test, checked, path = read_svhn(folder) if dataset == SVHN else read_cifar(dataset, folder)
    first = "" if limit is None else f", the first {limit:,} of each"
    return Images(
        dataset,
        *_tensors(train, limit),
        *_tensors(test, limit),
        folder=folder,
        source=f"{dataset.title} from {path}{first}",
        checked=checked,
    )


def _given(dataset: Dataset, directory: str | Path | None) -> Path:
    given = directory if directory is not None else os.environ.get(ENVIRONMENT)
    if not given:
        raise DataError(
            f"{dataset.title} is not shipped with dropdiag: name the folder of its files, or set {ENVIRONMENT}; "
            f"it is published {dataset.publisher}"
        )
    return Path(given).expanduser()


def _tensors(split: Split, limit: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(split.images[:limit]), torch.from_numpy(split.labels[:limit])
