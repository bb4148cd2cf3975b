"""The embedded networks: small convolutional ones that work at a half to an eighth of the picture's resolution.

They are not to be imported before they are needed, for this module imports torch.
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


class Encoder(nn.Module):
    """Pixels ``(n, 3, 8h, 8w)`` in [−1, 1] to SD-scaled latents ``(n, 4, h, w)``."""

    def __init__(self, half: int = 64, quarter: int = 64, eighth: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(3 * 2 * 2, half, 3, padding=1),
            Residual(half),
            nn.ReLU(),
            nn.Conv2d(half, quarter, 4, stride=2, padding=1),
            *(Residual(quarter) for _ in range(3)),
            nn.Conv2d(quarter, eighth, 3, stride=2, padding=1),
            *(Residual(eighth) for _ in range(5)),
            nn.Conv2d(eighth, LATENT_CHANNELS, 3, padding=1),
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
            *(Residual(eighth) for _ in range(4)),
            nn.Conv2d(eighth, 4 * quarter, 1),
            nn.PixelShuffle(2),
            *(Residual(quarter) for _ in range(3)),
            nn.Conv2d(quarter, 4 * half, 3, padding=1),
            nn.PixelShuffle(2),
            *(Residual(half) for _ in range(2)),
            nn.Conv2d(half, 3 * 2 * 2, 3, padding=1),
            nn.PixelShuffle(2),
        )

    def forward(self, latents: Tensor, noise_variance: Tensor) -> Tensor:
        """Return pixels, about in [−1, 1]."""
        plane = noise_level(noise_variance)[:, None, None, None].expand_as(latents[:, :1])
        return self.layers(torch.cat([latents, plane], 1))  # type: ignore[no-any-return]


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
        plane = noise_level(noise_variance)[:, None, None, None].expand_as(latents[:, :1])
        return self.layers(torch.cat([latents, plane], 1))  # type: ignore[no-any-return]


def noise_level(noise_variance: Tensor) -> Tensor:
    """Map noise variances to what a network is told: 0 for none, growing with the logarithm to about 1 at 0.1."""
    return torch.log1p(noise_variance / 0.001) / 5
