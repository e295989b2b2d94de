"""One way to load a data set: where it is looked for, and what becomes of it in memory."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from dropdiag.errors import DataError
from dropdiag.experiments.data.datasets import ENVIRONMENT, Contents, Dataset, Images, Split, dataset_named
from dropdiag.experiments.settings import check_at_least_one


def load_images(key: str, directory: str | Path | None = None, limit: int | None = None) -> Images:
    """Load a data set from its published files.

    Parameters
    ----------
    key : {"mnist", "cifar10", "cifar100", "svhn", "fashion-mnist"}
    directory : path, optional
        Where the files lie: for MNIST and Fashion-MNIST the folder of the four IDX files, gzipped or not, or one
        with a subfolder of the data set's name; for CIFAR the extracted folder (pickles or binary), a folder that
        holds it or the published ``.tar.gz``, or that archive itself; for SVHN the folder of the two ``.mat``
        files. Without it, the folder named by the environment variable DROPDIAG_DATA; without that, for MNIST the
        sample shipped with dropdiag (10,000 training and 2,000 test images). No other data set is shipped.
    limit : int, optional
        Keep the first so many training images and the first so many test images, for a quick look.

    Returns
    -------
    Images
        Its ``source`` says which of the places was used.

    Raises
    ------
    ArgumentError
        For an unknown data set or a limit below 1.
    DataError
        If a file is missing, damaged, disagrees with the others, or names anything but arrays. The message names
        the file.

    Notes
    -----
    A file whose MD5 is not the published one is read all the same, and `Images.checked` says so: it may have
    been written anew. It is damaged if its content is not what its format says.

    Files may come from anywhere. Nothing in them is run; what they announce is held against their size before there
    is room made for it, and against limits somewhat above the published data sets; pipes, devices and sockets are
    refused. No reader is compiled code but zlib's, so that no file can end the process.
    """
    dataset = dataset_named(key)
    check_at_least_one(limit=limit)
    folder, named = _folder(dataset, directory)
    contents = _read(dataset, folder, named)
    first = "" if limit is None else f", the first {limit:,} of each"
    return Images(
        dataset,
        *_tensors(contents.train, limit),
        *_tensors(contents.test, limit),
        folder=folder,  # what was given, not where the files were found: other processes load from it anew
        source=_source(dataset, contents, named) + first,
        checked=contents.checked,
    )


def _folder(dataset: Dataset, directory: str | Path | None) -> tuple[Path, bool]:
    """Return the folder to read, and whether the environment variable named it."""
    if directory is not None:
        return _expanded(directory), False
    if variable := os.environ.get(ENVIRONMENT):
        return _expanded(variable), True
    if dataset.sample is not None:
        return dataset.sample, False
    raise DataError(
        f"{dataset.title} is not shipped with dropdiag: name the folder of its files, or set {ENVIRONMENT}; "
        f"it is published {dataset.publisher}"
    )


def _expanded(given: str | Path) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError as error:  # a user's home that is not known
        raise DataError(f"{given}: there is no such folder ({error}); name one without ~") from error


def _read(dataset: Dataset, folder: Path, named: bool) -> Contents:
    try:
        return dataset.read(folder)
    except DataError as error:
        if not named:
            raise
        # Whoever forgot that the variable is set would look for the fault in the wrong place.
        raise DataError(f"{error} ({folder} is what the environment variable {ENVIRONMENT} names)") from error


def _source(dataset: Dataset, contents: Contents, named: bool) -> str:
    if contents.path == dataset.sample:
        return f"the sample of {dataset.title} shipped with dropdiag"
    return f"{dataset.title} from {contents.path}" + (f" ({ENVIRONMENT})" if named else "")


def _tensors(split: Split, limit: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(split.images[:limit]), torch.from_numpy(split.labels[:limit])
