"""The embedded networks, convolutional all, in float32: ``training.quantise`` converts them for the package."""

import torch
from torch import Tensor, nn
from torch.nn import functional

LATENT_CHANNELS = 4

WIDTH, FULL_WIDTH = 64, 32
"""Channels of the decoder up to half of the picture's resolution, as in TAESD, and at all of it, half as many."""
BLOCKS = 3
"""The decoder's residual blocks at an eighth, a quarter and a half of the resolution; at all of it there is one."""
CLEANING_BLOCKS = 3
"""Its residual blocks that remove noise from latents."""

LATENT_RANGE = 3.0
"""Absolute value that latents approach where the decoder takes them, as in TAESD."""


class Residual(nn.Module):
    """Two 3×3 convolutions whose output is added to their input; ``(n, channels, h, w)`` to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the output of the two convolutions."""
        return x + self.second(functional.relu(self.first(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Three 3×3 convolutions whose output is added to their input, and a ReLU, as in TAESD; shapes as above."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, hidden, 3, padding=1)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1)
        self.third = nn.Conv2d(hidden, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the ReLU of x plus the output of the three convolutions."""
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
    """Latents ``(n, 4, h, w)`` and the variance ``(n,)`` of the noise in them to pixels ``(n, 3, 8h, 8w)``.

    TAESD's decoder in layout, after a part that removes noise.

    Attributes:
        cleaning: From latents and the level of their noise to what is added to them; zero before it is trained.
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
        return to_pixels(self.layers(soft_clipped(cleaned)))


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
    """Return latents ``(n, 5, h, w)`` whose fifth channel is a measure of the noise in them.

    It is 0 for none, and grows with the logarithm of the variance to about 1 at 0.1.
    """
    level = torch.log1p(noise_variance / 0.001) / 5
    return torch.cat([latents, level[:, None, None, None].expand_as(latents[:, :1])], 1)


def soft_clipped(latents: Tensor) -> Tensor:
    """Return 3·tanh(z/3), as TAESD does before its decoder, so that no latent is far outside of what was trained."""
    return LATENT_RANGE * torch.tanh(latents / LATENT_RANGE)


def to_pixels(output: Tensor) -> Tensor:
    """Return the output of the last layer, in [0, 1], as pixels in [−1, 1]."""
    return 2 * output - 1
