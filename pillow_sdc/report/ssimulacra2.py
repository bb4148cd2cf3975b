"""SSIMULACRA 2.1 (Sneyers 2023): how near a picture is to its original, as people judge compressed pictures.

Both pictures are taken to the colour space XYB, at six scales. There they are compared by structure (an SSIM that does
not weigh dark places more than bright ones) and by edges, of which there can be too many (ringing, blocks) or too few
(blur). So there are three maps of errors for each scale and channel. The mean and the 4-norm of each count: the score
is a polynomial of the weighted sum of these 108 numbers. Constants and weights are the published ones.

Scores differ from those of the reference, libjxl's program ``ssimulacra2``, by less than 0.2 where they are below 80,
and by less than 1 above.
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .metrics import Samples

if TYPE_CHECKING:
    import torch

SMALLEST = 113
"""Shorter side, in pixels, of the smallest pictures that have all six scales, and so a score.

Pictures are halved as long as the shorter side has 8 pixels. Where that gives fewer scales, the reference weighs each
number by the weight of another scale or channel: from 113 pixels to 112, its score of a photograph can jump by 40.
"""

_ABSORBANCE = ((0.3, 0.622, 0.078), (0.23, 0.692, 0.078), (0.2434227, 0.2047674, 0.5518099))
"""From linear sRGB to what the eye's three kinds of cones absorb."""

_BIAS = 0.003793073
_STABILISER = 0.0009
_SIGMA, _RADIUS = 1.5, 5

_WEIGHTS = (
    (
        (0, 0.0007376607, 0, 0, 0.0007793482, 0),
        (0, 0, 0, 7.46689, 0, 17.44583),
        (0, 0.0008680557, 0, 0, 0, 0),
    ),
    (
        (0, 0.0004371156, 0, 1.104173, 0.0006628483, 0.0001523163),
        (0.0006235602, 0, 0, 6.683678, 0.0003772441, 1.02789),
        (0, 0.0005313192, 0, 0.0001653381, 0, 0),
    ),
    (
        (0, 0.001640644, 0, 1.842246, 11.44117, 0),
        (225.2052, 0, 0, 19.21324, 0.001140152, 0.001237756),
        (0, 0, 0, 0.0004179172, 0.001729083, 0),
    ),
    (
        (0.0007989109, 0.0001768164, 0, 1.878759, 10.94907, 0),
        (176.3932, 0, 0, 24.43301, 0.285208, 0.0004485437),
        (0.002082701, 0, 0, 8.826983, 23.19243, 0),
    ),
    (
        (0.0007289347, 0.9677937, 0, 0.0001400342, 0.9981767, 0.0003194976),
        (0, 0, 0, 34.77906, 44.83563, 0),
        (95.10805, 0.9863978, 0.9834383, 0.001228641, 171.2667, 0.9807859),
    ),
    (
        (0.0004550992, 0, 0, 0.001364877, 0, 0),
        (0, 0, 0, 0, 0, 0),
        (0, 0, 0, 0.0005130065, 0, 0.0001085406),
    ),
)
"""``(scale, channel, 2 × 3)``: for X, Y and B−Y, of the means of structure, ringing and blur, then of their norms."""


def score(original: Samples, decoded: Samples) -> float:
    """Return the score of a picture; 100 where nothing differs, below 0 where little is left.

    Args:
        original: 8-bit sRGB samples ``(H, W, 3)``, both sides at least :data:`SMALLEST`.
        decoded: Likewise.
    """
    import torch

    pair = [_to_light(samples) for samples in (original, decoded)]
    error = 0.0
    for weights in torch.tensor(_WEIGHTS, dtype=torch.float64):
        error += float((weights * _norms(*map(_to_xyb, pair))).sum())
        pair = [_halved(light) for light in pair]
    error *= 0.9562382616834844
    error = 2.326765642916932 * error - 0.020884521182843837 * error**2 + 6.248496625763138e-05 * error**3
    return 100 - 10 * error**0.6276336467831387 if error > 0 else 100.0


def _to_light(samples: Samples) -> "torch.Tensor":
    """Return linear sRGB ``(3, 1, H, W)``, 0 to 1."""
    import torch

    encoded = torch.tensor(samples).permute(2, 0, 1)[:, None] / 255
    return torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _to_xyb(light: "torch.Tensor") -> "torch.Tensor":
    """Return X, Y and B−Y ``(3, 1, H, W)``, scaled to between 0 and 1."""
    import torch

    absorbed = torch.einsum("ij,j...->i...", torch.tensor(_ABSORBANCE), light) + _BIAS
    long, medium, short = absorbed ** (1 / 3) - _BIAS ** (1 / 3)
    x, y = (long - medium) / 2, (long + medium) / 2
    return torch.stack([14 * x + 0.42, y + 0.01, short - y + 0.55])


def _halved(light: "torch.Tensor") -> "torch.Tensor":
    """Return the means of 2×2 pixels; the last row and column of an odd number count twice."""
    from torch.nn import functional

    height, width = light.shape[2:]
    return functional.avg_pool2d(functional.pad(light, (0, width % 2, 0, height % 2), mode="replicate"), 2)


def _norms(original: "torch.Tensor", decoded: "torch.Tensor") -> "torch.Tensor":
    """Return the means and the 4-norms of the maps of errors of a scale, ``(3, 2 × 3)``."""
    import torch

    mean_a, mean_b = _blurred(original), _blurred(decoded)
    variances = (_blurred(original**2) - mean_a**2) + (_blurred(decoded**2) - mean_b**2)
    covariance = _blurred(original * decoded) - mean_a * mean_b
    likeness = (1 - (mean_a - mean_b) ** 2) * (2 * covariance + _STABILISER) / (variances + _STABILISER)
    edges = (1 + (decoded - mean_b).abs()) / (1 + (original - mean_a).abs()) - 1
    maps = torch.stack([1 - likeness, edges, -edges]).clamp(min=0).double().flatten(2)
    means, norms = maps.mean(2), (maps**4).mean(2) ** 0.25
    return torch.cat([means, norms]).T


def _blurred(channels: "torch.Tensor") -> "torch.Tensor":
    """Return channels ``(3, 1, H, W)`` blurred; beyond the picture's edge there is zero, as in the reference."""
    import torch
    from torch.nn import functional

    kernel = torch.tensor(_kernel(), dtype=channels.dtype)
    beyond = len(kernel) // 2
    rows = functional.conv2d(channels, kernel.view(1, 1, 1, -1), padding=(0, beyond))
    return functional.conv2d(rows, kernel.view(1, 1, -1, 1), padding=(beyond, 0))


def _kernel() -> NDArray[np.float64]:
    """Return the Gaussian of the reference ``(9,)``: a sum of three cosines that end at a radius (Charalampidis 2016).

    Their amplitudes are those nearest to the Gaussian's Fourier series with which the sum is 1 and the variance σ².
    """
    n = np.arange(1 - _RADIUS, _RADIUS)
    frequencies = np.array([1, 3, 5]) * math.pi / (2 * _RADIUS)
    cosines = np.cos(np.outer(frequencies, n))
    series = np.exp(-((_SIGMA * frequencies) ** 2) / 2) / _RADIUS
    moments = cosines @ np.stack([np.ones_like(n), n**2], axis=1)
    missing = np.array([1, _SIGMA**2]) - series @ moments
    kernel: NDArray[np.float64] = (series + missing @ np.linalg.pinv(moments)) @ cosines
    return kernel
