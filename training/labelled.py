"""What the teacher, and codecs after it, make of crops; labelled on the way, so that they have no end."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.latent_codecs import ContextCodec, PaletteCodec, QuantisedLatents
from pillow_sdc.latent_codecs.context import COARSEST, DEFAULT_QUALITY, FINEST, step_of

from .photographs import pixels
from .teacher import Teacher

Item = TypeVar("Item")

POOL = 1500
"""Items that are kept and drawn from: a label costs as much as a step or more, so that each serves several times."""

SIDE = 24
"""Of labelled crops, in latents."""

TOGETHER = 3**2
"""Crops that are labelled as one square, for a palette is of as many latents as in a picture."""

PALETTES = (PaletteCodec(), PaletteCodec(), PaletteCodec(dither=0.0))
CONTEXTS = (ContextCodec(), ContextCodec(), ContextCodec(stretched=False))
"""Codecs, and how often each is drawn."""

STEPS = (FINEST, COARSEST)
"""Between which that of the codec ``context`` is drawn."""


class Pool(Generic[Item]):
    """Drawn from at random; once there are enough items, new ones take the place of old ones."""

    def __init__(self, random: np.random.Generator, size: int = POOL) -> None:
        self._random = random
        self._size = size
        self._items: list[Item] = []

    def add(self, items: Iterable[Item]) -> None:
        for item in items:
            if len(self._items) < self._size:
                self._items.append(item)
            else:
                self._items[self._random.integers(self._size)] = item

    def draw(self, count: int) -> list[Item]:
        return [self._items[i] for i in self._random.integers(len(self._items), size=count)]


@dataclass(frozen=True, eq=False)
class Labelled:
    """A photograph or a crop of one.

    Attributes:
        photo: uint8 ``(8h, 8w, 3)``.
        latents: An encoder's, the teacher's unless said, float32 ``(4, h, w)``.
        palette: The latents as the palette codec brings them back.
        context: The latents as the context codec brings them back.
    """

    photo: NDArray[np.uint8]
    latents: NDArray[np.float32]
    palette: QuantisedLatents
    context: QuantisedLatents

    def noisy_latents(self, random: np.random.Generator) -> QuantisedLatents:
        """Return the latents as a codec would bring them back: clean, the palette codec's or the context codec's."""
        kinds = QuantisedLatents(self.latents, 0.0), self.palette, self.context
        return kinds[random.integers(len(kinds))]


def label_crops(
    photos: NDArray[np.uint8], encode: Callable[[Tensor], Tensor], random: np.random.Generator
) -> list[Labelled]:
    """Label crops ``(n², 8h, 8h, 3)``, which together make a square, with what ``encode`` makes of their pixels."""
    latents = encode(pixels(photos)).numpy()
    across, cut_side = math.isqrt(len(latents)), latents.shape[-1]
    tiles = latents.reshape(across, across, -1, cut_side, cut_side).transpose(2, 0, 3, 1, 4)
    side = across * cut_side
    square = tiles.reshape(-1, side, side)
    palette, context = PALETTES[random.integers(len(PALETTES))], CONTEXTS[random.integers(len(CONTEXTS))]
    step = round(np.exp(random.uniform(*np.log(STEPS))))

    def cut(quantised: QuantisedLatents) -> list[QuantisedLatents]:
        pieces = quantised.latents.reshape(tiles.shape).transpose(1, 3, 0, 2, 4).reshape(latents.shape)
        return [QuantisedLatents(piece, quantised.noise_variance) for piece in pieces]

    by_palette = cut(palette.decode(palette.encode(square), side, side))
    by_context = cut(context.reconstruct_with_step(square, step))
    return [Labelled(*parts) for parts in zip(photos, latents, by_palette, by_context, strict=True)]


def label_photograph(photo: NDArray[np.uint8], teacher: Teacher) -> Labelled:
    """Label a whole photograph."""
    latents = teacher.encode(pixels(photo[None]))[0].numpy()
    palette = PaletteCodec.decode(PaletteCodec().encode(latents), *latents.shape[1:])
    return Labelled(photo, latents, palette, ContextCodec().reconstruct_with_step(latents, step_of(DEFAULT_QUALITY)))


def noisy_batch(batch: Iterable[Labelled], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return latents as a codec would bring them back, and the variances ``(n,)`` of the noise in them."""
    drawn = [item.noisy_latents(random) for item in batch]
    return stack(one.latents for one in drawn), torch.tensor([one.noise_variance for one in drawn])


def stack(arrays: Iterable[NDArray[np.floating]]) -> Tensor:
    """Return arrays ``(c, h, w)`` as a batch, in channels-last memory."""
    return torch.from_numpy(np.stack(list(arrays))).contiguous(memory_format=torch.channels_last)
