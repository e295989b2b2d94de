"""Networks that make or compare things: GAN, VAE, autoencoder, Siamese net, U-Net."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.network import Network, images, vectors


def _gan() -> nn.Module:
    generator = nn.Sequential(nn.Linear(4, 12), nn.BatchNorm1d(12), nn.ReLU(inplace=True), nn.Linear(12, 6), nn.Tanh())
    discriminator = nn.Sequential(
        nn.Linear(6, 12), nn.LeakyReLU(0.2, inplace=True), nn.Dropout(0.3), nn.Linear(12, 1), nn.Sigmoid()
    )
    return nn.ModuleDict({"generator": generator, "discriminator": discriminator})


def _gan_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return -model["discriminator"](model["generator"](torch.randn(len(batch[0]), 4))).log().mean()


def _gan_step(network, parts, optimizers, batch) -> list[Tensor]:
    """Train the discriminator on real and on fake vectors, then the generator through it."""
    real, _ = batch
    generate, judge = parts["generator"], parts["discriminator"]
    fake = generate(torch.randn(len(real), 4))
    optimizers["discriminator"].zero_grad()
    of_judge = F.binary_cross_entropy(judge(real), torch.ones(len(real), 1))
    of_judge = of_judge + F.binary_cross_entropy(judge(fake.detach()), torch.zeros(len(real), 1))
    of_judge.backward()
    optimizers["discriminator"].step()
    optimizers["generator"].zero_grad()
    of_generator = F.binary_cross_entropy(judge(fake), torch.ones(len(real), 1))
    of_generator.backward()
    optimizers["generator"].step()
    return [of_judge.detach(), of_generator.detach()]


class VAE(nn.Module):
    """Samples its code with the global generator; its activations are functions and methods."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.mean, self.log_variance = nn.Linear(6, 10), nn.Linear(10, 3), nn.Linear(10, 3)
        self.decoder, self.out = nn.Linear(3, 10), nn.Linear(10, 6)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.encoder(x))
        return self.mean(h), self.log_variance(h)

    def decode(self, code: Tensor) -> Tensor:
        return self.out(self.decoder(code).tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode(x)
        code = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.decode(code), mean, log_variance


def _elbo(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    x, _ = batch
    out, mean, log_variance = model(x)
    return F.mse_loss(out, x) - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()


class TiedAutoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed; the second layer's is shared as a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.inner = nn.Linear(6, 4), nn.Linear(4, 4)
        self.mirror = nn.Linear(4, 4)
        self.mirror.weight = self.inner.weight
        self.activation = nn.Softplus()

    def forward(self, x: Tensor) -> Tensor:
        h = self.activation(self.encoder(x))
        h = torch.sigmoid(self.mirror(torch.sigmoid(self.inner(h))))
        return F.linear(h, self.encoder.weight.t())


def _reconstruct(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.mse_loss(model(batch[0]), batch[0])


def _siamese() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 10), nn.ELU(), nn.Dropout(0.2), nn.Linear(10, 4), nn.Tanh())


def _pairs(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    a, y = vectors(generator, classes=2)
    return a, torch.randn(len(a), 6, generator=generator), y


def _contrast(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Two forward passes for one backward pass."""
    a, b, y = batch
    distance = F.pairwise_distance(model(a), model(b))
    return (y * distance.square() + (1 - y) * F.relu(1 - distance).square()).mean()


class _Block(nn.Sequential):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True))


class UNet(nn.Module):
    """Two levels down and up, in-place activations, skip connections, channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.bottom = _Block(3, 6), _Block(6, 10), _Block(10, 14)
        self.up2, self.up1 = nn.ConvTranspose2d(14, 10, 2, 2), nn.ConvTranspose2d(10, 6, 2, 2)
        self.right2, self.right1 = _Block(20, 10), _Block(12, 6)
        self.dropout, self.head = nn.Dropout2d(0.2), nn.Conv2d(6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.first(x.contiguous(memory_format=torch.channels_last))
        b = self.second(F.max_pool2d(a, 2))
        h = self.dropout(self.bottom(F.max_pool2d(b, 2)))
        h = self.right2(torch.cat([self.up2(h), b], 1))
        return self.head(self.right1(torch.cat([self.up1(h), a], 1)))


NETWORKS = (
    Network("gan", _gan, vectors, _gan_loss, step=_gan_step, parts=lambda model: dict(model.items())),
    Network("vae", VAE, vectors, _elbo, warns=("random numbers were drawn in the forward pass",)),
    Network("autoencoder_tied", TiedAutoencoder, vectors, _reconstruct),
    Network("siamese", _siamese, _pairs, _contrast),
    Network("unet", UNet, lambda generator: images(generator, n=3, size=16), _reconstruct),
)
