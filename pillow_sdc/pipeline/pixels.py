"""Samples to pixels and back.

Samples are uint8: ``(H, W)`` for mode ``L``, ``(H, W, 2)`` for ``LA``, ``(H, W, 3)`` for ``RGB`` and ``(H, W, 4)`` for
``RGBA``. Pixels are what networks compute with: float32 ``(3, H, W)`` in [−1, 1].
"""

import numpy as np
from numpy.typing import NDArray

from ..format.alpha import ColourShown
from ..format.container import PIXELS_PER_LATENT

Colour = NDArray[np.uint8] | ColourShown
"""The colours of a picture: given the slices of a part, it returns samples ``(h, w, 1 or 3)``."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of Rec. ITU-R BT.601, with which Pillow converts RGB to L."""


def colour_of(samples: NDArray[np.uint8]) -> Colour:
    """Return the colours of a picture; those that full transparency hides are replaced by what costs little."""
    planes = samples.reshape(*samples.shape[:2], -1)
    has_alpha = planes.shape[2] in (2, 4)
    return ColourShown(planes[:, :, :-1], planes[:, :, -1]) if has_alpha else planes


def pixels_of(colour: Colour, y: slice, x: slice) -> NDArray[np.float32]:
    """Return the pixels ``(3, 8h, 8w)`` of the part that rows ``y`` and columns ``x`` of latents stand for.

    Where the picture ends within the part, its edge is repeated.
    """
    part = colour[_in_pixels(y), _in_pixels(x)]
    height, width = ((s.stop - s.start) * PIXELS_PER_LATENT for s in (y, x))
    padding = (0, height - part.shape[0]), (0, width - part.shape[1]), (0, 0)
    padded = np.broadcast_to(np.pad(part, padding, mode="edge"), (height, width, 3))
    return np.ascontiguousarray(np.moveaxis(padded.astype(np.float32) / 127.5 - 1, 2, 0))


def samples_of(pixels: NDArray[np.float32], mode: str) -> NDArray[np.uint8]:
    """Return the samples ``(H, W, 1 or 3)`` of pixels ``(3, H, W)`` in a mode, without alpha; values are clamped."""
    colour = np.moveaxis(pixels, 0, 2)
    planes = colour if mode.startswith("RGB") else (colour @ _LUMA)[:, :, None]
    samples: NDArray[np.uint8] = np.clip(np.round((planes + 1) * 127.5), 0, 255).astype(np.uint8)
    return samples


def with_alpha(samples: NDArray[np.uint8], alpha: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Set the last plane of samples ``(H, W, c)`` to ``alpha``; return them as their mode has them."""
    if alpha is not None:
        samples[:, :, -1] = alpha
    return samples if samples.shape[2] > 1 else samples[:, :, 0]


def _in_pixels(latents: slice) -> slice:
    return slice(latents.start * PIXELS_PER_LATENT, latents.stop * PIXELS_PER_LATENT)
