"""Photographs, and random crops of the prepared ones on the grid of latents."""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, eq=False)
class Photograph:
    """What :mod:`training.prepare` and :mod:`training.quantise` keep of one photograph.

    Attributes:
        photo: uint8 ``(8h, 8w, 3)``.
        latents: The teacher's, float32 ``(4, h, w)``.
        quantised: The latents as the palette codec brings them back, float16 ``(versions, 4, h, w)``.
        noise_variance: What the codec says of each version's noise, float32 ``(versions,)``.
    """

    photo: NDArray[np.uint8]
    latents: NDArray[np.float32]
    quantised: NDArray[np.float16]
    noise_variance: NDArray[np.float32]


@dataclass(frozen=True)
class Crop:
    """A square of a photograph: ``side`` latents from ``top`` and ``left``."""

    photograph: Photograph
    top: int
    left: int
    side: int

    def cut(self, array: NDArray[np.generic], scale: int = 1) -> NDArray[np.generic]:
        """Return the crop of an array ``(h · scale, w · scale, …)``."""
        y, x = (slice(scale * start, scale * (start + self.side)) for start in (self.top, self.left))
        return array[y, x]

    def latents(self) -> NDArray[np.float32]:
        """Return the teacher's latents ``(4, side, side)``."""
        return self._cut_latents(self.photograph.latents)

    def noisy_latents(self, random: np.random.Generator) -> tuple[NDArray[np.float32], float]:
        """Return the latents as a codec would bring them back, and the variance of the noise in them.

        A third are clean, a third the palette codec's, and the rest rounded to a random step.
        """
        kind = random.integers(3)
        if kind == 1:
            version = random.integers(len(self.photograph.quantised))
            noisy = self._cut_latents(self.photograph.quantised[version])
            return noisy, float(self.photograph.noise_variance[version])
        if kind == 2:
            step = np.exp(random.uniform(np.log(0.03), np.log(1.2)))
            return (np.round(self.latents() / step) * step).astype(np.float32), step**2 / 12
        return self.latents(), 0.0

    def _cut_latents(self, latents: NDArray[np.floating]) -> NDArray[np.float32]:
        return np.moveaxis(self.cut(np.moveaxis(latents, 0, 2)), 2, 0).astype(np.float32)


def photograph_paths(folder: Path) -> list[Path]:
    """Return the pictures of a folder by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)


def read_photo(path: Path) -> NDArray[np.uint8]:
    """Return a picture's samples ``(8h, 8w, 3)``, cut to the grid of latents."""
    with Image.open(path) as picture:
        photo = np.array(picture.convert("RGB"))
    height, width = (length // PIXELS_PER_LATENT * PIXELS_PER_LATENT for length in photo.shape[:2])
    return photo[:height, :width]


def split(photographs: list[Item]) -> tuple[list[Item], list[Item]]:
    """Return what to train on, and what is held out."""
    first_held_out = len(photographs) - max(1, round(len(photographs) * HELD_OUT))
    return photographs[:first_held_out], photographs[first_held_out:]


def load(folder: Path) -> tuple[list[Photograph], list[Photograph]]:
    """Return the photographs of a prepared folder: those to train on, and those held out."""
    photographs = []
    for path in sorted(folder.glob("*.npz")):
        arrays: dict[str, NDArray[np.generic]] = {}
        for suffix in (".npz", ".quantised"):
            with np.load(path.with_suffix(suffix)) as kept:
                arrays.update(kept)
        photographs.append(Photograph(**arrays))
    return split(photographs)


def crops(photographs: list[Photograph], count: int, side: int, random: np.random.Generator) -> Iterator[list[Crop]]:
    """Yield for ever ``count`` crops of ``side`` latents, from photographs chosen by their area."""
    large = [photograph for photograph in photographs if min(photograph.latents.shape[1:]) >= side]
    areas = np.array([photograph.photo.size for photograph in large], float)
    while True:
        chosen = [large[index] for index in random.choice(len(large), count, p=areas / areas.sum())]
        yield [
            Crop(
                photograph, *(int(random.integers(length - side + 1)) for length in photograph.latents.shape[1:]), side
            )
            for photograph in chosen
        ]


def stack(arrays: list[NDArray[np.floating]]) -> Tensor:
    """Return arrays ``(c, h, w)`` as a batch, in channels-last memory."""
    return torch.from_numpy(np.stack(arrays)).contiguous(memory_format=torch.channels_last)


def noisy_batch(batch: list[Crop], random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Return the crops' latents as a codec would bring them back, and the variances ``(n,)`` of the noise in them."""
    latents, noise_variances = zip(*(crop.noisy_latents(random) for crop in batch), strict=True)
    return stack(list(latents)), torch.tensor(noise_variances, dtype=torch.float32)


def pixels(samples: NDArray[np.uint8]) -> Tensor:
    """Return samples ``(n, h, w, 3)`` as pixels ``(n, 3, h, w)`` in [−1, 1], in channels-last memory."""
    return torch.from_numpy(samples).permute(0, 3, 1, 2).float() / 127.5 - 1
