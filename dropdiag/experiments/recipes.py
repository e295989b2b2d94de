"""The recipe of each experiment."""

from __future__ import annotations

from typing import Any

from dropdiag.experiments.data.datasets import MNIST
from dropdiag.experiments.images.train import IMAGES_RECIPE
from dropdiag.experiments.mnist.train import MNIST_RECIPE
from dropdiag.experiments.recipe import Recipe


def recipe_of(key: str) -> Recipe[Any]:
    """Return how runs on the data set of this key are trained: MNIST has an analysis of its own."""
    return MNIST_RECIPE if key == MNIST.key else IMAGES_RECIPE
