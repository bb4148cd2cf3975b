"""How pictures are judged: by their distance to the original, and by whether they have its texture.

All take 8-bit RGB samples ``(H, W, 3)``, the original first.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim, ssim
from torch.nn import functional

Samples = NDArray[np.uint8]

_LUMA = np.array([0.299, 0.587, 0.114])
_PATCH = 7
_PROJECTIONS = 128


def psnr(original: Samples, decoded: Samples) -> float:
    """Peak signal-to-noise ratio in decibels."""
    return float(10 * np.log10(255**2 / np.mean((original.astype(float) - decoded.astype(float)) ** 2)))


def multiscale_ssim(original: Samples, decoded: Samples) -> float:
    """MS-SSIM of RGB (Wang et al. 2003); both sides of the pictures at least 161 pixels."""
    return float(ms_ssim(_to_tensor(original), _to_tensor(decoded), data_range=255))


def structural_similarity(original: Samples, decoded: Samples) -> float:
    """SSIM of luma (Wang et al. 2004), in windows of 11×11 pixels, Gaussian with a standard deviation of 1.5."""
    lumas = (torch.tensor(samples @ _LUMA)[None, None].float() for samples in (original, decoded))
    return float(ssim(*lumas, data_range=255, win_size=11, win_sigma=1.5))


def laplacian_ratio(original: Samples, decoded: Samples) -> float:
    """Energy of fine texture over the original's: the mean square of luma filtered with [0 1 0; 1 −4 1; 0 1 0]."""
    return _laplacian_energy(decoded) / _laplacian_energy(original)


def texture_distances(original: Samples, decoded: Samples) -> tuple[float, float, float]:
    """Sliced Wasserstein distances of 7×7 patches of three levels of the Laplacian pyramid, from fine to coarse.

    After Karras et al. 2018, "Progressive Growing of GANs", but of one picture and its original; a level is what is
    lost by a halving (2×2 means) and a bilinear doubling.
    """
    fine, middle, coarse = (
        float((a - b).abs().mean())
        for a, b in zip(_of_original(original.tobytes(), original.shape), _projections(decoded), strict=True)
    )
    return fine, middle, coarse


@lru_cache(maxsize=16)
def _of_original(samples: bytes, shape: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Return the projections of an original, with which many pictures are compared; 43 MB for 512×512 pixels."""
    return _projections(np.frombuffer(samples, np.uint8).reshape(shape))


def _projections(samples: Samples) -> tuple[torch.Tensor, ...]:
    """Return, for three levels, the patches' projections ``(1, 128, n)``, sorted."""
    generator = torch.Generator().manual_seed(0)
    picture = _to_tensor(samples)
    projections = []
    for _ in range(3):
        halved = functional.avg_pool2d(picture, 2)
        doubled = functional.interpolate(halved, size=picture.shape[2:], mode="bilinear", align_corners=False)
        directions = torch.randn(_PROJECTIONS, 3, _PATCH, _PATCH, generator=generator)
        directions /= directions.flatten(1).norm(dim=1)[:, None, None, None]
        projections.append(functional.conv2d(picture - doubled, directions, stride=2).flatten(2).sort(dim=2).values)
        picture = halved
    return tuple(projections)


def _laplacian_energy(samples: Samples) -> float:
    luma = samples @ _LUMA
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.mean((neighbours - 4 * luma[1:-1, 1:-1]) ** 2))


def _to_tensor(samples: Samples) -> torch.Tensor:
    return torch.tensor(samples).permute(2, 0, 1)[None].float()
