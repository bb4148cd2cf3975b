"""Arrays of pictures (:mod:`.arrays`) to the tensors that a network takes, and back."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def to_tensor(array: NDArray[np.floating], network: Any, dtype: "torch.dtype | None" = None) -> "torch.Tensor":
    """Return the array on the network's device, contiguous, in the network's dtype or another.

    It is a copy, for torch refuses read-only arrays. On its way to CUDA it is float32 in pinned memory, whence the GPU
    fetches it by itself: halving the bytes would cost the CPU more time than the bus.
    """
    import torch

    like: torch.Tensor = next(network.parameters())
    dtype = dtype or like.dtype
    if not like.is_cuda:
        return torch.from_numpy(array.astype(np.float32, order="C")).to(like.device, dtype)
    pinned = torch.empty(array.shape, dtype=torch.float32, pin_memory=True)
    np.copyto(pinned.numpy(), array, casting="same_kind")
    return pinned.to(like.device, non_blocking=True).to(dtype)


def to_batch(array: NDArray[np.float32], network: Any) -> "torch.Tensor":
    """Return pictures ``(…, c, h, w)`` as the batch ``(n, c, h, w)`` that a network takes."""
    return to_tensor(array.reshape(-1, *array.shape[-3:]), network)


def to_array(batch: "torch.Tensor", shaped_like: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a batch ``(n, c, h, w)`` with the dimensions that count pictures in ``shaped_like``."""
    array: NDArray[np.float32] = _to_host(batch.float()).numpy()
    return array.reshape(*shaped_like.shape[:-3], *array.shape[1:])


def _to_host(tensor: "torch.Tensor") -> "torch.Tensor":
    """Return the tensor in the CPU's memory; from CUDA by way of pinned memory, with this thread asleep meanwhile."""
    import torch

    if not tensor.is_cuda:
        return tensor.cpu()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    pinned.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
    torch.cuda.current_stream(tensor.device).record_event(arrived).synchronize()
    return pinned
