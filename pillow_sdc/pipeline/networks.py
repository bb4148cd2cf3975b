"""Pictures of any size through networks, tile by tile; those that are covered by as many latents go together.

Arrays are numpy's: pixels ``(3, 8h, 8w)``, SD-scaled latents ``(4, h, w)``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..format.container import PIXELS_PER_LATENT, Header
from ..progress import UNCOUNTED, Steps
from .pixels import Colour, pixels_of, samples_of
from .tiling import blend, count

if TYPE_CHECKING:
    from ..models import Autoencoder, Denoiser

TILE = 96
"""Side of a tile in latents: pictures up to 768 pixels are computed in one piece."""

TILE_OVERLAP = 16
"""Latents that neighbouring tiles share at least."""


def tiles(latent_shape: tuple[int, int]) -> int:
    """Return how many tiles rows and columns of latents take, each of which is a step."""
    return count(*latent_shape, tile=TILE, overlap=TILE_OVERLAP)


def encode(
    colours: Sequence[Colour], latent_shape: tuple[int, int], autoencoder: "Autoencoder", steps: Steps = UNCOUNTED
) -> list[NDArray[np.float32]]:
    """Return the latents of pictures, padded at right and bottom with their edge."""

    def encode_tile(y: slice, x: slice) -> NDArray[np.float32]:
        return autoencoder.encode(np.stack([pixels_of(colour, y, x) for colour in colours]))

    bands = blend(*latent_shape, encode_tile, tile=TILE, overlap=TILE_OVERLAP, steps=steps)
    return list(np.concatenate(list(bands), axis=-2))


def denoise(
    latents: NDArray[np.float32],
    noise_variances: NDArray[np.float64],
    denoiser: "Denoiser",
    denoise_steps: int,
    steps: Steps = UNCOUNTED,
) -> NDArray[np.float32]:
    """Return latents ``(n, 4, h, w)`` without the noise that each has, by so many evaluations of the denoiser."""
    from .. import models

    def denoise_tile(y: slice, x: slice) -> NDArray[np.float32]:
        return models.denoise(latents[..., y, x], noise_variances, denoiser, denoise_steps, steps)

    rows, columns = latents.shape[-2:]
    steps.expect(tiles((rows, columns)) * denoise_steps)
    return np.concatenate(list(blend(rows, columns, denoise_tile, tile=TILE, overlap=TILE_OVERLAP)), axis=-2)


def decode(
    latents: NDArray[np.float32],
    noise_variances: NDArray[np.float64],
    headers: Sequence[Header],
    autoencoder: "Autoencoder",
    steps: Steps = UNCOUNTED,
) -> list[NDArray[np.uint8]]:
    """Return the samples ``(H, W, c)`` of latents ``(n, 4, h, w)``, cropped to the headers' sizes; alpha is not set."""
    pictures = [np.empty((header.height, header.width, len(header.mode)), np.uint8) for header in headers]

    def decode_tile(y: slice, x: slice) -> NDArray[np.float32]:
        return autoencoder.decode(latents[..., y, x], noise_variances)

    rows, columns = latents.shape[-2:]
    bands = blend(rows, columns, decode_tile, tile=TILE, overlap=TILE_OVERLAP, scale=PIXELS_PER_LATENT, steps=steps)
    top = 0
    for band in bands:
        for pixels, header, picture in zip(band, headers, pictures, strict=True):
            part = samples_of(pixels[:, : header.height - top, : header.width], header.mode)
            picture[top : top + len(part), :, : part.shape[2]] = part
        top += band.shape[-2]
    return pictures
