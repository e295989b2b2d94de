from __future__ import annotations

import numpy as np
import pytest
import torch

from dropdiag.experiments.images import augment as inputs
from dropdiag.experiments.images.augment import EpochPlan, Normaliser, cropped, with_channels
from dropdiag.experiments.images.train import ImageSettings


def noise(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, 3, 32, 32)).astype(np.uint8))


def test_crops_and_mirrors_are_those_of_numpy():
    images, random = noise(40), np.random.default_rng(1)
    shift = torch.from_numpy(random.integers(0, 9, (40, 2)))
    mirrored = torch.from_numpy(random.random(40) < 0.5)
    got = cropped(images, shift, mirrored).numpy()
    for image, (top, left), flip, result in zip(images.numpy(), shift.tolist(), mirrored.tolist(), got, strict=True):
        padded = np.pad(image, ((0, 0), (4, 4), (4, 4)))
        wanted = padded[:, top : top + 32, left : left + 32]
        np.testing.assert_array_equal(result, wanted[:, :, ::-1] if flip else wanted)


def test_the_middle_crop_is_the_image():
    images = noise(3)
    assert torch.equal(cropped(images, torch.full((3, 2), 4), torch.zeros(3, dtype=torch.bool)), images)


@pytest.mark.parametrize("chunk", [7, 5000])
def test_channels_are_centred_and_scaled(monkeypatch, chunk):
    monkeypatch.setattr(inputs, "CHUNK", chunk)
    images = noise(50)
    images[:, 1] //= 3
    normalise = Normaliser.of(images)
    values = images.numpy().astype(np.float64)
    np.testing.assert_allclose(normalise.mean.flatten(), values.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(normalise.sd.flatten(), values.std((0, 2, 3)), rtol=1e-6)
    scaled = normalise(images).double()
    torch.testing.assert_close(scaled.mean((0, 2, 3)), torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.var((0, 2, 3), correction=0), torch.ones(3).double(), atol=1e-5, rtol=0)


def test_a_channel_that_never_changes_becomes_zero():
    images = noise(5)
    images[:, 2] = 77
    scaled = Normaliser.of(images)(images)
    assert torch.isfinite(scaled).all()
    assert not scaled[:, 2].any()


def drawn(images: int, batch_size: int, *, flip: bool) -> EpochPlan:
    generator = torch.Generator().manual_seed(0)
    settings = ImageSettings("Base", 0, dataset="cifar10", batch_size=batch_size)
    return EpochPlan.draw(settings.batches(images, generator), generator, flip=flip)


def test_grey_images_get_one_channel_and_others_keep_theirs():
    assert with_channels(torch.zeros(5, 28, 28)).shape == (5, 1, 28, 28)
    assert with_channels(noise(5)).shape == (5, 3, 32, 32)


def test_the_plan_of_an_epoch():
    draws = drawn(1030, 100, flip=True)
    assert draws.order.shape == (10, 100)
    assert len(draws.order.unique()) == 1000
    assert draws.shift.unique().tolist() == list(range(9))
    assert 0.4 < draws.mirrored.float().mean() < 0.6
    again = drawn(1030, 100, flip=True)
    assert all(
        torch.equal(a, b) for one, other in zip(draws, again, strict=True) for a, b in zip(one, other, strict=True)
    )
    digits = drawn(1030, 100, flip=False)
    assert not digits.mirrored.any()
    assert torch.equal(digits.order, draws.order)


def test_fewer_images_than_a_batch_are_one_batch():
    assert drawn(5, 128, flip=True).order.shape == (1, 5)
