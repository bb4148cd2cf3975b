"""A folder of photographs: what is trained on, what is held out, and altered crops without end."""

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

HELD_OUT = 1 / 57
"""Share of the photographs, the last by name, that are never trained on but looked at during training."""


def read_photos(folder: Path) -> list[NDArray[np.uint8]]:
    """Return the samples ``(8h, 8w, 3)`` of a folder's pictures by name, each cut to the grid of latents."""
    photos = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES):
        with Image.open(path) as picture:
            photo = np.array(picture.convert("RGB"))
        height, width = (length // PIXELS_PER_LATENT * PIXELS_PER_LATENT for length in photo.shape[:2])
        photos.append(photo[:height, :width])
    return photos


def split(photographs: list[Item]) -> tuple[list[Item], list[Item]]:
    """Return what to train on, and what is held out."""
    first_held_out = len(photographs) - max(1, round(len(photographs) * HELD_OUT))
    return photographs[:first_held_out], photographs[first_held_out:]


def pixels(samples: NDArray[np.uint8]) -> Tensor:
    """Return samples ``(n, h, w, 3)`` as pixels ``(n, 3, h, w)`` in [−1, 1], in channels-last memory."""
    return torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 127.5 - 1


def samples(pixels: Tensor) -> NDArray[np.uint8]:
    """Return pixels ``(n, 3, h, w)`` in [−1, 1] as samples ``(n, h, w, 3)``."""
    return ((pixels + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


MAGNIFIED = 2.5
"""How much a crop is enlarged at most. Small photographs have few of the smooth places that fill large ones."""


class AlteredCrops:
    """Squares of ``side`` latents' width from photographs chosen by their area.

    Half are of another scale, half recoloured, half mirrored, and, if they may be ``turned``, all by 0 to 3 right
    angles.
    """

    def __init__(
        self, photos: list[NDArray[np.uint8]], side: int, random: np.random.Generator, *, turned: bool = True
    ) -> None:
        self._side = side * PIXELS_PER_LATENT
        self._photos = [photo for photo in photos if min(photo.shape[:2]) >= self._side]
        areas = np.array([photo.size for photo in self._photos], float)
        self._shares = areas / areas.sum()
        self._random = random
        self._turned = turned

    def draw(self, count: int) -> NDArray[np.uint8]:
        """Return ``(count, 8 · side, 8 · side, 3)``."""
        sources = self._random.choice(len(self._photos), count, p=self._shares)
        return np.stack([self._altered(self._photos[source]) for source in sources])

    def _altered(self, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
        random, cut = self._random, self._side
        if random.random() < 0.5:
            cut = round(math.exp(random.uniform(math.log(cut / MAGNIFIED), math.log(min(photo.shape[:2])))))
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
        return square
