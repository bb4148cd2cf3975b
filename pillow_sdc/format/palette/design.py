"""Choosing the palette: clusters of the picture's latents, refined while dithering, in an order that codes well."""

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps
from ...runtime.threads import single_threaded_faiss
from ..eight_bit import round_levels
from .dithering import SEARCH_GRID, dither, faiss_search

_MAX_VECTORS = 1 << 16
"""That clusters are made of; of larger pictures every second, third … is taken."""
_KMEANS_ROUNDS = 1024
"""Iterations, times the number of entries, of which few need more. For 256 entries four more iterations would take 1 %
from the error, and a fifth more time."""
_REFINEMENTS = 3
PASSES = 1 + _REFINEMENTS
"""How often a picture is dithered."""
_ERROR_LIMIT = 0.75
"""Largest diffused error, in units of the palette's root mean square error without dithering. A limit well above that
spreads errors that no neighbour can make good: on photographs the latents' error grows by a quarter without one."""


def design_palette(
    values: NDArray[np.float64], size: int, strength: float, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
    """Return a palette for a picture's latents and the dithered indices into it.

    Dithering makes values of its own, the latents plus the errors they receive. So the palette of the clusters is moved
    a few times to the means of the values that were searched for, and the picture dithered again.

    Args:
        values: Levels 0 to 255, not rounded, ``(h, w, 4)``.
        size: Largest number of palette entries, 1 to 256.
        strength: Dithering strength, 0 to 1.
        steps: Learns how far the dithering is.

    Returns:
        The palette, uint8 ``(k, 4)``, with k ≤ ``size`` and every entry in use; indices, uint8 ``(h, w)``; and whether
        the palette holds every rounded latent of the picture, so that nothing but rounding was lost.
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
    """Return an order of the palette in which neighbours are alike, so that their differences code well.

    A path through all entries, from each to the nearest that is left, then shortened by reversing stretches of it
    while that helps (2-opt; Croes 1958), those first that help most, and as many at once as do not overlap. Lengths are
    sums of absolute differences.
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

    Lloyd's iteration (1982), begun with the means of cells, without chance.
    """
    sample = vectors[:: -(-len(vectors) // _MAX_VECTORS)]
    means = _cell_means(sample, size)
    with single_threaded_faiss():
        for _ in range(_KMEANS_ROUNDS // size):
            nearest = faiss_search(np.rint(means * SEARCH_GRID) / SEARCH_GRID)(sample.astype(np.float64))
            means = _means(sample, nearest, means)
    return means


def _cell_means(vectors: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    """Return the means of ``size`` cells of vectors ``(n, d)``, or of fewer where there is nothing left to split.

    The cells with the largest squared errors along an axis are split there, at the mean, as in Wu's and others' colour
    quantisers (Wu 1991): each time half of them, which is as good as one by one.
    """
    planes = [plane.astype(np.float64) for plane in vectors.T]
    cells = np.zeros(len(vectors), np.int64)
    count = 1
    while True:
        # Sums of whole numbers, exact in whatever order.
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
    """Return the mean of the values that each palette entry stands for; an entry without any stays as it is."""
    flat = indices.ravel()
    count = np.bincount(flat, minlength=len(palette))
    sums = [np.bincount(flat, plane.ravel(), minlength=len(palette)) for plane in np.moveaxis(values, -1, 0)]
    means = palette.astype(np.float64)
    used = count > 0
    means[used] = np.stack(sums, axis=1)[used] / count[used, None]
    return means
