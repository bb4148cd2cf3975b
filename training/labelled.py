"""Altered copies of photographs, each labelled by the teacher when it is made, so that their number has no end."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .crops import PIXELS_PER_LATENT, pixels
from .teacher import Teacher

POOL = 1500
"""Examples that are kept and drawn from; the teacher costs as much as a step, so that each serves about three times."""


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


class LabelledCrops:
    """A pool of altered crops and the teacher's latents of them, a few of which are new at every draw."""

    def __init__(
        self,
        photos: list[NDArray[np.uint8]],
        teacher: Teacher,
        side: int,
        random: np.random.Generator,
        *,
        first: int = 64,
    ) -> None:
        self._side = side * PIXELS_PER_LATENT
        self._photos = [photo for photo in photos if min(photo.shape[:2]) >= self._side]
        areas = np.array([photo.size for photo in self._photos], float)
        self._shares = areas / areas.sum()
        self._teacher = teacher
        self._random = random
        self._examples: list[tuple[NDArray[np.uint8], Tensor]] = []
        self._add(first)

    def draw(self, count: int, new: int) -> tuple[Tensor, Tensor]:
        """Return the pixels and the teacher's latents of ``count`` crops, after ``new`` have joined the pool."""
        self._add(new)
        chosen = [self._examples[i] for i in self._random.integers(len(self._examples), size=count)]
        return pixels(np.stack([photo for photo, _ in chosen])), torch.stack([latents for _, latents in chosen])

    def _add(self, count: int) -> None:
        sources = self._random.choice(len(self._photos), count, p=self._shares)
        photos = np.stack([altered(self._photos[source], self._side, self._random) for source in sources])
        for example in zip(photos, self._teacher.encode(pixels(photos)), strict=True):
            if len(self._examples) < POOL:
                self._examples.append(example)
            else:
                self._examples[self._random.integers(POOL)] = example
