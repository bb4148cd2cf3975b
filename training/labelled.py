"""What the teacher, and the palette codec after it, make of crops; labelled on the way, so that they have no end."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.latent_codecs import PaletteCodec

from .photographs import pixels
from .teacher import Teacher

Item = TypeVar("Item")

POOL = 1500
"""Items that are kept and drawn from: a label costs as much as a step or more, so that each serves several times."""

SIDE = 24
"""Of labelled crops, in latents."""

ACROSS = 3
TOGETHER = ACROSS**2
"""Crops that are labelled as one square, for a palette is of as many latents as in a picture."""

PALETTES = (PaletteCodec(), PaletteCodec(), PaletteCodec(dither=0.0))


class Pool(Generic[Item]):
    """Drawn from at random; once there are enough items, new ones take the place of old ones."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self._items: list[Item] = []

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            if len(self._items) < POOL:
                self._items.append(item)
            else:
                self._items[self._random.integers(POOL)] = item

    def draw(self, count: int) -> list[Item]:
        return [self._items[i] for i in self._random.integers(len(self._items), size=count)]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photograph or a crop of one.

    Attributes:
        photo: uint8 ``(8h, 8w, 3)``.
        latents: The teacher's, float32 ``(4, h, w)``.
        quantised: The latents as the palette codec brings them back, float32 ``(4, h, w)``.
        noise_variance: What the codec says of the noise in them.
    """

    photo: NDArray[np.uint8]
    latents: NDArray[np.float32]
    quantised: NDArray[np.float32]
    noise_variance: float

    def noisy_latents(self, random: np.random.Generator) -> tuple[NDArray[np.float32], float]:
        """Return the latents as a codec would bring them back, and the variance of the noise in them.

        A third are clean, a third the palette codec's, and the rest rounded to a random step.
        """
        kind = random.integers(3)
        if kind == 1:
            return self.quantised, self.noise_variance
        if kind == 2:
            step = np.exp(random.uniform(np.log(0.03), np.log(1.2)))
            return (np.round(self.latents / step) * step).astype(np.float32), step**2 / 12
        return self.latents, 0.0


def label_crops(photos: NDArray[np.uint8], teacher: Teacher, random: np.random.Generator) -> list[Labelled]:
    """Label :data:`TOGETHER` crops of :data:`SIDE` latents."""
    latents = teacher.encode(pixels(photos)).numpy()
    tiles = latents.reshape(ACROSS, ACROSS, -1, SIDE, SIDE).transpose(2, 0, 3, 1, 4)
    side = ACROSS * SIDE
    codec = PALETTES[random.integers(len(PALETTES))]
    quantised = codec.decode(codec.encode(tiles.reshape(-1, side, side)), side, side)
    noisy = quantised.latents.reshape(tiles.shape).transpose(1, 3, 0, 2, 4).reshape(latents.shape)
    return [Labelled(*arrays, quantised.noise_variance) for arrays in zip(photos, latents, noisy, strict=True)]


def label_photograph(photo: NDArray[np.uint8], teacher: Teacher) -> Labelled:
    """Label a whole photograph."""
    latents = teacher.encode(pixels(photo[None]))[0].numpy()
    quantised = PaletteCodec.decode(PaletteCodec().encode(latents), *latents.shape[1:])
    return Labelled(photo, latents, quantised.latents, quantised.noise_variance)


def noisy_batch(batch: Iterable[Labelled], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return latents as a codec would bring them back, and the variances ``(n,)`` of the noise in them."""
    latents, noise_variances = zip(*(item.noisy_latents(random) for item in batch), strict=True)
    return stack(latents), torch.tensor(noise_variances, dtype=torch.float32)


def stack(arrays: Iterable[NDArray[np.floating]]) -> Tensor:
    """Return arrays ``(c, h, w)`` as a batch, in channels-last memory."""
    return torch.from_numpy(np.stack(list(arrays))).contiguous(memory_format=torch.channels_last)
