"""An endless stream of crops and their labels: latents of an encoder, before and after a round trip through codecs."""

import itertools
import math
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.format.codecs import ContextCodec, PaletteCodec, QuantisedLatents
from pillow_sdc.format.context.codec import DEFAULT_QUALITY, FINEST, LARGEST_STEP, step_of

from .photographs import AlteredCrops, Samples, numbered_crops, pixels
from .teacher import Encode, Teacher
from .workers import in_order

Latents = NDArray[np.float32]

SIDE = 24
"""Side of labelled crops, in latents."""

TOGETHER = 3**2
"""Number of crops quantised as one square, so that a palette has about as many latents as in a picture."""

PALETTES = (PaletteCodec(), PaletteCodec(), PaletteCodec(dither=0.0))
CONTEXTS = (ContextCodec(), ContextCodec(), ContextCodec(weighted=False))
"""The codecs that are drawn from; one that occurs twice is drawn twice as often."""

STEPS = (FINEST, LARGEST_STEP)
"""Range from which the step of the codec ``context`` is drawn."""

KINDS = ("clean", "palette", "context")
"""Kinds of latents: those of the encoder, and those after a round trip through each codec."""


class Labelled(NamedTuple):
    """Crops, or a photograph, with labels.

    Attributes:
        photo: uint8 ``(n, 8h, 8w, 3)``.
        latents: Latents of each kind, float32 ``(n, 3, 4, h, w)``.
        noise_variance: Noise variance of each kind, float32 ``(n, 3)``.
        own: Whether our own encoder encoded them in place of the teacher, bool ``(n,)``.
    """

    photo: Tensor
    latents: Tensor
    noise_variance: Tensor
    own: Tensor


class Pool:
    """Rows of tensors to draw from at random; when it is full, new rows replace random old ones."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._filled = 0
        self._kept: tuple[Tensor, ...] = ()

    def add(self, *rows: Tensor) -> None:
        """Add rows ``(n, …)``, at most as many as the pool holds."""
        count = len(rows[0])
        self._kept = self._kept or tuple(row.new_empty((self._size, *row.shape[1:])) for row in rows)
        free = torch.arange(self._filled, min(self._filled + count, self._size))
        taken = torch.randperm(self._filled)[: count - len(free)]
        places = torch.cat([free, taken]).to(rows[0].device)
        self._filled = min(self._filled + count, self._size)
        for kept, new in zip(self._kept, rows, strict=True):
            kept[places] = new

    def draw(self, count: int) -> tuple[Tensor, ...]:
        """Return ``count`` random rows."""
        places = torch.randint(self._filled, (count,), device=self._kept[0].device)
        return tuple(kept[places] for kept in self._kept)


def labelled_crops(
    photos: AlteredCrops,
    teacher: Teacher,
    together: int,
    seed: tuple[int, ...],
    *,
    own: tuple[float, Encode] | None = None,
    groups: int = 1,
    workers: int = 0,
) -> Iterator[Labelled]:
    """Return crops on the teacher's device, ``together`` at a time, which are encoded ``groups`` times as many at once.

    Args:
        photos: Where the crops come from.
        teacher: Encodes them.
        together: A square number.
        seed: The crops follow from it, whatever the number of workers.
        own: Fraction of the crops that another encoder encodes in place of the teacher, and that encoder.
        groups: Worth more than one where a wait for the device costs much.
        workers: Processes that draw crops, and as many that quantise latents.
    """
    fraction, own_encode = own or (0.0, teacher.encode)
    encoded: deque[tuple[Tensor, bool]] = deque()

    def squares() -> Iterator[tuple[Latents, tuple[int, ...]]]:
        draw = partial(numbered_crops, photos, together * groups, (*seed, 0))
        for number, drawn in enumerate(in_order(draw, itertools.count(), workers)):
            is_own = bool(np.random.default_rng([*seed, 1, number]).random() < fraction)
            photo = torch.from_numpy(drawn).to(teacher.device)
            latents = (own_encode if is_own else teacher.encode)(pixels(photo)).cpu().numpy()
            encoded.extend((one, is_own) for one in photo.split(together))
            yield from ((one, (*seed, 2, number, i)) for i, one in enumerate(np.split(latents, groups)))

    for latents, noise_variance in in_order(_quantised_square, squares(), workers):
        photo, is_own = encoded.popleft()
        rest = (torch.from_numpy(array).to(photo.device) for array in (latents, noise_variance))
        yield Labelled(photo, *rest, torch.full((len(photo),), is_own, device=photo.device))


def labelled_photographs(photos: list[Samples], teacher: Teacher, workers: int = 0) -> list[Labelled]:
    """Return whole photographs, encoded by the teacher and quantised by codecs with their defaults."""
    whole = [torch.from_numpy(photo[None]).to(teacher.device) for photo in photos]
    encoded = [teacher.encode(pixels(photo)).cpu().numpy() for photo in whole]
    return [
        Labelled(
            photo,
            *(torch.from_numpy(array).to(photo.device) for array in quantised),
            torch.zeros(1, dtype=torch.bool, device=photo.device),
        )
        for photo, quantised in zip(whole, in_order(_quantised_photograph, encoded, workers), strict=True)
    ]


def noisy_batch(latents: Tensor, noise_variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents ``(n, 4, h, w)``, each of a random kind, and their noise variances ``(n,)``.

    Args:
        latents: Latents of each kind, ``(n, 3, 4, h, w)``.
        noise_variance: Noise variance of each kind, ``(n, 3)``.
    """
    count, kinds = noise_variance.shape
    each, kind = torch.arange(count, device=latents.device), torch.randint(kinds, (count,), device=latents.device)
    return latents[each, kind], noise_variance[each, kind]


def _quantised_square(job: tuple[Latents, tuple[int, ...]]) -> tuple[Latents, Latents]:
    """Return each kind of latents ``(n², 4, h, h)`` and its noise, for which they make one square."""
    latents, seed = job
    random = np.random.default_rng(seed)
    across, cut_side = math.isqrt(len(latents)), latents.shape[-1]
    tiles = latents.reshape(across, across, -1, cut_side, cut_side).transpose(2, 0, 3, 1, 4)
    side = across * cut_side
    square = tiles.reshape(-1, side, side)
    palette, context = PALETTES[random.integers(len(PALETTES))], CONTEXTS[random.integers(len(CONTEXTS))]
    step = round(math.exp(random.uniform(*np.log(STEPS))))

    def cut(square: Latents) -> Latents:
        return square.reshape(tiles.shape).transpose(1, 3, 0, 2, 4).reshape(latents.shape)

    kinds, noise_variance = _kinds(
        square,
        palette.decode(palette.encode(square), side, side),
        context.reconstruct_with_step(square, step),
    )
    return np.stack([cut(one) for one in kinds[0]], 1), noise_variance.repeat(len(latents), 0)


def _quantised_photograph(latents: Latents) -> tuple[Latents, Latents]:
    """Return each kind of latents ``(1, 4, h, w)`` and its noise."""
    one = latents[0]
    palette = PaletteCodec.decode(PaletteCodec().encode(one), *one.shape[1:])
    return _kinds(one, palette, ContextCodec().reconstruct_with_step(one, step_of(DEFAULT_QUALITY)))


def _kinds(clean: Latents, palette: QuantisedLatents, context: QuantisedLatents) -> tuple[Latents, Latents]:
    return (
        np.stack([clean, palette.latents, context.latents])[None],
        np.array([[0.0, palette.noise_variance, context.noise_variance]], np.float32),
    )
