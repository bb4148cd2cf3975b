"""Losses of decoded pictures: closeness at every scale, and contrast at fine ones.

Errors alone are least for a blur wherever the latents leave texture open.
"""

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 4
PICTURE_WEIGHTS = 4.0, 2.0, 2.0, 2.0, 4.0
"""Weights of the pyramid's levels, the finest first, in the closeness to the teacher's picture."""
CONTRASTS = 3
"""Number of levels, from the finest on, whose contrast is compared."""
BLOCK = 8


def laplacian_pyramid(pixels: Tensor, levels: int = LEVELS) -> list[Tensor]:
    """Return the pyramid of pixels ``(n, 3, h, w)``: what each halving and bilinear doubling loses, and the rest."""
    pyramid = []
    for _ in range(levels):
        halved = functional.avg_pool2d(pixels, 2)
        doubled = functional.interpolate(halved, size=pixels.shape[2:], mode="bilinear", align_corners=False)
        pyramid.append(pixels - doubled)
        pixels = halved
    return [*pyramid, pixels]


def closeness(pyramid: list[Tensor], other: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Return the weighted sum of the mean absolute differences of two pyramids' levels."""
    terms = [weight * (a - b).abs().mean() for weight, a, b in zip(weights, pyramid, other, strict=False)]
    return torch.stack(terms).sum()


def contrast_distance(pyramid: list[Tensor], other: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Return how far the root mean squares of 8×8 blocks are apart, as weighted sum of the finest levels' means."""
    terms = []
    for weight, a, b in zip(weights, pyramid, other, strict=False):
        first, second = map(_root_mean_squares, (a, b))
        terms.append(weight * (first - second).abs().mean())
    return torch.stack(terms).sum()


def _root_mean_squares(level: Tensor) -> Tensor:
    """Return the root mean squares of blocks, of all channels together, ``(n, 1, h, w)``."""
    return functional.avg_pool2d(level.square().mean(1, keepdim=True), BLOCK).add(1e-4).sqrt()
