"""What a decoded picture is judged by: closeness at every scale, and texture.

Errors alone are least for a blur wherever the latents leave texture open. What keeps it: closeness to the teacher's
picture, which follows from the latents entirely and is sharp; the distribution of small patches and the contrast of
small blocks, which have to be the photograph's.
"""

import torch
from torch import Tensor
from torch.nn import functional

LEVELS = 4
PICTURE_WEIGHTS = 4.0, 2.0, 2.0, 2.0, 4.0
"""Of the pyramid's levels, the finest first, in the closeness to the teacher's picture."""
CONTRAST_WINDOW = 17
"""Pixels of a level, along each side, in which contrast is measured."""
GAINS = 0.5, 3.0
"""Between which contrast is changed."""
PATCH = 7
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
    terms = [weight * (a - b).abs().mean() for weight, a, b in zip(weights, pyramid, other, strict=False) if weight > 0]
    return torch.stack(terms).sum()


def with_contrast(level: Tensor, other: Tensor, exponent: float) -> Tensor:
    """Return a pyramid level ``(n, 3, h, w)`` with the contrast of another, so far as the exponent, 0 to 1, says.

    Each pixel takes the ratio of both levels' root mean squares around it, of all channels, to that power. A network
    that regresses to the product finds the same pattern, and the contrast that is likely where it is.
    """
    wanted, found = (_root_mean_square(each) for each in (other, level))
    return level * (wanted / found).clamp(*GAINS) ** exponent


def _root_mean_square(level: Tensor) -> Tensor:
    """Return the root mean squares ``(n, 1, h, w)`` around pixels."""
    squares = level.square().mean(1, keepdim=True)
    padding = CONTRAST_WINDOW // 2
    means = functional.avg_pool2d(squares, CONTRAST_WINDOW, 1, padding, count_include_pad=False)
    return means.add(1e-5).sqrt()


def texture_distance(level: Tensor, other: Tensor, projections: int, stride: int = 2, tiles: int = 1) -> Tensor:
    """Return the sliced Wasserstein distances ``(n,)`` of the 7×7 patches of two pyramid levels, tile by tile.

    Rabin et al. 2011; as a loss for textures Heitz et al. 2021. Each picture is compared with its own counterpart.
    """
    filters = torch.randn(projections, level.shape[1], PATCH, PATCH, device=level.device)
    filters /= filters.flatten(1).norm(dim=1)[:, None, None, None]
    both = functional.conv2d(torch.cat([level, other]), filters, stride=stride)
    n, _, h, w = both.shape
    h, w = h // tiles * tiles, w // tiles * tiles
    split = both[:, :, :h, :w].reshape(n, projections, tiles, h // tiles, tiles, w // tiles)
    values = split.permute(0, 1, 2, 4, 3, 5).flatten(4).sort(dim=-1).values
    first, second = values.chunk(2)
    return (first - second).abs().flatten(1).mean(1)


def contrast_distance(pyramid: list[Tensor], other: list[Tensor], weights: tuple[float, ...]) -> Tensor:
    """Return ``(n,)``, how far the root mean squares of 8×8 blocks are apart, as weighted sum of the finest levels."""
    terms = []
    for weight, level, original in zip(weights, pyramid, other, strict=False):
        blocks, wanted = (functional.avg_pool2d(x.square(), BLOCK).add(1e-4).sqrt() for x in (level, original))
        terms.append(weight * (blocks - wanted).abs().mean((1, 2, 3)))
    return torch.stack(terms).sum(0)


def grid_distance(level: Tensor, other: Tensor) -> Tensor:
    """Return how far the root mean squares of the 64 places in all 8×8 squares are apart.

    Without it a decoder makes up for missing contrast by a dot in each square, where no other loss looks for it.
    """
    energies = []
    for x in (level, other):
        n, channels, h, w = x.shape
        squares = x.reshape(n, channels, h // BLOCK, BLOCK, w // BLOCK, BLOCK)
        energies.append(squares.square().mean((2, 4)).add(1e-6).sqrt())
    first, second = energies
    return (first - second).abs().mean()


def pattern_distance(level: Tensor, other: Tensor) -> Tensor:
    """Return how far the means of the 64 places in the 4×4 nearest 8×8 squares are apart, over the original's contrast.

    It sees a faint pattern that is the same in all squares of a smooth place, which is lost among a crop's contrasts.
    """
    n, channels, h, w = level.shape
    h, w = (length // (4 * BLOCK) for length in (h, w))
    windows, wanted = (
        x[:, :, : h * 4 * BLOCK, : w * 4 * BLOCK].reshape(n, channels, h, 4, BLOCK, w, 4, BLOCK) for x in (level, other)
    )
    contrast = wanted.square().mean((3, 4, 6, 7), keepdim=True).sqrt() + 0.02
    return ((windows - wanted).mean((3, 6), keepdim=True) / contrast).abs().mean()
