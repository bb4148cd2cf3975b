"""The decoder of the second kind: TAESD's layout, slimmer at full resolution, and given the noise in its latents."""

import torch
from torch import Tensor, nn

from .networks import LATENT_CHANNELS, Block, with_noise_level

WIDTHS = 96, 64, 64, 32
"""Channels at an eighth, a quarter, a half and the whole of the resolution."""
BLOCKS = 4, 3, 3, 1
"""Residual blocks there. The teacher has one less at an eighth; ours also has to remove noise."""

COUNTERPARTS = 3, 4, 5, 7, 8, 9, 10, 12, 13, 14, 15
"""Blocks, and convolutions after upsampling, that the teacher has too; at full resolution its own are wider."""
TEACHERS = tuple(index - 1 for index in COUNTERPARTS)
"""The same layers in the teacher."""

LATENT_RANGE = 3.0


class Decoder(nn.Module):
    """Latents ``(n, 4, h, w)`` and the variance ``(n,)`` of the noise in them to pixels ``(n, 3, 8h, 8w)``.

    Latents are squashed by 3·tanh(z/3) first, as TAESD does, so that none is far outside what was trained.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(LATENT_CHANNELS + 1, WIDTHS[0], 3, padding=1), nn.ReLU()]
        for i, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            if i > 0:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(WIDTHS[i - 1], width, 3, padding=1)]
            layers += [Block(width, width) for _ in range(count)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(WIDTHS[-1], 3, 3, padding=1))

    def forward(self, latents: Tensor, noise_variance: Tensor) -> Tensor:
        """Return pixels, about in [−1, 1]."""
        squashed = LATENT_RANGE * torch.tanh(latents / LATENT_RANGE)
        return self.layers(with_noise_level(squashed, noise_variance))  # type: ignore[no-any-return]
