"""Choosing the palette: k-means on the picture's latents, refined while dithering, in an order that codes well."""

import numpy as np
from numpy.typing import NDArray

from .dithering import dither, faiss_search, single_threaded_faiss
from .eight_bit import round_levels

_KMEANS_ITERATIONS = 30
_KMEANS_RESTARTS = 3
_KMEANS_SEED = 1234
_MAX_TRAINING_VECTORS_PER_ENTRY = 256
_REFINEMENTS = 4
_ERROR_LIMIT = 0.75
"""Largest diffused error, in units of the palette's root mean square error without dithering. A limit well above that
spreads errors that no neighbour can make good: on photographs the latents' error grows by a quarter without one."""


def design_palette(
    values: NDArray[np.float64], size: int, strength: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], bool]:
    """Return a palette for a picture's latents and the dithered indices into it.

    Dithering makes values of its own, the latents plus the errors they receive. So after k-means the palette is moved
    a few times to the means of the values that were searched for, and the picture dithered again.

    Args:
        values: Levels 0 to 255, not rounded, ``(h, w, 4)``.
        size: Largest number of palette entries, 1 to 256.
        strength: Dithering strength, 0 to 1.

    Returns:
        The palette, uint8 ``(k, 4)``, with k ≤ ``size`` and every entry in use; indices, uint8 ``(h, w)``; and whether
        the palette holds every rounded latent of the picture, so that nothing but rounding was lost.
    """
    rounded = round_levels(values)
    distinct, inverse = np.unique(rounded.reshape(-1, rounded.shape[2]), axis=0, return_inverse=True)
    if len(distinct) <= size:
        return distinct, inverse.reshape(rounded.shape[:2]).astype(np.uint8), True
    palette = np.unique(round_levels(_kmeans(rounded, size)), axis=0)
    error_limit = _ERROR_LIMIT * _root_mean_square_error(values, palette)
    indices, searched = dither(values, palette, strength, error_limit)
    for _ in range(_REFINEMENTS):
        palette = np.unique(round_levels(np.clip(_means(searched, indices, palette), 0, 255)), axis=0)
        indices, searched = dither(values, palette, strength, error_limit)
    used, inverse = np.unique(indices, return_inverse=True)
    return palette[used], inverse.reshape(indices.shape).astype(np.uint8), False


def shortest_path(palette: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return an order of the palette in which neighbours are alike, so that their differences code well.

    A path through all entries, from each to the nearest that is left, then shortened by reversing stretches of it
    while that helps (2-opt; Croes 1958). Lengths are sums of absolute differences.
    """
    entries = palette.astype(np.int64)
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
        i, j = np.unravel_index(gains.argmax(), gains.shape)
        if gains[i, j] <= 0:
            break
        order[i + 1 : j + 1] = order[i + 1 : j + 1][::-1]
    return order


def _kmeans(rounded: NDArray[np.uint8], size: int) -> NDArray[np.float64]:
    import faiss

    kmeans = faiss.Kmeans(
        rounded.shape[2],
        size,
        niter=_KMEANS_ITERATIONS,
        nredo=_KMEANS_RESTARTS,
        seed=_KMEANS_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=_MAX_TRAINING_VECTORS_PER_ENTRY,
    )
    with single_threaded_faiss():
        kmeans.train(rounded.reshape(-1, rounded.shape[2]).astype(np.float32))
    return np.asarray(kmeans.centroids, np.float64)


def _root_mean_square_error(values: NDArray[np.float64], palette: NDArray[np.uint8]) -> float:
    vectors = values.reshape(-1, values.shape[2])
    with single_threaded_faiss():
        nearest = faiss_search(palette)(vectors)
    return float(np.sqrt(np.mean((vectors - palette[nearest]) ** 2)))


def _means(values: NDArray[np.float64], indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the mean of the values that each palette entry stands for; an entry without any stays as it is."""
    flat = indices.ravel()
    count = np.bincount(flat, minlength=len(palette))
    sums = [np.bincount(flat, plane.ravel(), minlength=len(palette)) for plane in np.moveaxis(values, 2, 0)]
    means = palette.astype(np.float64)
    used = count > 0
    means[used] = np.stack(sums, axis=1)[used] / count[used, None]
    return means
