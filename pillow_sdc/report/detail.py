"""Where to look first: the part of a picture with the most fine texture."""

import numpy as np

from .metrics import Samples

BLOCK = 32
"""Side, in pixels, of the parts among which one is chosen."""


def busiest(samples: Samples) -> tuple[float, float]:
    """Return the centre of the busiest part, as fractions of the picture's width and height."""
    height, width = samples.shape[:2]
    rows, columns = height // BLOCK, width // BLOCK
    if rows < 3 or columns < 3:
        return 0.5, 0.5
    luma = samples[: rows * BLOCK, : columns * BLOCK].mean(axis=2)
    edges = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    # Not the mean itself: a single hard edge, as of a roof against the sky, would outweigh any amount of texture.
    blocks = np.sqrt(edges).reshape(rows, BLOCK, columns, BLOCK).mean(axis=(1, 3))
    around = sum(blocks[y : y + rows - 2, x : x + columns - 2] for y in range(3) for x in range(3))
    row, column = np.unravel_index(int(np.argmax(around)), (rows - 2, columns - 2))
    return float((column + 1.5) * BLOCK / width), float((row + 1.5) * BLOCK / height)
