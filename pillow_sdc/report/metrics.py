"""Metrics of picture quality: fidelity to the original, and likeness of texture.

All functions take 8-bit RGB samples ``(H, W, 3)``, the original first.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Samples = NDArray[np.uint8]
Projections = tuple[NDArray[np.float32], ...]
"""For each level of a pyramid, its patches' projections ``(128, n)``, sorted."""

SMALLEST_FOR_SSIM, SMALLEST_FOR_MS_SSIM, SMALLEST_FOR_TEXTURE = 11, 161, 28
"""Smallest shorter side, in pixels, of pictures to which each metric applies."""

_LUMA = np.array([0.299, 0.587, 0.114])
_PATCH = 7
_PROJECTIONS = 128

_WINDOW, _STRIDE = 32, 16
"""Side and stride of the windows of :func:`cross_hatch`, in pixels."""
_BAND = 0.12, 0.5
"""Frequency band of :func:`cross_hatch`, in cycles per pixel."""
_WITHIN = 12.0
"""Largest angle between a frequency and an axis or diagonal, in degrees."""
_TEXTURED = 8000.0
"""Power of an original's window, near axes and diagonals, from which it counts as textured."""


def check_installed() -> None:
    """Raise ``ImportError`` if a package that every report needs is missing."""
    import pytorch_msssim  # noqa: F401


def psnr(original: Samples, decoded: Samples) -> float:
    """Peak signal-to-noise ratio in decibels; infinite where nothing differs."""
    mse = float(np.mean((original.astype(float) - decoded.astype(float)) ** 2))
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def multiscale_ssim(original: Samples, decoded: Samples) -> float:
    """MS-SSIM of RGB (Wang et al. 2003); both sides of the pictures at least 161 pixels."""
    from pytorch_msssim import ms_ssim

    return float(ms_ssim(_to_tensor(original), _to_tensor(decoded), data_range=255))


def structural_similarity(original: Samples, decoded: Samples) -> float:
    """SSIM of luma (Wang et al. 2004), in windows of 11×11 pixels, Gaussian with a standard deviation of 1.5."""
    import torch
    from pytorch_msssim import ssim

    lumas = (torch.tensor(samples @ _LUMA)[None, None].float() for samples in (original, decoded))
    return float(ssim(*lumas, data_range=255, win_size=11, win_sigma=1.5))


def laplacian_ratio(original: Samples, decoded: Samples) -> float:
    """Energy of fine texture over the original's: the mean square of luma filtered with [0 1 0; 1 −4 1; 0 1 0]."""
    return _laplacian_energy(decoded) / _laplacian_energy(original)


def cross_hatch(original: Samples, decoded: Samples) -> float | None:
    """How much more than the original a picture is woven: patterned along rows and columns where texture is fine.

    In Hann-weighted windows of 32×32 pixels of luma, the power at 0.12 to 0.5 cycles per pixel within 12° of the axes
    is divided by that within 12° of the diagonals.

    Returns:
        The mean of the ratios' binary logarithms less the original's, in bits; 0 is the original's balance. ``None``
        where no window of the original is textured.
    """
    if min(original.shape[:2]) < _WINDOW:
        return None
    along_axes, along_diagonals = _directional_power(original)
    textured = along_axes + along_diagonals > _TEXTURED
    if not textured.any():
        return None
    of_original = np.log2((along_axes[textured] + 1) / (along_diagonals[textured] + 1))
    along_axes, along_diagonals = _directional_power(decoded)
    of_decoded = np.log2((along_axes[textured] + 1) / (along_diagonals[textured] + 1))
    return float(np.mean(of_decoded - of_original))


def has_texture(original: Samples) -> bool:
    """Whether the original has any Laplacian energy to compare with."""
    return min(original.shape[:2]) >= 3 and _laplacian_energy(original) > 0


def texture_distances(original: Samples, decoded: Samples) -> tuple[float, float, float]:
    """Sliced Wasserstein distances of 7×7 patches of three levels of the Laplacian pyramid, from fine to coarse.

    After Karras et al. 2018, "Progressive Growing of GANs", but of one picture and its original; a level is what is
    lost by a halving (2×2 means) and a bilinear doubling.
    """
    return distances_between(_of_original(original.tobytes(), original.shape), project_patches(decoded))


def distances_between(original: Projections, decoded: Projections) -> tuple[float, float, float]:
    """Return the texture distances of two pictures whose patches are already projected."""
    pairs = zip(original, decoded, strict=True)
    fine, middle, coarse = (float(np.mean(np.abs(a - b), dtype=np.float64)) for a, b in pairs)
    return fine, middle, coarse


def project_patches(samples: Samples) -> Projections:
    """Return the projections of a picture's patches, fine, middle and coarse; 43 MB for 512×512 pixels."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    picture = _to_tensor(samples)
    projections = []
    for _ in range(3):
        halved = functional.avg_pool2d(picture, 2)
        doubled = functional.interpolate(halved, size=picture.shape[2:], mode="bilinear", align_corners=False)
        directions = torch.randn(_PROJECTIONS, 3, _PATCH, _PATCH, generator=generator)
        directions /= directions.flatten(1).norm(dim=1)[:, None, None, None]
        projected = functional.conv2d(picture - doubled, directions, stride=2)[0].flatten(1)
        projections.append(np.sort(projected.numpy(), axis=1))  # which takes a fifteenth of the time of torch's sort
        picture = halved
    return tuple(projections)


@lru_cache(maxsize=16)
def _of_original(samples: bytes, shape: tuple[int, ...]) -> Projections:
    """Return the projections of an original, with which many pictures are compared."""
    return project_patches(np.frombuffer(samples, np.uint8).reshape(shape))


def _directional_power(samples: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each window's mean power near the axes and near the diagonals."""
    luma = samples @ _LUMA
    windows = np.lib.stride_tricks.sliding_window_view(luma, (_WINDOW, _WINDOW))[::_STRIDE, ::_STRIDE]
    hann = np.hanning(_WINDOW + 1)[:-1]
    frequencies = np.fft.fftfreq(_WINDOW)
    radius = np.hypot(frequencies[:, None], frequencies)
    angle = np.degrees(np.arctan2(np.abs(frequencies[:, None]), np.abs(frequencies)))
    in_band = (radius >= _BAND[0]) & (radius <= _BAND[1])
    near_axes = in_band & (np.minimum(angle, 90 - angle) <= _WITHIN)
    near_diagonals = in_band & (np.abs(angle - 45) <= _WITHIN)
    means = []
    for row in windows:  # one row of them at a time, so that large pictures take no more memory than they have pixels
        power = np.abs(np.fft.fft2((row - row.mean((-2, -1), keepdims=True)) * np.outer(hann, hann))) ** 2
        means.append((power[:, near_axes].mean(-1), power[:, near_diagonals].mean(-1)))
    along_axes, along_diagonals = zip(*means, strict=True)
    return np.concatenate(along_axes), np.concatenate(along_diagonals)


def _laplacian_energy(samples: Samples) -> float:
    luma = samples @ _LUMA
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.mean((neighbours - 4 * luma[1:-1, 1:-1]) ** 2))


def _to_tensor(samples: Samples) -> "torch.Tensor":
    import torch

    return torch.tensor(samples).permute(2, 0, 1)[None].float()
