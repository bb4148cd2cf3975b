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
from .stream import STEP_UNIT, EntropyModel, SymbolPlanes
from .weighting import from_weighted, to_weighted
from .weights import network_arrays

MAX_LATENT = 32.0
"""Largest magnitude of a latent; larger ones are clamped. Those of photographs seldom exceed 6."""

_WEIGHTED_VARIANCE_FACTOR = 13 / 16
"""Noise variance after inverse weighting over that before: one of four equal components falls to a quarter."""


def encode(latents: NDArray[np.float32], head: Head, steps: Steps = UNCOUNTED) -> bytes:
    """Return the payload of latents ``(4, h, w)`` with the parameters of a head; values outside ±32 are clamped.

    Raises:
        ValueError: The latents are not ``(4, h, w)`` with finite values.
    """
    return head.packed() + context_stream.write(quantise(latents, head), entropy_model(head), steps)


def reconstruct(latents: NDArray[np.float32], head: Head) -> QuantisedLatents:
    """Return the result of encoding and decoding latents ``(4, h, w)`` with a head, in a fifth of the time."""
    return _unweighted(*context_stream.reconstruct(quantise(latents, head), entropy_model(head)), head)


def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a payload.

    Raises:
        CorruptFileError: The payload is not valid for this shape.
    """
    return _decode(payload, rows, columns, context_stream.read, steps)


def decode_truncated(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a truncated payload; the missing ones are zero.

    Raises:
        CorruptFileError: The payload is not the beginning of a valid one for this shape.
    """
    return _decode(payload, rows, columns, context_stream.read_truncated, steps)


def quantise(latents: NDArray[np.float32], head: Head) -> SymbolPlanes:
    """Return the symbols ``(4, h, w)`` of latents."""
    values = np.clip(check_latents(latents), -MAX_LATENT, MAX_LATENT)
    if head.weighted:
        values = to_weighted(values)
    step = head.step * STEP_UNIT
    if head.trellis:
        symbols = trellis.quantise(values, step / 2)
        return SymbolPlanes(symbols, trellis.values(symbols) - 2 * symbols)
    symbols = np.rint(values / step).astype(np.int64)
    return SymbolPlanes(symbols, np.zeros_like(symbols))


def entropy_model(head: Head) -> EntropyModel:
    """Return the entropy model of the symbols of a payload.

    Raises:
        UnsupportedFileError: The head names a network that is unknown to this version.
    """
    return EntropyModel(network_arrays(head.network), head.step, weighted=head.weighted, trellis=head.trellis)


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
    return _unweighted(latents, variance, head)


def _unweighted(latents: NDArray[np.float64], variance: float, head: Head) -> QuantisedLatents:
    """Return latents and noise variance without the weighting, if there was any."""
    if head.weighted:
        latents, variance = from_weighted(latents), variance * _WEIGHTED_VARIANCE_FACTOR
    return QuantisedLatents(latents.astype(np.float32), variance)
