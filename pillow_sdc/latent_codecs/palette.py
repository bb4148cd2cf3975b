"""Codec ``palette``: the article's codec, a palette of 256 latents and dithered indices, under 4.9 kB for 512×512.

The payload: a byte with the number of palette entries less one; a byte of flags; a deflate stream of the palette,
plane by plane, each value as its difference to the one before; a deflate stream of the indices in raster order.
"""

from dataclasses import dataclass
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..deflate import deflate, inflate, inflate_truncated
from ..errors import CorruptFileError, OptionError, TruncatedFileError
from ..progress import UNCOUNTED, Steps, steps_of
from .eight_bit import ROUNDING_VARIANCE, STEP, from_levels, to_levels
from .interfaces import QuantisedLatents
from .palette_design import PASSES, design_palette, shortest_path

MIN_PALETTE_SIZE = 2
MAX_PALETTE_SIZE = 256

_EXACT = 0x01
"""Flag: the palette holds every 8-bit latent of the picture, so that its cells are no measure of the noise."""

_NEIGHBOURS = 4
_NOISE_PER_SQUARED_DISTANCE = 0.093
"""Noise variance over the mean squared distance of an entry to its nearest four; for cubic cells, whose neighbours are
one step away, it would be 1/12. On photographs, dithered or not, the estimate is between 0.93 and 1.13 times the truth
for 64 and 256 entries, between 0.91 and 1.42 times for 16 (benchmarks/noise_variance.py)."""


@dataclass(frozen=True)
class PaletteCodec:
    """Latents as indices into a palette of their own, dithered by Floyd and Steinberg's error diffusion.

    Attributes:
        palette_size: Largest number of palette entries, 2 to 256.
        dither: Share of the quantisation error handed on to neighbours, 0 to 1.
    """

    name: ClassVar[str] = "palette"

    palette_size: int = MAX_PALETTE_SIZE
    dither: float = 1.0

    def __post_init__(self) -> None:
        size, strength = self.palette_size, self.dither
        if not isinstance(size, Integral) or not MIN_PALETTE_SIZE <= size <= MAX_PALETTE_SIZE:
            raise OptionError(
                f"palette_size is {size!r}; it must be a whole number from {MIN_PALETTE_SIZE} to {MAX_PALETTE_SIZE}"
            )
        if not isinstance(strength, Real) or not 0 <= strength <= 1:
            raise OptionError(f"dither is {strength!r}; it must be a number from 0 to 1")

    def encode(self, latents: NDArray[np.float32], steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``; values outside ±4.23 are clamped."""
        values = np.moveaxis(to_levels(latents), 0, 2)
        palette, indices, exact = design_palette(values, self.palette_size, self.dither, steps)
        order = shortest_path(palette)
        differences = np.diff(palette[order], axis=0, prepend=np.zeros((1, 4), np.uint8))
        rank = np.argsort(order).astype(np.uint8)
        head = bytes([len(palette) - 1, _EXACT if exact else 0])
        return head + deflate(differences.T.tobytes()) + deflate(rank[indices].tobytes())

    def is_met_by(self, payload: bytes) -> bool:
        """Tell whether a payload's palette has no more entries than it may; whether it was dithered does not matter."""
        return _entries(payload) <= self.palette_size

    def encode_steps(self, rows: int) -> int:
        """Return how many bands there are in all passes of dithering."""
        return PASSES * steps_of(rows)

    @staticmethod
    def decode_steps(rows: int) -> int:
        """Return 0: it is done at once."""
        return 0

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload."""
        palette, exact, stream = read_palette(payload)
        raster, rest = inflate(stream, rows * columns)
        if rest:
            raise CorruptFileError(f"payload has {len(rest)} bytes after its end")
        indices = np.frombuffer(raster, np.uint8)
        return _quantised(palette, indices, exact=exact, rows=rows, columns=columns)

    @staticmethod
    def decode_truncated(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload's beginning; those that did not arrive are zero."""
        palette, exact, stream = read_palette(payload)
        indices = np.frombuffer(inflate_truncated(stream, rows * columns), np.uint8)
        if not len(indices):
            raise TruncatedFileError("the payload ends before its first index")
        return _quantised(palette, indices, exact=exact, rows=rows, columns=columns)


def read_palette(payload: bytes) -> tuple[NDArray[np.uint8], bool, bytes]:
    """Return the palette ``(entries, 4)``, whether it is exact, and the stream of indices."""
    if len(payload) < 2:
        raise CorruptFileError(f"payload of {len(payload)} bytes is too short for a palette")
    count, flags = _entries(payload), payload[1]
    if flags & ~_EXACT:
        raise CorruptFileError(f"palette flags {flags:#04x} are unknown")
    planes, stream = inflate(payload[2:], 4 * count)
    differences = np.frombuffer(planes, np.uint8).reshape(4, count).T
    return np.cumsum(differences, axis=0, dtype=np.uint8), bool(flags & _EXACT), stream


def _entries(payload: bytes) -> int:
    return payload[0] + 1


def _quantised(
    palette: NDArray[np.uint8], indices: NDArray[np.uint8], *, exact: bool, rows: int, columns: int
) -> QuantisedLatents:
    """Return the latents of a palette and the first indices, row by row; without an index they are zero."""
    if int(indices.max()) >= len(palette):
        raise CorruptFileError(f"index {indices.max()} is outside the palette of {len(palette)} entries")
    latents = np.zeros((4, rows * columns), np.float32)
    latents[:, : len(indices)] = from_levels(palette).T[:, indices]
    noise_variance = ROUNDING_VARIANCE if exact else _noise_variance(palette, indices)
    return QuantisedLatents(latents.reshape(4, rows, columns), noise_variance)


def _noise_variance(palette: NDArray[np.uint8], indices: NDArray[np.uint8]) -> float:
    """Estimate the noise from the distances between palette entries.

    Entries are the means of what they stand for; the mean of n values lies closer to them by the factor (n − 1)/n.
    """
    entries = palette.astype(np.int64)
    squared = np.sort(((entries[:, None] - entries[None]) ** 2).sum(axis=2), axis=1)
    neighbours = squared[:, 1 : 1 + _NEIGHBOURS]
    if not neighbours.size:
        return ROUNDING_VARIANCE
    uses = np.bincount(indices, minlength=len(palette))
    spread = float((np.maximum(uses - 1, 0) * neighbours.mean(axis=1)).sum() / uses.sum())
    return max(ROUNDING_VARIANCE, _NOISE_PER_SQUARED_DISTANCE * spread * STEP**2)
