"""Arrays to the tensors that a network takes, and back.

An array of one picture has three dimensions, channels, rows and columns; those before them, if any, count pictures.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

PerPicture = float | NDArray[np.float64]
"""A number for all pictures, or one for each, shaped like the dimensions that count them."""


def to_tensor(array: NDArray[np.floating], network: Any) -> "torch.Tensor":
    """Return the array on the network's device, in its dtype; a copy, for torch refuses read-only arrays."""
    import torch

    like: torch.Tensor = next(network.parameters())
    return torch.from_numpy(array.astype(np.float32)).to(like.device, like.dtype)


def to_batch(array: NDArray[np.float32], network: Any) -> "torch.Tensor":
    """Return pictures ``(…, c, h, w)`` as the batch ``(n, c, h, w)`` that a network takes."""
    return to_tensor(array.reshape(-1, *array.shape[-3:]), network)


def to_array(batch: "torch.Tensor", shaped_like: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a batch ``(n, c, h, w)`` with the dimensions that count pictures in ``shaped_like``."""
    array: NDArray[np.float32] = batch.float().cpu().numpy()
    return array.reshape(*shaped_like.shape[:-3], *array.shape[1:])


def spread(value: PerPicture) -> NDArray[np.float32]:
    """Return a number for all or for each picture so that it can be multiplied with pictures ``(…, c, h, w)``."""
    return np.asarray(value, np.float32)[..., np.newaxis, np.newaxis, np.newaxis]


def for_each(value: PerPicture, pictures: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a number for each of the pictures ``(…, c, h, w)``, ``(n,)``."""
    return np.broadcast_to(np.asarray(value, np.float64), pictures.shape[:-3]).reshape(-1)
