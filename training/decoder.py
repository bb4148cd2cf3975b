"""The decoder of the second kind: TAESD's layout, half as wide at full resolution, after a part that removes noise."""

import torch
from torch import Tensor, nn

from .networks import LATENT_CHANNELS, Block, with_noise_level

WIDTH, FULL_WIDTH = 64, 32
"""Channels up to half of the picture's resolution, as many as the teacher has, and at all of it."""
BLOCKS = 3
"""Residual blocks at an eighth, a quarter and a half of the resolution; at all of it there is one."""
CLEANING_BLOCKS = 3
"""Residual blocks that remove noise from latents."""

UNITS = ((0, 1), (2,), (3,), (4,), (5, 6), (7,), (8,), (9,), (10, 11), (12,), (13,), (14,), (15, 16, 17, 18))
"""Layers that have, together, a counterpart in the teacher: the same layers."""

LATENT_RANGE = 3.0


class Decoder(nn.Module):
    """Latents ``(n, 4, h, w)`` and the variance ``(n,)`` of the noise in them to pixels ``(n, 3, 8h, 8w)``.

    Attributes:
        cleaning: From latents and the level of their noise to what is added to them; nothing before it is trained.
        layers: From latents to pixels in [0, 1], layer by layer as in the teacher.
    """

    def __init__(self) -> None:
        super().__init__()
        last = nn.Conv2d(WIDTH, LATENT_CHANNELS, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.cleaning = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS + 1, WIDTH, 3, padding=1),
            nn.ReLU(),
            *(Block(WIDTH, WIDTH) for _ in range(CLEANING_BLOCKS)),
            last,
        )
        layers: list[nn.Module] = [nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1), nn.ReLU()]
        layers += [Block(WIDTH, WIDTH) for _ in range(BLOCKS)]
        for _ in range(2):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, WIDTH, 3, padding=1)]
            layers += [Block(WIDTH, WIDTH) for _ in range(BLOCKS)]
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTH, FULL_WIDTH, 3, padding=1)]
        layers += [Block(FULL_WIDTH, FULL_WIDTH), nn.Conv2d(FULL_WIDTH, 3, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor, noise_variance: Tensor) -> Tensor:
        """Return pixels, about in [−1, 1]."""
        cleaned = latents + self.cleaning(with_noise_level(latents, noise_variance))
        return to_pixels(self.layers(squashed(cleaned)))


def squashed(latents: Tensor) -> Tensor:
    """Return latents as decoders take them: 3·tanh(z/3), as in TAESD, so that none is far outside what was trained."""
    return LATENT_RANGE * torch.tanh(latents / LATENT_RANGE)


def to_pixels(output: Tensor) -> Tensor:
    """Return what the last layer puts out, in [0, 1], as pixels in [−1, 1]."""
    return 2 * output - 1
