"""A folder of photographs: the training set, the held-out set, and an endless stream of augmented crops."""

import math
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

PIXELS_PER_LATENT = 8
SUFFIXES = {".png", ".webp", ".jpg"}

Item = TypeVar("Item")
Samples = NDArray[np.uint8]

HELD_OUT = 1 / 57
"""Fraction of the photographs, the last by name, that are held out for evaluation."""


def read_photos(folder: Path) -> list[Samples]:
    """Return the samples ``(8h, 8w, 3)`` of a folder's pictures by name, each cut to the grid of latents."""
    photos = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
        with Image.open(path) as picture:
            photo = np.array(picture.convert("RGB"))
        height, width = (length // PIXELS_PER_LATENT * PIXELS_PER_LATENT for length in photo.shape[:2])
        photos.append(photo[:height, :width])
    return photos


def split(photographs: list[Item]) -> tuple[list[Item], list[Item]]:
    """Return the training set and the held-out set."""
    first_held_out = len(photographs) - max(1, round(len(photographs) * HELD_OUT))
    return photographs[:first_held_out], photographs[first_held_out:]


def pixels(samples: Samples | Tensor) -> Tensor:
    """Return samples ``(n, h, w, 3)`` as pixels ``(n, 3, h, w)`` in [−1, 1], in channels-last memory."""
    return torch.as_tensor(samples).permute(0, 3, 1, 2).float() / 127.5 - 1


LUMA_AND_CHROMA = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
"""YIQ of RGB: in its second and third rows' plane hue is an angle, and saturation a radius."""

MAGNIFIED = 2.5
"""Largest factor by which a crop is enlarged. Small photographs lack the smooth regions that fill large ones."""


class AlteredCrops:
    """Squares of ``side`` latents' width from photographs chosen by their area.

    Half are of another scale, as are all of photographs that are too small; half are recoloured, half mirrored, and, if
    they may be ``turned``, all by 0 to 3 right angles. A part is ``dyed``, so that all colours are as likely as those
    of skin, sky and leaves; a part ``veiled``, so that smooth and very dark places are more likely; and a part
    ``grainy``, like photographs that were neither downscaled nor compressed.
    """

    def __init__(
        self,
        photos: list[Samples],
        side: int,
        *,
        turned: bool = True,
        dyed: float = 0.0,
        veiled: float = 0.0,
        grainy: float = 0.0,
    ) -> None:
        self._side = side * PIXELS_PER_LATENT
        self._photos = [photo for photo in photos if min(photo.shape[:2]) >= self._side / MAGNIFIED]
        areas = np.array([photo.size for photo in self._photos], float)
        self._shares = areas / areas.sum()
        self._turned = turned
        self._dyed = dyed
        self._veiled = veiled
        self._grainy = grainy

    def draw(self, count: int, random: np.random.Generator) -> Samples:
        """Return ``(count, 8 · side, 8 · side, 3)``."""
        sources = random.choice(len(self._photos), count, p=self._shares)
        return np.stack([self._altered(self._photos[source], random) for source in sources])

    def _altered(self, photo: Samples, random: np.random.Generator) -> Samples:
        cut, longest = self._side, min(photo.shape[:2])
        if random.random() < 0.5 or cut > longest:
            cut = round(math.exp(random.uniform(math.log(cut / MAGNIFIED), math.log(longest))))
        top, left = (int(random.integers(length - cut + 1)) for length in photo.shape[:2])
        square = photo[top : top + cut, left : left + cut]
        if cut != self._side:
            size = self._side, self._side
            square = np.asarray(Image.fromarray(square).resize(size, Image.Resampling.LANCZOS))
        if self._turned:
            square = np.rot90(square, random.integers(4))
        if random.random() < 0.5:
            square = square[:, ::-1]
        if random.random() < 0.5:
            gamma, gains = math.exp(random.normal(0, 0.25)), np.exp(random.normal(0, 0.08, 3))
            levels = (np.arange(256)[:, None] / 255) ** gamma * gains * 255
            square = levels.clip(0, 255).round().astype(np.uint8)[square, np.arange(3)]
        if random.random() < self._dyed:
            square = dye(square, random)
        if random.random() < self._veiled:
            square = veil(square, random)
        return grain(square, random) if random.random() < self._grainy else square


def numbered_crops(photos: AlteredCrops, count: int, seed: tuple[int, ...], number: int) -> Samples:
    """Return ``count`` crops that depend only on the seed and the number, not on the process."""
    return photos.draw(count, np.random.default_rng([*seed, number]))


def dye(square: Samples, random: np.random.Generator) -> Samples:
    """Return samples ``(…, 3)`` of other hue, saturation, contrast and brightness."""
    hue = random.uniform(0, 2 * math.pi) if random.random() < 0.6 else random.normal(0, 0.3)
    saturation, contrast = math.exp(random.normal(0.25, 0.6)), math.exp(random.normal(0, 0.3))
    across, along = saturation * math.cos(hue), saturation * math.sin(hue)
    turn = np.array([[1, 0, 0], [0, across, -along], [0, along, across]])
    colours = np.linalg.inv(LUMA_AND_CHROMA) @ turn @ LUMA_AND_CHROMA
    kept = random.uniform()  # the brightness that contrast leaves as it is
    dyed = (kept + (square / 255 - kept) * contrast) @ colours.T
    return (255 * dyed).clip(0, 255).round().astype(np.uint8)


def veil(square: Samples, random: np.random.Generator) -> Samples:
    """Return samples ``(n, n, 3)`` that are nearer to one colour, half the time some places more than others."""
    tint = random.uniform(0.6, 1, 3)
    colours = random.uniform(0, 255, 3), random.uniform(0, 40) * tint, 255 - random.uniform(0, 50) * tint
    colour = colours[random.choice(3, p=(0.55, 0.3, 0.15))]
    strength = np.full((1, 1, 1), random.uniform(0.2, 0.97))
    if random.random() < 0.5:
        field = Image.fromarray(random.normal(0, 3, (4, 4)).astype(np.float32))
        smooth = np.asarray(field.resize(square.shape[1::-1], Image.Resampling.BICUBIC))
        strength = strength / (1 + np.exp(-smooth))[..., None]
    return (square + (colour - square) * strength).clip(0, 255).round().astype(np.uint8)


def grain(square: Samples, random: np.random.Generator) -> Samples:
    """Return samples ``(n, n, 3)`` with a sensor's noise of a standard deviation of 0.5 to 12, white or nearly so.

    Latents of smooth places depend on it: noise of 1.6 in grey moves the first channel two fifths of the way to white.
    """
    side = len(square)
    size = side if random.random() < 0.6 else round(side / random.uniform(1, 2))
    noise, shared = random.normal(0, 1, (size, size, 3)).astype(np.float32), random.uniform()
    noise = shared * noise[..., :1] + (1 - shared) * noise
    if size != side:
        channels = [Image.fromarray(channel) for channel in np.moveaxis(noise, -1, 0)]
        noise = np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in channels], -1)
    deviation = math.exp(random.uniform(math.log(0.5), math.log(12)))
    return (square + noise * (deviation / noise.std())).clip(0, 255).round().astype(np.uint8)
