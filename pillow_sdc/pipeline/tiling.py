"""Pictures of any size in bounded memory: overlapping tiles, blended where they overlap, a band of rows at a time."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..progress import UNCOUNTED, Steps


class Span(NamedTuple):
    """One tile's extent along one axis, and the weight of each of its elements; all tiles' weights sum to one."""

    start: int
    stop: int
    weights: NDArray[np.float32]


TileFunction = Callable[[slice, slice], NDArray[np.float32]]
"""From a tile's rows and columns to its values ``(…, rows · scale, columns · scale)``."""


def split(length: int, tile: int, overlap: int, scale: int = 1) -> list[Span]:
    """Cover an axis with as few tiles as possible, evenly spread and of equal length.

    Args:
        length: Elements along the axis.
        tile: Greatest length of a tile; an axis no longer than that is one tile.
        overlap: Least number of elements that neighbours share, less than ``tile``.
        scale: Weights are given for ``scale`` times as many elements.

    Returns:
        Spans with starts and stops in elements, and weights that rise and fall linearly over ``overlap · scale``.
    """
    if length <= tile:
        return [Span(0, length, np.ones(length * scale, np.float32))]
    count = -(-(length - overlap) // (tile - overlap))
    tile = -(-(length + (count - 1) * overlap) // count)  # no longer than so many tiles need to be
    starts = [round(i * (length - tile) / (count - 1)) for i in range(count)]
    rising = np.minimum(np.arange(1, tile * scale + 1) / (overlap * scale + 1), 1)
    window = np.minimum(rising, rising[::-1])
    total = np.zeros(length * scale)
    for start in starts:
        total[start * scale : (start + tile) * scale] += window
    return [
        Span(start, start + tile, (window / total[start * scale : (start + tile) * scale]).astype(np.float32))
        for start in starts
    ]


def count(height: int, width: int, *, tile: int, overlap: int) -> int:
    """Return how many tiles :func:`blend` computes."""
    return len(split(height, tile, overlap)) * len(split(width, tile, overlap))


def blend(
    height: int,
    width: int,
    function: TileFunction,
    *,
    tile: int,
    overlap: int,
    scale: int = 1,
    steps: Steps = UNCOUNTED,
) -> Iterator[NDArray[np.float32]]:
    """Compute an array tile by tile and yield it in bands of finished rows, top to bottom.

    Args:
        height: Rows of the array, in elements of ``function``'s slices.
        width: Columns, likewise.
        function: What computes a tile.
        tile: Side of a tile, as in :func:`split`.
        overlap: Least overlap of neighbours, as in :func:`split`.
        scale: Size of the results over that of the slices.
        steps: Learns of each tile that is done.

    Yields:
        float32 ``(…, n, width · scale)``; the n add up to ``height · scale``.
    """
    rows, columns = split(height, tile, overlap, scale), split(width, tile, overlap, scale)
    unfinished: NDArray[np.float32] | None = None
    for i, row in enumerate(rows):
        band: NDArray[np.float32] | None = None
        for column in columns:
            part = function(slice(row.start, row.stop), slice(column.start, column.stop))
            if band is None:
                band = np.zeros((*part.shape[:-1], width * scale), np.float32)
            weights = row.weights[:, None] * column.weights
            band[..., column.start * scale : column.stop * scale] += part * weights
            steps.done()
        assert band is not None  # noqa: S101 - an axis has at least one tile
        if unfinished is not None:
            band[..., : unfinished.shape[-2], :] += unfinished
        finished = (rows[i + 1].start if i + 1 < len(rows) else height) - row.start
        yield band[..., : finished * scale, :]
        unfinished = band[..., finished * scale :, :]
