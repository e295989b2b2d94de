"""Fashion-MNIST: clothes instead of digits, in files named and built like MNIST's.

Reference: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", arXiv:1708.07747.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dropdiag.experiments.data.archive import compared
from dropdiag.experiments.data.datasets import Contents, Dataset
from dropdiag.experiments.data.mnist import find_four, read_four

MD5: Final = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
"""Published file -> its MD5, as the publisher's page gives it. Unpacked files have none."""


def read(dataset: Dataset, directory: Path) -> Contents:
    """Read Fashion-MNIST; see `dropdiag.experiments.data.mnist.find_four` and `read_four`.

    The files have the names of MNIST's, so that only `Contents.checked` tells a folder of MNIST that was given
    by mistake.
    """
    paths = find_four(dataset, directory)
    return read_four(dataset, paths, compared({path: MD5.get(path.name) for path in paths.values()}))
