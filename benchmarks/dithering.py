"""Floyd–Steinberg dithering along the wavefront against one faiss search per latent, one thread, in one run."""

import timeit

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from pillow_sdc.format.palette.dithering import dither

PALETTE = 256
ERROR_LIMIT = 4.0


def dither_in_raster_order(values: NDArray[np.float64], palette: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Dither with one search per latent, otherwise as cheaply as a Python loop can."""
    height, width, channels = values.shape
    colours = palette.astype(np.float64)
    index = faiss.IndexFlatL2(channels)
    index.add(palette.astype(np.float32))
    work = np.zeros((height + 1, width + 2, channels))
    work[:height, 1 : width + 1] = values
    indices = np.empty((height, width), np.int64)
    right, below = 7 / 16, np.array([[3], [5], [1]]) / 16
    query = np.empty((1, channels), np.float32)
    for y in range(height):
        for x in range(width):
            wanted = work[y, x + 1]
            query[0] = wanted
            found = index.search(query, 1)[1][0, 0]
            indices[y, x] = found
            error = (wanted - colours[found]).clip(-ERROR_LIMIT, ERROR_LIMIT)
            work[y, x + 2] += right * error
            work[y + 1, x : x + 3] += below * error
    return indices


def main() -> None:
    generator = np.random.default_rng(0)
    palette = generator.integers(64, 192, (PALETTE, 4), np.uint8)
    small, large = (np.clip(128 + 27 * generator.standard_normal((n, n, 4)), 0, 255) for n in (64, 512))
    faiss.omp_set_num_threads(1)

    def seconds(function: object, repeats: int) -> float:
        return min(timeit.repeat(function, number=1, repeat=repeats))  # type: ignore[arg-type]

    loop = seconds(lambda: dither_in_raster_order(small, palette), 10)
    wavefront = seconds(lambda: dither(small, palette, 1.0, ERROR_LIMIT), 30)
    wavefront_large = seconds(lambda: dither(large, palette, 1.0, ERROR_LIMIT), 3)
    table = Table("latents", "way", "ms", "ratio")
    table.add_row("64×64", "one search per latent", f"{1e3 * loop:.1f}", "1")
    table.add_row("64×64", "wavefront", f"{1e3 * wavefront:.1f}", f"{loop / wavefront:.1f} times as fast")
    growth = f"{wavefront_large / wavefront:.0f} times 64×64"
    table.add_row("512×512", "wavefront", f"{1e3 * wavefront_large:.1f}", growth)
    Console().print(table)


if __name__ == "__main__":
    main()
