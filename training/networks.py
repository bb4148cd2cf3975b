"""The embedded networks: small convolutional ones that do most of their work at a half to an eighth of the resolution.

So they are trained; ``training.quantise`` makes of them what the package runs.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT_CHANNELS = 4


class Residual(nn.Module):
    """Two 3×3 convolutions whose output is added to their input; ``(n, channels, h, w)`` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the two convolutions make of it."""
        return x + self.second(functional.relu(self.first(x)))  # type: ignore[no-any-return]


class ToldResidual(nn.Module):
    """As :class:`Residual`, but it is told how foreign its latents are, and adapts its channels to that.

    Of our own encoder's latents it makes what it would without; so both kinds share all kernels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.foreign = nn.Parameter(torch.zeros(3, channels))

    def forward(self, x: Tensor, foreign: Tensor) -> Tensor:
        """Return what a residual does at ``foreign`` ``(n, 1, 1, 1)`` of 0, and what foreign latents need at 1."""
        factor, offset, gain = (foreign * vector[:, None, None] for vector in self.foreign)
        hidden = functional.relu(self.first(x) * (1 + factor) + offset)
        return x + self.second(hidden) * (1 + gain)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Three 3×3 convolutions whose output is added to their input, and a ReLU, as in TAESD; shapes as above."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.third = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus what the three convolutions make of it, where it is positive."""
        hidden = functional.relu(self.second(functional.relu(self.first(x))))
        return functional.relu(x + self.third(hidden))


class Encoder(nn.Module):
    """Pixels ``(n, 3, 8h, 8w)`` in [−1, 1] to SD-scaled latents ``(n, 4, h, w)``.

    From a quarter of the resolution on the layers are those of TAESD's encoder, in number and kind.
    """

    def __init__(self, full: int = 16, channels: int = 64, hidden: int = 96) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, full, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(full, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            *(layer for _ in range(2) for layer in (Residual(channels), nn.ReLU())),
            nn.Conv2d(channels, channels, 4, stride=2, padding=1),
            *(Block(channels, channels) for _ in range(3)),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            *(Block(channels, hidden) for _ in range(3)),
            nn.Conv2d(channels, LATENT_CHANNELS, 3, padding=1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return latents."""
        return self.layers(pixels)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """Latents ``(n, 4, h, w)`` and the variance ``(n,)`` of the noise in them to pixels ``(n, 3, 8h, 8w)``."""

    def __init__(self, eighth: int = 128, quarter: int = 64, half: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS + 1, eighth, 3, padding=1),
            *(ToldResidual(eighth) for _ in range(6)),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            *(ToldResidual(quarter) for _ in range(4)),
            nn.Conv2d(quarter, 4 * half, 3, padding=1),
            nn.PixelShuffle(2),
            *(ToldResidual(half) for _ in range(2)),
            nn.Conv2d(half, 3 * 2 * 2, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, latents: Tensor, noise_variance: Tensor, foreign: Tensor) -> Tensor:
        """Return pixels, about in [−1, 1]; ``foreign`` ``(n,)`` is 0 for latents of our own encoder, 1 for others'."""
        x, foreign = with_noise_level(latents, noise_variance), foreign[:, None, None, None]
        for layer in self.layers:
            x = layer(x, foreign) if isinstance(layer, ToldResidual) else layer(x)
        return x


class Denoiser(nn.Module):
    """Noisy latents ``(n, 4, h, w)`` and the variance ``(n,)`` of their noise to ε, the noise at unit variance."""

    def __init__(self, channels: int = 64, blocks: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS + 1, channels, 3, padding=1),
            *(Residual(channels) for _ in range(blocks)),
            nn.Conv2d(channels, LATENT_CHANNELS, 3, padding=1),
        )

    def forward(self, latents: Tensor, noise_variance: Tensor) -> Tensor:
        """Return ε, shaped like ``latents``."""
        return self.layers(with_noise_level(latents, noise_variance))  # type: ignore[no-any-return]


def with_noise_level(latents: Tensor, noise_variance: Tensor) -> Tensor:
    """Return latents ``(n, 5, h, w)`` whose fifth channel tells how much noise is in them.

    It is 0 for none, and grows with the logarithm of the variance to about 1 at 0.1.
    """
    level = torch.log1p(noise_variance / 0.001) / 5
    return torch.cat([latents, level[:, None, None, None].expand_as(latents[:, :1])], 1)
