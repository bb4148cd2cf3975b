"""The mark by which the embedded decoder knows latents that the embedded encoder made.

Our encoder was trained to say more of fine texture than others do, and our decoder to take it at its word. Latents of
other encoders are painted softer, which is nearer to the photograph. A file does not say who made its latents, and
they pass through arrays and data sets besides, so the mark is in the latents: a checkerboard of one place in the grid
against the next, along the direction in which pictures have least of it. A twentieth of the latents' deviation, it
adds 0.0006 to their mean squared error and is lost in what every codec leaves; but summed over thousands of latents
it stands out by far. The decoder takes it away again before it paints.

The module is not to be imported before it is needed, for it imports torch.
"""

import torch
from torch import Tensor

DIRECTION = (-0.418, -0.203, -0.391, 0.794)
"""Over the four channels, of length one: the last principal component of the checkerboards in windows of 16×16 of
TAESD's latents."""

AMPLITUDE = 0.05

FOREIGN_BELOW, OWN_FROM = 0.012, 0.022
"""Of a picture's checkerboard. Without the mark 95 in 100 windows of 32×32 latents have less than 0.019, larger ones
less in proportion; of the mark a palette leaves 0.041, and the codec context 0.028 at quality 10."""


def signed(latents: Tensor) -> Tensor:
    """Return latents ``(n, 4, h, w)`` with the mark."""
    return latents + AMPLITUDE * _checkerboard(latents)


def recognise(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents without the mark, and how foreign ``(n,)`` they are: from 0 where it was found to 1 where not.

    A cut of latents may begin at any place: the sign of the checkerboard does not matter.
    """
    mean = (latents * _checkerboard(latents)).sum(1).mean((1, 2))
    own = ((mean.abs() - FOREIGN_BELOW) / (OWN_FROM - FOREIGN_BELOW)).clamp(0, 1)
    mark = AMPLITUDE * own * mean.sign()
    return latents - mark[:, None, None, None] * _checkerboard(latents), 1 - own


def _checkerboard(latents: Tensor) -> Tensor:
    """Return one of unit amplitude, ``(4, h, w)``."""
    rows, columns = (torch.arange(length, device=latents.device) for length in latents.shape[2:])
    sign = 1 - 2 * ((rows[:, None] + columns) % 2).to(latents.dtype)
    return latents.new_tensor(DIRECTION)[:, None, None] * sign
