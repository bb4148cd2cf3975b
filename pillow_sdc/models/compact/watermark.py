"""The watermark by which the embedded decoder recognises latents of the embedded encoder.

Our encoder was trained to say more about fine texture than others do, and our decoder to take it at its word. Latents
of other encoders are painted softer, which is nearer to the photograph. A file does not say who made its latents, and
they pass through arrays and data sets besides, so the watermark is in the latents: a checkerboard of one place in the
grid against the next, along the direction in which pictures have least of it. A twentieth of the latents' deviation, it
adds 0.0006 to their mean squared error and is lost in the noise of every codec; but summed over thousands of latents
it stands out by far. The decoder takes it away again.
"""

import numpy as np
from numpy.typing import NDArray

DIRECTION = (-0.418, -0.203, -0.391, 0.794)
"""Over the four channels, of length one: the last principal component of the checkerboards in windows of 16×16 of
TAESD's latents."""

AMPLITUDE = 0.05

FOREIGN_BELOW, OWN_FROM = 0.012, 0.022
"""Of a picture's checkerboard. Without the watermark 95 in 100 windows of 32×32 latents have less than 0.019, larger
ones less in proportion; of the watermark a palette leaves 0.041, and the codec context 0.028 at quality 10."""


def mark(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return latents ``(4, h, w)`` with the watermark."""
    marked: NDArray[np.float32] = latents + np.float32(AMPLITUDE) * _checkerboard(latents)
    return marked


def unmark(latents: NDArray[np.float32]) -> tuple[NDArray[np.float32], bool]:
    """Return latents ``(4, h, w)`` without the watermark, and whether it was there.

    It is taken away in proportion to how sure it is. A cut of latents may begin at any place: the sign of the
    checkerboard does not matter.
    """
    board = _checkerboard(latents)
    found = float((latents * board).sum(0).mean())
    certainty = min(max((abs(found) - FOREIGN_BELOW) / (OWN_FROM - FOREIGN_BELOW), 0.0), 1.0)
    unmarked: NDArray[np.float32] = latents - np.float32(AMPLITUDE * certainty * np.sign(found)) * board
    return unmarked, certainty >= 0.5


def _checkerboard(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one of unit amplitude, ``(4, h, w)``."""
    rows, columns = (np.arange(length) for length in latents.shape[-2:])
    sign = (1 - 2 * ((rows[:, None] + columns) % 2)).astype(np.float32)
    return np.array(DIRECTION, np.float32)[:, None, None] * sign
