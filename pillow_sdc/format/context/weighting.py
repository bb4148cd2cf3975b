"""A stretch of latent space along the direction that pictures depend on most, so that quantisation spares it.

Noise along :data:`DIRECTION` changes a decoded picture's pixels between three and five times as much as noise of the
same variance across it. Where latents are stretched twofold before they are quantised with one step for all, and shrunk
afterwards, that direction gets a quarter of the noise variance of the others. By classical theory the best ratio of
variances is the inverse of the sensitivities' (Cover and Thomas 2006, section 10.3.3).
"""

import numpy as np
from numpy.typing import NDArray

DIRECTION = (-4, -2, -2, 5)
"""Sevenths of a vector of length one."""

_SQUARED_LENGTH = 49


def stretched(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return latents ``(4, h, w)``, twice as far from zero along the direction."""
    return _added(latents, 1 / _SQUARED_LENGTH)


def shrunk(latents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo :func:`stretched`, the same on every machine."""
    return _added(latents, -0.5 / _SQUARED_LENGTH)


def _added(latents: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    # One operation at a time, for sums of whole arrays are rounded in an order that depends on the machine.
    along = DIRECTION[0] * latents[0]
    for component, channel in zip(DIRECTION[1:], latents[1:], strict=True):
        along = along + component * channel
    along = along * share
    return np.stack([channel + component * along for component, channel in zip(DIRECTION, latents, strict=True)])
