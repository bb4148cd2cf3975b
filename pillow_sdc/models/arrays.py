"""Arrays of one picture or of several: ``(c, h, w)``, with dimensions before these that count pictures."""

import numpy as np
from numpy.typing import NDArray

PerPicture = float | NDArray[np.float64]
"""A number for all pictures, or one for each, shaped like the dimensions that count them."""


def pictures_of(array: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return pictures ``(…, c, h, w)`` as one batch ``(n, c, h, w)``, contiguous float32."""
    return np.ascontiguousarray(array.reshape(-1, *array.shape[-3:]), np.float32)


def spread(value: PerPicture) -> NDArray[np.float32]:
    """Return a number for all or for each picture so that it can be multiplied with pictures ``(…, c, h, w)``."""
    return np.asarray(value, np.float32)[..., np.newaxis, np.newaxis, np.newaxis]


def for_each(value: PerPicture, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a number for each of the pictures ``(…, c, h, w)``, ``(n,)``."""
    return np.broadcast_to(np.asarray(value, np.float64), pictures.shape[:-3]).reshape(-1)
