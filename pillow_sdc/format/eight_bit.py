"""The article's 8-bit quantiser of latents, used by the codecs ``uint8`` and ``palette``.

The article quantises *unscaled* latents z/0.18215 as ``clamp(z/(255·0.18215) + 0.5, 0, 1)·255``. On SD-scaled
latents, which are 0.18215 times as large, the same levels lie 0.18215² apart.
"""

import numpy as np
from numpy.typing import NDArray

from .codec import check_latents

SCALING_FACTOR = 0.18215
"""Stable Diffusion v1's ratio of SD-scaled to unscaled latents (Rombach et al. 2022, appendix G)."""

STEP = SCALING_FACTOR**2
"""Quantisation step: the distance of neighbouring levels, 0.0332 in SD-scaled latents, for a range of ±4.23."""

_LATENT_OF_LEVEL: NDArray[np.float32] = ((np.arange(256) - 127.5) * STEP).astype(np.float32)

ROUNDING_VARIANCE = STEP**2 / 12
"""Variance of the rounding error, in squared SD-scaled latents: 9.2e-5."""


def to_levels(latents: NDArray[np.float32]) -> NDArray[np.float64]:
    """Map SD-scaled latents ``(4, h, w)`` to levels 0 to 255, clamped but not yet rounded.

    Raises:
        ValueError: The latents are not ``(4, h, w)`` with h, w ≥ 1, or not finite.
    """
    levels: NDArray[np.float64] = np.clip(check_latents(latents) / STEP + 127.5, 0, 255)
    return levels


def round_levels(levels: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Round levels to integers, halves upwards, as the article's cast of x + 0.5 does."""
    return np.floor(levels + 0.5).astype(np.uint8)


def from_levels(levels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Map integer levels to SD-scaled latents; every operation is exactly specified by IEEE 754."""
    return _LATENT_OF_LEVEL[levels]
