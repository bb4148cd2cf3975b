"""Altered copies of photographs, each labelled by the teacher when it is made, so that their number has no end."""

import math
from collections.abc import Iterable
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .crops import PIXELS_PER_LATENT

Example = TypeVar("Example")

POOL = 1500
"""Examples that are kept and drawn from: a label costs as much as a step or more, so that each serves several times."""


def altered(photo: NDArray[np.uint8], side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a square of ``side`` pixels of a photograph, half of the time of another scale, turned and recoloured."""
    shorter = min(photo.shape[:2])
    cut = side
    if random.random() < 0.5:
        cut = round(math.exp(random.uniform(math.log(0.75 * side), math.log(shorter))))
    top, left = (int(random.integers(length - cut + 1)) for length in photo.shape[:2])
    square = photo[top : top + cut, left : left + cut]
    if cut != side:
        square = np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.LANCZOS))
    square = np.rot90(square, random.integers(4))
    if random.random() < 0.5:
        square = square[:, ::-1]
    if random.random() < 0.5:
        gamma, gains = math.exp(random.normal(0, 0.25)), np.exp(random.normal(0, 0.08, 3))
        levels = (np.arange(256)[:, None] / 255) ** gamma * gains * 255
        square = levels.clip(0, 255).round().astype(np.uint8)[square, np.arange(3)]
    return np.ascontiguousarray(square)


class AlteredCrops:
    """Altered squares of ``side`` latents' width, from photographs chosen by their area."""

    def __init__(self, photos: list[NDArray[np.uint8]], side: int, random: np.random.Generator) -> None:
        self._side = side * PIXELS_PER_LATENT
        self._photos = [photo for photo in photos if min(photo.shape[:2]) >= self._side]
        areas = np.array([photo.size for photo in self._photos], float)
        self._shares = areas / areas.sum()
        self._random = random

    def draw(self, count: int) -> NDArray[np.uint8]:
        """Return ``(count, 8 · side, 8 · side, 3)``."""
        sources = self._random.choice(len(self._photos), count, p=self._shares)
        return np.stack([altered(self._photos[source], self._side, self._random) for source in sources])


class Pool(Generic[Example]):
    """Labelled examples; once there are enough, new ones take the place of old ones."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._examples: list[Example] = []

    def add(self, examples: Iterable[Example]) -> None:
        for example in examples:
            if len(self._examples) < POOL:
                self._examples.append(example)
            else:
                self._examples[self._random.integers(POOL)] = example

    def draw(self, count: int) -> list[Example]:
        return [self._examples[i] for i in self._random.integers(len(self._examples), size=count)]
