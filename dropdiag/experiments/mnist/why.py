"""What is measured of a network by passes of its own: why gradient flows, and what else dropout is said to do.

All of it leaves the network, its gradients and every random state as they were, so that a run trains as it would
without. Every run is measured on the same images and under the same masks: what differs is the network.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from dropdiag.recorder import Recorder

MASKS: Final = 32
"""Masks of each measurement."""
MINI_BATCHES: Final = 16
"""Into so many the training images are cut to see how the directions of their gradients differ."""
SMALL: Final = 512
"""So many of the images are used where hundreds of passes are made."""
SEED: Final = 0
"""Of the masks, the same in every run."""

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Inputs, float32 of shape (n, 784), and labels, int64 of shape (n,)."""


class Why:
    """The measurements of one run.

    Parameters
    ----------
    rate : float
        Dropout rate at which networks without dropout are measured as well.
    drops : bool
        Whether the network has dropout.
    training, test : (Tensor, Tensor)
        Images that it is trained with, and others.
    """

    def __init__(self, rate: float, training: Labelled, test: Labelled, *, drops: bool) -> None:
        self._rate, self._training, self._test, self._drops = rate, training, test, drops

    def along_training(self, recorder: Recorder) -> None:
        """Measure gradient flow with masks off and on, and the direction of mini-batches' gradients."""
        images, labels = self._training
        behind_activations = None if self._drops else self._rate
        recorder.measure(
            "masks_by_weights",
            images[:SMALL],
            F.cross_entropy,
            targets=labels[:SMALL],
            masks=MASKS,
            p=behind_activations,
            seed=SEED,
        )
        recorder.measure("gradient_direction", images, F.cross_entropy, targets=labels, batches=MINI_BATCHES, seed=SEED)

    def at_the_end(self, recorder: Recorder) -> None:
        """Measure the ensemble of thinned networks, flatness, robustness and causal co-adaptation."""
        (images, labels), (test_images, test_labels) = self._training, self._test
        if self._drops:  # a network without dropout is no ensemble
            recorder.measure("ensemble", test_images, targets=test_labels, masks=MASKS, seed=SEED)
        for name in ("flatness", "ablation"):
            recorder.measure(name, images[:SMALL], F.cross_entropy, targets=labels[:SMALL], seed=SEED)
        recorder.measure("robustness", test_images, F.cross_entropy, targets=test_labels, seed=SEED)
