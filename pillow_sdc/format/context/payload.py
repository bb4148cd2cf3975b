"""Latents to a payload of the codec ``context`` and back, for a given step."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps
from ...runtime.threads import single_threaded_blas
from ..codec import QuantisedLatents, check_latents
from . import stream as context_stream
from . import trellis
from .head import HEAD_BYTES, Head
from .stream import STEP_UNIT, EntropyModel, Symbols
from .weighting import shrunk, stretched
from .weights import network_arrays

LARGEST_LATENT = 32.0
"""Latents are clamped to this; those of photographs seldom exceed 6."""

_VARIANCE_LEFT = 13 / 16
"""Shrinking halves one of the four components of the noise, which otherwise is alike in all."""


def encode(latents: NDArray[np.float32], head: Head, steps: Steps = UNCOUNTED) -> bytes:
    """Return the payload, with a head, of latents ``(4, h, w)``; values outside ±32 are clamped.

    Raises:
        ValueError: The latents are not ``(4, h, w)`` with finite values.
    """
    return head.packed() + context_stream.write(quantise(latents, head), entropy_model(head), steps)


def reconstruct(latents: NDArray[np.float32], head: Head) -> QuantisedLatents:
    """Return what decoding gives back of latents ``(4, h, w)`` encoded with a head, in a fifth of the time."""
    return _as_encoded(*context_stream.reconstruct(quantise(latents, head), entropy_model(head)), head)


def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a payload.

    Raises:
        CorruptFileError: The payload is not one of this shape.
    """
    return _decode(payload, rows, columns, context_stream.read, steps)


def decode_truncated(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a payload's beginning; those that did not arrive are zero.

    Raises:
        CorruptFileError: The payload is not the beginning of one of this shape.
    """
    return _decode(payload, rows, columns, context_stream.read_truncated, steps)


def quantise(latents: NDArray[np.float32], head: Head) -> Symbols:
    """Return the symbols ``(4, h, w)`` of latents."""
    values = np.clip(check_latents(latents), -LARGEST_LATENT, LARGEST_LATENT)
    if head.stretched:
        values = stretched(values)
    width = head.step * STEP_UNIT
    if head.trellis:
        numbers = trellis.quantise(values, width / 2)
        return Symbols(numbers, trellis.values(numbers) - 2 * numbers)
    numbers = np.rint(values / width).astype(np.int64)
    return Symbols(numbers, np.zeros_like(numbers))


def entropy_model(head: Head) -> EntropyModel:
    """Return what the symbols of a payload are coded with.

    Raises:
        UnsupportedFileError: The head names a network that is unknown to this version.
    """
    return EntropyModel(network_arrays(head.network), head.step, stretched=head.stretched, trellis=head.trellis)


def _decode(
    payload: bytes,
    rows: int,
    columns: int,
    read: Callable[[bytes, int, int, EntropyModel, Steps], tuple[NDArray[np.float64], float]],
    steps: Steps,
) -> QuantisedLatents:
    head = Head.of(payload)
    model = entropy_model(head)
    with single_threaded_blas():
        latents, variance = read(payload[HEAD_BYTES:], rows, columns, model, steps)
    return _as_encoded(latents, variance, head)


def _as_encoded(latents: NDArray[np.float64], variance: float, head: Head) -> QuantisedLatents:
    """Return latents as they were given to the encoder, and the variance of their noise."""
    if head.stretched:
        latents, variance = shrunk(latents), variance * _VARIANCE_LEFT
    return QuantisedLatents(latents.astype(np.float32), variance)
