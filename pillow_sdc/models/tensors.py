"""Arrays to the tensors that a network takes, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def to_batch(array: NDArray[np.float32], network: Any) -> "torch.Tensor":
    """Return a batch of one on the network's device, in its dtype; a copy, for torch refuses read-only arrays."""
    import torch

    like: torch.Tensor = next(network.parameters())
    return torch.from_numpy(array[np.newaxis].astype(np.float32)).to(like.device, like.dtype)


def to_array(batch: "torch.Tensor") -> NDArray[np.float32]:
    """Return the only item of a batch."""
    array: NDArray[np.float32] = batch[0].float().cpu().numpy()
    return array
