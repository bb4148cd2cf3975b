"""Palette design: clustering of the picture's latents, refinement while dithering, and an order that codes well."""

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps
from ...runtime.threads import single_threaded_faiss
from ..eight_bit import round_levels
from .dithering import SEARCH_GRID, dither, faiss_search

_MAX_VECTORS = 1 << 16
"""Largest number of vectors that are clustered; larger pictures are subsampled evenly."""
_KMEANS_ROUNDS = 1024
"""Number of k-means iterations times the number of entries. For 256 entries four more iterations would reduce the error
by 1 % and take a fifth more time."""
_REFINEMENTS = 3
PASSES = 1 + _REFINEMENTS
"""Number of times a picture is dithered."""
_ERROR_LIMIT = 0.75
"""Largest diffused error of a component, in root mean square errors of the palette without dithering. Larger errors
cannot be compensated by neighbours: without a limit the error of photographs' latents grows by a quarter."""


def design_palette(
    values: NDArray[np.float64], size: int, strength: float, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
    """Return a palette for a picture's latents and the dithered indices into it.

    With dithering, the values that are quantised are the latents plus the errors diffused to them. So the palette is
    refined a few times: its entries move to the means of the values quantised to them, and the picture is dithered
    again.

    Args:
        values: Levels 0 to 255, not rounded, ``(h, w, 4)``.
        size: Largest number of palette entries, 1 to 256.
        strength: Fraction of the error that is diffused, 0 to 1.
        steps: Counts the progress of dithering.

    Returns:
        The palette, uint8 ``(k, 4)``, with k ≤ ``size`` and every entry in use; indices, uint8 ``(h, w)``; and whether
        the palette is exact: it holds every rounded latent of the picture, so that only rounding loses information.
    """
    rounded = round_levels(values)
    distinct, inverse = np.unique(rounded.reshape(-1, rounded.shape[2]), axis=0, return_inverse=True)
    if len(distinct) <= size:
        return distinct, inverse.reshape(rounded.shape[:2]).astype(np.uint8), True
    palette = np.unique(round_levels(_clusters(rounded.reshape(-1, rounded.shape[2]), size)), axis=0)
    error_limit = _ERROR_LIMIT * _root_mean_square_error(values, palette)
    indices, searched = dither(values, palette, strength, error_limit, steps)
    for _ in range(_REFINEMENTS):
        palette = np.unique(round_levels(np.clip(_means(searched, indices, palette), 0, 255)), axis=0)
        indices, searched = dither(values, palette, strength, error_limit, steps)
    used, inverse = np.unique(indices, return_inverse=True)
    return palette[used], inverse.reshape(indices.shape).astype(np.uint8), False


def shortest_path(palette: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return an order of the palette in which consecutive entries are similar, so that their differences code well.

    A nearest-neighbour path through all entries, improved by reversing sections of it (2-opt; Croes 1958): the best
    reversals first, and as many at once as do not overlap. Lengths are sums of absolute differences.
    """
    entries = palette.astype(np.int32)
    lengths = np.abs(entries[:, None] - entries[None]).sum(axis=2)
    count = len(entries)
    path = [int(entries.sum(axis=1).argmin())]
    left = np.ones(count, bool)
    left[path[0]] = False
    while len(path) < count:
        path.append(int(np.where(left, lengths[path[-1]], np.iinfo(np.int64).max).argmin()))
        left[path[-1]] = False
    order = np.array(path)
    while count > 3:
        along = lengths[np.ix_(order, order)]
        steps = np.diagonal(along, 1)
        # Reversing order[i + 1 : j + 1] replaces the steps i → i+1 and j → j+1 by i → j and i+1 → j+1.
        gains = np.triu(steps[:, None] + steps[None] - along[:-1, :-1] - along[1:, 1:], 2)
        ends = gains.argmax(axis=1)
        most = gains.max(axis=1)
        if most.max() <= 0:
            break
        taken = np.zeros(count, bool)
        for i in np.argsort(-most, kind="stable")[: np.count_nonzero(most > 0)]:
            j = ends[i]
            if not taken[i : j + 2].any():
                taken[i : j + 2] = True
                order[i + 1 : j + 1] = order[i + 1 : j + 1][::-1]
    return order


def _clusters(vectors: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Return the means ``(size, d)`` of clusters of vectors ``(n, d)``, of which at least ``size`` are distinct.

    Lloyd's algorithm (1982), initialised with :func:`_cell_means`; deterministic.
    """
    sample = vectors[:: -(-len(vectors) // _MAX_VECTORS)]
    means = _cell_means(sample, size)
    with single_threaded_faiss():
        for _ in range(_KMEANS_ROUNDS // size):
            nearest = faiss_search(np.rint(means * SEARCH_GRID) / SEARCH_GRID)(sample.astype(np.float64))
            means = _means(sample, nearest, means)
    return means


def _cell_means(vectors: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Return the means of ``size`` cells of vectors ``(n, d)``, or of fewer if no cell can be split any further.

    As in colour quantisers (Wu 1991), the cell with the largest squared error along an axis is split at its mean on
    that axis. Here half of the cells are split in each round, which gives as good a result as one by one.
    """
    planes = [plane.astype(np.float64) for plane in vectors.T]
    cells = np.zeros(len(vectors), np.int64)
    count = 1
    while True:
        # Sums of integers, exact in any order.
        vectors_in = np.bincount(cells, minlength=count)
        sums, squares = (
            np.stack([np.bincount(cells, plane**power, count) for plane in planes], axis=1) for power in (1, 2)
        )
        means = sums / vectors_in[:, None]
        errors = squares - sums * means
        axes = errors.argmax(axis=1)
        largest = errors.max(axis=1)
        chosen = np.argsort(-largest, kind="stable")[: min(size - count, max(1, count // 2))]
        chosen = chosen[largest[chosen] > 0]
        if not len(chosen):
            return means
        split_off = np.full(count, -1)
        split_off[chosen] = count + np.arange(len(chosen))
        moving = np.flatnonzero(split_off[cells] >= 0)
        own = cells[moving]
        above = vectors[moving, axes[own]] > means[own, axes[own]]
        cells[moving[above]] = split_off[own[above]]
        count += len(chosen)


def _root_mean_square_error(values: NDArray[np.float64], palette: NDArray[np.uint8]) -> float:
    vectors = values.reshape(-1, values.shape[2])
    with single_threaded_faiss():
        nearest = faiss_search(palette)(vectors)
    return float(np.sqrt(np.mean((vectors - palette[nearest]) ** 2)))


def _means(
    values: NDArray[np.number], indices: NDArray[np.integer], palette: NDArray[np.number]
) -> NDArray[np.float64]:
    """Return the mean of the values quantised to each palette entry; an unused entry stays as it is."""
    flat = indices.ravel()
    count = np.bincount(flat, minlength=len(palette))
    sums = [np.bincount(flat, plane.ravel(), minlength=len(palette)) for plane in np.moveaxis(values, -1, 0)]
    means = palette.astype(np.float64)
    used = count > 0
    means[used] = np.stack(sums, axis=1)[used] / count[used, None]
    return means
