"""Floyd–Steinberg dithering of vectors against a palette, along the wavefront.

Floyd and Steinberg (1976) visit pixels in raster order and hand each one's quantisation error on: 7/16 to the right,
3/16 below left, 5/16 below, 1/16 below right. So pixel (x, y) needs (x−1, y) and (x−1…x+1, y−1), and on the
*wavefront* t = x + 2y all it needs lies on the wavefronts t−1 to t−3: the pixels of one wavefront can be searched for
in one call and the indices are those of raster order.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps, steps_of
from ...runtime.threads import single_threaded_faiss

SEARCH_GRID = 4
"""Values are searched for on a grid of 1/4 level. There every product and sum of a squared distance is a multiple of
1/16 below 2¹⁸, exact in float32, so that ties fall the same way whatever order or batch faiss computes them in."""


def dither(
    values: NDArray[np.float64],
    palette: NDArray[np.uint8],
    strength: float,
    error_limit: float,
    steps: Steps = UNCOUNTED,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return each pixel's palette index, and the values that were searched for.

    Args:
        values: Levels 0 to 255, ``(h, w, 4)``.
        palette: At most 256 vectors, ``(k, 4)``.
        strength: Share of the error that is handed on, 0 (none: each pixel's nearest vector) to 1.
        error_limit: Largest error of a component, in levels, that is handed on. Where the palette is dense errors are
            small and all of them is diffused; an outlier's error, which no neighbour could make good, is not.
        steps: Learns of each part that is done, of ``steps_of(h)`` that are alike.

    Returns:
        Indices, uint8 ``(h, w)``, and the values with the errors received, float64 ``(h, w, 4)``.
    """
    height, width, channels = values.shape
    colours = palette.astype(np.float64)
    indices = np.empty(height * width, np.uint8)
    searched = values.reshape(-1, channels).copy()
    # Sixteenths of the errors that wavefronts t − 1, t − 2, t − 3 hand on, by row; the first row is above the picture.
    one, two, three = (np.zeros((height + 1, channels)) for _ in range(3))
    with single_threaded_faiss():
        nearest = faiss_search(palette)
        fronts, parts = width + 2 * (height - 1), steps_of(height)
        ends = {fronts * part // parts - 1 for part in range(1, parts + 1)}
        for t in range(fronts):
            top, bottom = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
            # In raster order, from one row's pixel to the next one's: a row on, two columns back.
            first, stride = top * width + t - 2 * top, max(width - 2, 1)
            front = slice(first, first + stride * (bottom - top) + 1, stride)
            own, above = slice(top + 1, bottom + 2), slice(top, bottom + 1)
            wanted = searched[front]
            wanted += three[above] + 5 * two[above] + 3 * one[above] + 7 * one[own]
            found = nearest(wanted)
            indices[front] = found
            one, two, three = three, one, two
            one.fill(0)
            error = wanted - colours[found]
            np.maximum(error, -error_limit, out=error)
            np.minimum(error, error_limit, out=error)
            one[own] = error * (strength / 16)
            if t in ends:
                steps.done()
    return indices.reshape(height, width), searched.reshape(values.shape)


def faiss_search(palette: NDArray[np.number]) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
    """Return the search for the index nearest to each of ``(n, 4)`` values; of equals, the first.

    Args:
        palette: ``(k, 4)``, on the grid of :data:`SEARCH_GRID`.
    """
    import faiss

    index = faiss.IndexFlatL2(palette.shape[1])
    index.add(palette.astype(np.float32))

    def nearest(values: NDArray[np.float64]) -> NDArray[np.int64]:
        queries = np.rint(values * SEARCH_GRID)
        queries *= 1 / SEARCH_GRID
        np.maximum(queries, 0, out=queries)  # np.clip takes as long as the search
        np.minimum(queries, 255, out=queries)
        found: NDArray[np.int64] = index.search(queries.astype(np.float32), 1)[1][:, 0]
        return found

    return nearest
