"""Codec ``uint8``: the article's first step, 8 bits per latent channel and deflate, about 13 kB for 512×512.

The payload is four raw deflate streams of prediction residuals, one for each channel, because the channels have
different distributions. Latents are nearly white: a quarter of the sum of the left and the upper neighbour is about all
that can be predicted, and saves 3 %.
"""

from typing import TYPE_CHECKING, Any

from ..errors import CorruptFileError
from ..progress import UNCOUNTED, Steps
from .bounded import deflate, inflate
from .codec import LatentCodec, QuantisedLatents

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ZERO_LEVEL = 128
"""Level of latents next to zero, and of those outside the picture in predictions."""


class Uint8Codec(LatentCodec):
    """Latents rounded to 256 levels, 0.0332 apart."""

    number = 1
    name = "uint8"
    help = "8 bits a latent, nearly lossless on latents"

    def encode(self, latents: "NDArray[np.float32]", steps: Steps = UNCOUNTED) -> bytes:
        """Return the payload of latents ``(4, h, w)``; values outside ±4.23 are clamped."""
        from .eight_bit import round_levels, to_levels

        residuals = _residuals(round_levels(to_levels(latents)))
        return b"".join(deflate(plane.tobytes()) for plane in residuals)

    @staticmethod
    def decode(payload: bytes, rows: int, columns: int, steps: Steps = UNCOUNTED) -> QuantisedLatents:
        """Return the latents ``(4, rows, columns)`` of a payload."""
        import numpy as np

        from .eight_bit import ROUNDING_VARIANCE, from_levels

        planes, rest = [], payload
        for _ in range(4):
            plane, rest = inflate(rest, rows * columns)
            planes.append(np.frombuffer(plane, np.uint8).reshape(rows, columns))
        if rest:
            raise CorruptFileError(f"payload has {len(rest)} bytes after its end")
        return QuantisedLatents(from_levels(_levels(np.stack(planes))), ROUNDING_VARIANCE)

    @staticmethod
    def describe(payload: bytes) -> dict[str, Any]:
        """Return the quantisation step, the same for all payloads."""
        from .eight_bit import STEP

        return {"step": STEP}


def _predict(left: "NDArray[np.int16]", up: "NDArray[np.int16]") -> "NDArray[np.int16]":
    return (left + up) >> 2


def _residuals(levels: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Return levels ``(4, h, w)`` minus their predictions, modulo 256."""
    import numpy as np

    centred = np.pad(levels.astype(np.int16) - _ZERO_LEVEL, ((0, 0), (1, 0), (1, 0)))
    here, left, up = centred[:, 1:, 1:], centred[:, 1:, :-1], centred[:, :-1, 1:]
    return (here - _predict(left, up)).astype(np.uint8)


def _levels(residuals: "NDArray[np.uint8]") -> "NDArray[np.uint8]":
    """Invert :func:`_residuals` along wavefronts: latents of one anti-diagonal x + y do not depend on each other."""
    import numpy as np

    channels, height, width = residuals.shape
    centred = np.zeros((channels, height + 1, width + 1), np.int16)
    for diagonal in range(height + width - 1):
        rows = np.arange(max(0, diagonal - width + 1), min(height, diagonal + 1))
        columns = diagonal - rows
        prediction = _predict(centred[:, rows + 1, columns], centred[:, rows, columns + 1])
        level = (residuals[:, rows, columns] + prediction + _ZERO_LEVEL).astype(np.uint8)
        centred[:, rows + 1, columns + 1] = level.astype(np.int16) - _ZERO_LEVEL
    return (centred[:, 1:, 1:] + _ZERO_LEVEL).astype(np.uint8)
