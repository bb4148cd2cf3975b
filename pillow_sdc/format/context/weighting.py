"""Perceptual weighting: latents scaled along the direction to which the decoder is most sensitive.

Noise along :data:`DIRECTION` changes a decoded picture's pixels three to five times as much as noise of the same
variance in the other directions. So latents are doubled along it before quantisation with a uniform step, and halved
after dequantisation: that direction then has a quarter of the noise variance of the others. In theory, noise variances
should be inversely proportional to the sensitivities (reverse water-filling; Cover and Thomas 2006, section 10.3.3).
"""

import numpy as np
from numpy.typing import NDArray

DIRECTION = (-4, -2, -2, 5)
"""The direction, by latent channel, as a vector of length 7."""

_SQUARED_LENGTH = 49


def to_weighted(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return latents ``(4, h, w)`` with their component along the direction doubled."""
    return _with_projection_added(latents, 1 / _SQUARED_LENGTH)


def from_weighted(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert :func:`to_weighted`, with the same result on every machine."""
    return _with_projection_added(latents, -0.5 / _SQUARED_LENGTH)


def _with_projection_added(latents: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    # One operation at a time: how numpy orders the sum over an axis, and so rounds it, depends on the machine.
    along = DIRECTION[0] * latents[0]
    for component, channel in zip(DIRECTION[1:], latents[1:], strict=True):
        along = along + component * channel
    along = along * factor
    return np.stack([channel + component * along for component, channel in zip(DIRECTION, latents, strict=True)])
