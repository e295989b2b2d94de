"""From stored images to what the network sees: random crops, mirror images, normalised channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

PAD: Final = 4
CHUNK: Final = 5_000


@dataclass(frozen=True)
class Normaliser:
    """Centres each channel and scales it to unit variance.

    Attributes
    ----------
    mean, sd : Tensor of float32, shape (channels, 1, 1)
        Of the training images, in grey values 0..255.
    """

    mean: Tensor
    sd: Tensor

    @classmethod
    def of(cls, images: Tensor) -> Normaliser:
        """Take mean and standard deviation of uint8 images of shape (n, channels, height, width)."""
        # In chunks, since 50,000 images as float64 take 1.2 GB; two passes, since one would cancel digits.
        count = images[:, 0].numel()
        total = sum(part.double().sum((0, 2, 3)) for part in torch.split(images, CHUNK))
        mean = torch.as_tensor(total) / count
        square = sum(
            (part.double() - mean[:, None, None]).square().sum((0, 2, 3)) for part in torch.split(images, CHUNK)
        )
        sd = (torch.as_tensor(square) / count).sqrt()
        sd = torch.where(sd > 0, sd, torch.ones_like(sd))  # a channel that never changes becomes 0
        return cls(mean.float()[:, None, None], sd.float()[:, None, None])

    def to(self, device: torch.device) -> Normaliser:
        """Return the same on another device."""
        return Normaliser(self.mean.to(device), self.sd.to(device))

    def __call__(self, images: Tensor) -> Tensor:
        """Turn uint8 images into float32 network inputs of the same shape."""
        return (images.float() - self.mean) / self.sd


@dataclass(frozen=True)
class EpochPlan:
    """What is drawn for one epoch: batches of images, and how each is cropped and mirrored.

    Attributes
    ----------
    order : Tensor of int64, shape (batches, size)
        Index of each image.
    shift : Tensor of int64, shape (batches, size, 2)
        Top and left of the crop, 0..8 in the padded image; 4 is the middle.
    mirrored : Tensor of bool, shape (batches, size)
    """

    order: Tensor
    shift: Tensor
    mirrored: Tensor

    @classmethod
    def draw(cls, order: Tensor, generator: torch.Generator, *, flip: bool) -> EpochPlan:
        """Draw crops, and mirror images if `flip`, for batches that were drawn; see `TrainSettings.batches`."""
        # Drawn on the CPU and then moved: a seed gives the same crops whatever device trains.
        shift = torch.randint(0, 2 * PAD + 1, (*order.shape, 2), generator=generator)
        mirrored = torch.rand(order.shape, generator=generator) < 0.5 if flip else torch.zeros_like(order).bool()
        return cls(order, shift, mirrored)

    def to(self, device: torch.device) -> EpochPlan:
        """Return the same on another device."""
        return EpochPlan(self.order.to(device), self.shift.to(device), self.mirrored.to(device))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Batches: indices, shifts, whether mirrored."""
        return zip(self.order, self.shift, self.mirrored, strict=True)


def with_channels(images: Tensor) -> Tensor:
    """Give grey images, shape (n, height, width), their one channel; others are returned as they are."""
    return images.unsqueeze(1) if images.ndim == 3 else images


def cropped(images: Tensor, shift: Tensor, mirrored: Tensor) -> Tensor:
    """Pad images with 4 black pixels at each side, cut one of the old size out of each, mirror some.

    Parameters
    ----------
    images : Tensor of uint8, shape (n, channels, height, width)
    shift : Tensor of int64, shape (n, 2)
        Top and left of the crop in the padded image, 0..8.
    mirrored : Tensor of bool, shape (n,)

    Returns
    -------
    Tensor of uint8, shape (n, channels, height, width)
    """
    # All crops by one indexing, not image by image in Python.
    n, _, height, width = images.shape
    rows = shift[:, :1] + torch.arange(height, device=images.device)
    across = torch.arange(width, device=images.device)
    columns = shift[:, 1:] + torch.where(mirrored[:, None], across.flip(0), across)
    padded = F.pad(images, (PAD, PAD, PAD, PAD)).permute(0, 2, 3, 1)
    which = torch.arange(n, device=images.device)[:, None, None]
    return padded[which, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
