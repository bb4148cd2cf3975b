"""Floyd–Steinberg error diffusion of vectors onto a palette, along diagonals (wavefronts).

Floyd and Steinberg (1976) visit places in raster order and diffuse the quantisation error of each: 7/16 to the right,
3/16 below left, 5/16 below, 1/16 below right. So place (x, y) depends on (x−1, y) and on (x−1…x+1, y−1). All of these
lie on the wavefronts t−1 to t−3, where t = x + 2y. The places of one wavefront therefore do not depend on each other:
one call of faiss finds the nearest entries of all of them, and the indices are those of raster order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps, steps_of

SEARCH_GRID = 4
"""Grid points per level to which values are rounded for the search. On it every product and sum of a squared distance
is a multiple of 1/16 below 2¹⁸, exact in float32, so that ties break the same way in whatever order and batches faiss
computes."""


def dither(
    values: NDArray[np.float64],
    palette: NDArray[np.uint8],
    strength: float,
    error_limit: float,
    steps: Steps = UNCOUNTED,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the palette index of each place, and the values that were quantised.

    Args:
        values: Levels 0 to 255, ``(h, w, 4)``.
        palette: At most 256 vectors, ``(k, 4)``.
        strength: Fraction of the error that is diffused, 0 (none: plain nearest neighbours) to 1.
        error_limit: Largest error of a component, in levels, that is diffused; larger ones are clamped, because
            neighbours cannot compensate for an outlier's error.
        steps: Counts progress in ``steps_of(h)`` equal parts.

    Returns:
        Indices, uint8 ``(h, w)``, and the values with the errors diffused to them, float64 ``(h, w, 4)``.
    """
    height, width, channels = values.shape
    colours = palette.astype(np.float64)
    indices = np.empty(height * width, np.uint8)
    searched = values.reshape(-1, channels).copy()
    # Sixteenths of the errors of the wavefronts t − 1, t − 2 and t − 3, by row; the first row is above the picture.
    one, two, three = (np.zeros((height + 1, channels)) for _ in range(3))
    with single_threaded_faiss():
        nearest = faiss_search(palette)
        fronts, parts = width + 2 * (height - 1), steps_of(height)
        ends = {fronts * part // parts - 1 for part in range(1, parts + 1)}
        for t in range(fronts):
            top, bottom = max(0, (t - width + 2) // 2), min(height - 1, t // 2)
            # Along the wavefront, each place lies a row below and two columns left of the one before.
            first, stride = top * width + t - 2 * top, max(width - 2, 1)
            front = slice(first, first + stride * (bottom - top) + 1, stride)
            own, above = slice(top + 1, bottom + 2), slice(top, bottom + 1)
            diffused = searched[front]
            diffused += three[above] + 5 * two[above] + 3 * one[above] + 7 * one[own]
            chosen = nearest(diffused)
            indices[front] = chosen
            one, two, three = three, one, two
            one.fill(0)
            error = diffused - colours[chosen]
            np.maximum(error, -error_limit, out=error)
            np.minimum(error, error_limit, out=error)
            one[own] = error * (strength / 16)
            if t in ends:
                steps.done()
    return indices.reshape(height, width), searched.reshape(values.shape)


def faiss_search(palette: NDArray[np.number]) -> Callable[[NDArray[np.float64]], NDArray[np.int64]]:
    """Return a function that finds the index of the nearest entry for each of ``(n, 4)`` values; of equals, the first.

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
        indices: NDArray[np.int64] = index.search(queries.astype(np.float32), 1)[1][:, 0]
        return indices

    return nearest


@contextmanager
def single_threaded_faiss() -> Iterator[None]:
    """Keep faiss to the calling thread: for so few vectors, waking others takes longer than the search.

    The number of OpenMP threads is a setting of each thread, so others are not disturbed.
    """
    import faiss

    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
