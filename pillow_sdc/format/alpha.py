"""Lossless coding of the alpha plane, and replacement of the colours that it hides, which would cost bytes.

Most alpha planes are cut-outs: opaque and transparent regions with a narrow edge between them. So a plane is stored as
a map of transparent, partial and opaque places, and the values of the partial ones, both compressed by LZMA.
``docs/format.md`` specifies the layout.
"""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError
from .bounded import compress_lzma, decompress_lzma

Samples = NDArray[np.uint8]

CONSTANT, RECTANGLE, BINARY, PARTIAL = range(4)
"""Kinds of planes, the first byte of the chunk."""

NONE, LEFT, GRADIENT, MEDIAN = range(4)
"""Predictors of partial values, the second byte of a chunk of the kind ``PARTIAL``."""

OPAQUE = 255

_RECTANGLE = struct.Struct("<BBHHHH")
_SQUARE = 8


def encode(alpha: Samples) -> bytes:
    """Return a plane ``(H, W)``, 0 transparent and 255 opaque, as the content of an alpha chunk.

    Raises:
        UnsupportedFileError: It needs LZMA, which this Python was built without.
    """
    outside = alpha[0, 0]
    ys, xs = (np.flatnonzero((alpha != outside).any(axis=axis)) for axis in (1, 0))
    if not len(ys):
        return bytes([CONSTANT, outside])
    top, bottom, left, right = ys[0], ys[-1] + 1, xs[0], xs[-1] + 1
    inside = alpha[top:bottom, left:right]
    if (inside == inside[0, 0]).all():
        return bytes([RECTANGLE]) + _RECTANGLE.pack(outside, inside[0, 0], left, top, right - left, bottom - top)
    partial = (alpha > 0) & (alpha < OPAQUE)
    if not partial.any():
        return bytes([BINARY]) + compress_lzma(np.packbits(alpha == OPAQUE, axis=1).tobytes())
    before = np.pad(alpha, ((1, 0), (1, 0)))
    neighbours = before[1:, :-1][partial], before[:-1, 1:][partial], before[:-1, :-1][partial]
    residuals = [(alpha[partial] - _predict(predictor, *neighbours)).tobytes() for predictor in range(4)]
    # Deflate ranks the predictors as LZMA does, in a fraction of the time.
    predictor = min(range(4), key=lambda predictor: len(zlib.compress(residuals[predictor])))
    packed = _pack_map(alpha, partial).tobytes()
    return bytes([PARTIAL, predictor]) + compress_lzma(packed) + compress_lzma(residuals[predictor])


def decode(data: bytes, width: int, height: int) -> Samples:
    """Return the plane ``(H, W)`` that the content of an alpha chunk encodes.

    Raises:
        CorruptFileError: The content is damaged.
        UnsupportedFileError: It needs LZMA, which this Python was built without.
    """
    kind, rest = data[:1], data[1:]
    if kind == bytes([CONSTANT]) and len(rest) == 1:
        return np.full((height, width), rest[0], np.uint8)
    if kind == bytes([RECTANGLE]) and len(rest) == _RECTANGLE.size:
        return _decode_rectangle(rest, width, height)
    if kind == bytes([BINARY]):
        packed, rest = decompress_lzma(rest, height * -(-width // 8))
        alpha = np.unpackbits(_rows(packed, height), axis=1, count=width) * np.uint8(OPAQUE)
    elif kind == bytes([PARTIAL]) and rest and rest[0] in (NONE, LEFT, GRADIENT, MEDIAN):
        packed, streams = decompress_lzma(rest[1:], height * -(-width // 4))
        alpha, rest = _decode_partial(rest[0], _unpack_map(_rows(packed, height), width), streams)
    else:
        raise CorruptFileError(f"alpha of {len(data)} bytes that begins with {data[:2].hex(' ') or 'nothing'}")
    if rest:
        raise CorruptFileError(f"{len(rest)} bytes follow the alpha plane")
    return alpha


def reduce(alpha: Samples, factor: int) -> Samples:
    """Return the rounded means of squares of ``factor`` by ``factor`` places; squares at the edges may be smaller."""
    sums, counts = _sums_of_squares(alpha, factor), _sums_of_squares(np.ones_like(alpha), factor)
    return ((sums + counts // 2) // counts).astype(np.uint8)


class ColourShown:
    """The colours of a picture, with those of fully transparent pixels replaced by ones that cost few bytes.

    In an 8×8 square (one latent) with visible pixels the replacement is their mean; in others it is the mean of all
    visible pixels of the picture.
    """

    def __init__(self, colour: Samples, alpha: Samples) -> None:
        """Take colours ``(H, W, c)`` and a plane ``(H, W)``."""
        self._colour, self._alpha = colour, alpha
        shown = np.minimum(alpha, 1)
        sums = np.stack([_sums_of_squares(shown * plane, _SQUARE) for plane in np.moveaxis(colour, 2, 0)], axis=2)
        counts = _sums_of_squares(shown, _SQUARE)[:, :, None]
        mean = sums.sum((0, 1)) / max(1, counts.sum())
        self._squares = np.where(counts > 0, sums / np.maximum(counts, 1), mean).round().astype(np.uint8)

    def __getitem__(self, part: tuple[slice, slice]) -> Samples:
        """Return a part whose slices start at multiples of 8."""
        colour, alpha = self._colour[part], self._alpha[part]
        y, x = (slice(s.start // _SQUARE, -(-s.stop // _SQUARE)) for s in part)
        squares = self._squares[y, x].repeat(_SQUARE, axis=0).repeat(_SQUARE, axis=1)
        return np.where(alpha[:, :, None] > 0, colour, squares[: alpha.shape[0], : alpha.shape[1]])


def _sums_of_squares(plane: Samples, side: int) -> NDArray[np.uint32]:
    """Return the sums of a plane's values in squares with a side; squares at the edges may be smaller."""
    rows, columns = (np.arange(0, length, side) for length in plane.shape)
    sums: NDArray[np.uint32] = np.add.reduceat(np.add.reduceat(plane, rows, 0, np.uint32), columns, 1)
    return sums


def _rows(data: bytes, height: int) -> Samples:
    return np.frombuffer(data, np.uint8).reshape(height, -1)


def _pack_map(alpha: Samples, partial: NDArray[np.bool_]) -> Samples:
    """Return 0 for transparent, 1 for partial and 2 for opaque places, four to a byte."""
    places = (alpha == OPAQUE) * np.uint8(2) + partial
    fours = np.pad(places, ((0, 0), (0, -places.shape[1] % 4))).reshape(len(places), -1, 4)
    packed: Samples = fours[..., 0] << 6 | fours[..., 1] << 4 | fours[..., 2] << 2 | fours[..., 3]
    return packed


def _unpack_map(packed: Samples, width: int) -> Samples:
    fours = (packed[:, :, None] >> np.array([6, 4, 2, 0], np.uint8)) & np.uint8(3)
    places = fours.reshape(len(packed), -1)[:, :width]
    if (places == 3).any():
        raise CorruptFileError("alpha's map has a place that is none of the three: transparent, partial, opaque")
    return places


def _decode_rectangle(data: bytes, width: int, height: int) -> Samples:
    outside, inside, left, top, columns, rows = _RECTANGLE.unpack(data)
    if not (columns and rows and left + columns <= width and top + rows <= height):
        raise CorruptFileError(f"alpha's rectangle of {columns}×{rows} at {left}, {top} is not within {width}×{height}")
    alpha = np.full((height, width), outside, np.uint8)
    alpha[top : top + rows, left : left + columns] = inside
    return alpha


def _decode_partial(predictor: int, places: Samples, streams: bytes) -> tuple[Samples, bytes]:
    """Return the plane decoded from a map and the stream of residuals, and the bytes after that stream."""
    height, width = places.shape
    partial = places == 1
    residuals, rest = decompress_lzma(streams, int(partial.sum()))
    # Places above and to the left of the picture count as transparent.
    inside = slice(1, None), slice(1, None)
    alpha, added = np.zeros((2, height + 1, width + 1), np.uint8)
    alpha[inside] = (places == 2) * np.uint8(OPAQUE)
    added[inside][partial] = np.frombuffer(residuals, np.uint8)
    here = np.pad(partial, ((1, 0), (1, 0)))
    flat, added, here = alpha.reshape(-1), added.reshape(-1), here.reshape(-1)
    # Places with equal x + y do not depend on each other. Each lies a row below and a column left of the one before.
    for diagonal in range(height + width - 1):
        first = max(0, diagonal - width + 1)
        start = (first + 1) * (width + 1) + diagonal - first + 1
        stop = start + min(height - first, diagonal - first + 1) * width

        def at(offset: int, start: int = start, stop: int = stop) -> slice:
            return slice(start - offset, stop - offset, width)

        if here[at(0)].any():
            predicted = _predict(predictor, flat[at(1)], flat[at(width + 1)], flat[at(width + 2)])
            np.copyto(flat[at(0)], predicted + added[at(0)], where=here[at(0)])
    values = alpha[inside][partial]
    if values.min(initial=1) == 0 or values.max(initial=1) == OPAQUE:
        raise CorruptFileError("a place that alpha's map calls partial is transparent or opaque")
    return alpha[inside], rest


def _predict(predictor: int, left: Samples, above: Samples, corner: Samples) -> Samples:
    """Return the predicted values, modulo 256; MEDIAN is the predictor of LOCO-I (Weinberger et al. 2000)."""
    if predictor == NONE:
        return np.zeros_like(left)
    if predictor == LEFT:
        return left
    gradient = left + above - corner
    if predictor == GRADIENT:
        return gradient
    low, high = np.minimum(left, above), np.maximum(left, above)
    return np.where(corner >= high, low, np.where(corner <= low, high, gradient))
