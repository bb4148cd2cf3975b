"""Palette and indices to a payload and back.

The payload is a byte with the number of palette entries minus one, a byte of flags, a deflate stream of the palette
(plane by plane, delta-coded), and a deflate stream of the indices in raster order.
"""

import numpy as np
from numpy.typing import NDArray

from ...errors import CorruptFileError, TruncatedFileError
from ..bounded import deflate, inflate, inflate_truncated
from ..codec import QuantisedLatents
from ..eight_bit import ROUNDING_VARIANCE, STEP, from_levels
from .design import shortest_path

_EXACT = 0x01
"""Flag: the palette holds every 8-bit latent of the picture, so the noise is that of rounding alone."""

_NEIGHBOURS = 4
_NOISE_PER_SQUARED_DISTANCE = 0.093
"""Ratio of the noise variance to the mean squared distance of an entry to its four nearest entries. For cubic cells it
would be 1/12. On photographs, dithered or not, the estimate is 0.93 to 1.13 times the true variance for 64 and 256
entries, 0.91 to 1.42 times for 16 (benchmarks/noise_variance.py)."""


def write(palette: NDArray[np.uint8], indices: NDArray[np.integer], *, exact: bool) -> bytes:
    """Return the payload of a palette ``(entries, 4)``, which is sorted here, and of indices ``(h, w)`` into it."""
    order = shortest_path(palette)
    differences = np.diff(palette[order], axis=0, prepend=np.zeros((1, 4), np.uint8))
    rank = np.argsort(order).astype(np.uint8)
    head = bytes([len(palette) - 1, _EXACT if exact else 0])
    return head + deflate(differences.T.tobytes()) + deflate(rank[indices].tobytes())


def read(payload: bytes, rows: int, columns: int) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a payload.

    Raises:
        CorruptFileError: The payload is not valid for this shape.
    """
    palette, exact, stream = read_palette(payload)
    raster, rest = inflate(stream, rows * columns)
    if rest:
        raise CorruptFileError(f"payload has {len(rest)} bytes after its end")
    indices = np.frombuffer(raster, np.uint8)
    return _quantised(palette, indices, exact=exact, rows=rows, columns=columns)


def read_truncated(payload: bytes, rows: int, columns: int) -> QuantisedLatents:
    """Return the latents ``(4, rows, columns)`` of a truncated payload; the missing ones are zero.

    Raises:
        CorruptFileError: The payload is not the beginning of a valid one for this shape.
        TruncatedFileError: The payload ends before its first index.
    """
    palette, exact, stream = read_palette(payload)
    indices = np.frombuffer(inflate_truncated(stream, rows * columns), np.uint8)
    if not len(indices):
        raise TruncatedFileError("the payload ends before its first index")
    return _quantised(palette, indices, exact=exact, rows=rows, columns=columns)


def entries(payload: bytes) -> int:
    """Return the number of entries of a payload's palette."""
    return payload[0] + 1


def is_exact(payload: bytes) -> bool:
    """Return whether the palette holds every 8-bit latent of the picture."""
    return bool(payload[1] & _EXACT)


def read_palette(payload: bytes) -> tuple[NDArray[np.uint8], bool, bytes]:
    """Return the palette ``(entries, 4)``, whether it is exact, and the stream of indices."""
    if len(payload) < 2:
        raise CorruptFileError(f"payload of {len(payload)} bytes is too short for a palette")
    count, flags = entries(payload), payload[1]
    if flags & ~_EXACT:
        raise CorruptFileError(f"palette flags {flags:#04x} are unknown")
    planes, stream = inflate(payload[2:], 4 * count)
    differences = np.frombuffer(planes, np.uint8).reshape(4, count).T
    return np.cumsum(differences, axis=0, dtype=np.uint8), bool(flags & _EXACT), stream


def _quantised(
    palette: NDArray[np.uint8], indices: NDArray[np.uint8], *, exact: bool, rows: int, columns: int
) -> QuantisedLatents:
    """Return the latents of a palette and the first indices, row by row; latents without an index are zero."""
    if int(indices.max()) >= len(palette):
        raise CorruptFileError(f"index {indices.max()} is outside the palette of {len(palette)} entries")
    latents = np.zeros((4, rows * columns), np.float32)
    latents[:, : len(indices)] = from_levels(palette).T[:, indices]
    noise_variance = ROUNDING_VARIANCE if exact else _noise_variance(palette, indices)
    return QuantisedLatents(latents.reshape(4, rows, columns), noise_variance)


def _noise_variance(palette: NDArray[np.uint8], indices: NDArray[np.uint8]) -> float:
    """Estimate the noise from the distances between palette entries.

    An entry is the mean of the values quantised to it, and the mean of n values is nearer to them by (n − 1)/n.
    """
    levels = palette.astype(np.int64)
    squared = np.sort(((levels[:, None] - levels[None]) ** 2).sum(axis=2), axis=1)
    neighbours = squared[:, 1 : 1 + _NEIGHBOURS]
    if not neighbours.size:
        return ROUNDING_VARIANCE
    uses = np.bincount(indices, minlength=len(palette))
    spread = float((np.maximum(uses - 1, 0) * neighbours.mean(axis=1)).sum() / uses.sum())
    return max(ROUNDING_VARIANCE, _NOISE_PER_SQUARED_DISTANCE * spread * STEP**2)
