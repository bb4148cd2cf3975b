"""Models that are easily predicted, and pictures that they bring back."""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from pillow_sdc.models import Denoiser, Models, NoiseSchedule
from pillow_sdc.models.arrays import PerPicture

Samples = NDArray[np.uint8]


class MeanAutoencoder:
    """The means of 8×8 squares as latents: an autoencoder whose result at a place depends on that place alone."""

    def __init__(self) -> None:
        self.largest = 0
        self.noise_variances: set[float] = set()

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        self.largest = max(self.largest, *pixels.shape)
        *pictures, channels, height, width = pixels.shape
        means = pixels.reshape(*pictures, channels, height // 8, 8, width // 8, 8).mean(axis=(-3, -1))
        return np.concatenate([means, means[..., :1, :, :]], axis=-3)

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        self.largest = max(self.largest, *latents.shape)
        self.noise_variances.update(np.ravel(noise_variance).tolist())
        return latents[..., :3, :, :].repeat(8, axis=-2).repeat(8, axis=-1)


class ZeroDenoiser:
    """Sees no noise anywhere, and counts how often it was asked."""

    name = "zero"
    schedule = NoiseSchedule.scaled_linear()

    def __init__(self) -> None:
        self.evaluations = 0

    def predict_noise(self, diffused: NDArray[np.float32], timestep: PerPicture) -> NDArray[np.float32]:
        self.evaluations += 1
        return np.zeros_like(diffused)


class PlainModels:
    name = "means"

    def __init__(self, denoiser: Denoiser | None = None) -> None:
        self.autoencoder = MeanAutoencoder()
        self._denoiser = denoiser
        self.denoiser_was_loaded = False

    @property
    def denoiser(self) -> Denoiser | None:
        self.denoiser_was_loaded = True
        return self._denoiser


def models(denoiser: Denoiser | None = None) -> Models:
    return cast("Models", PlainModels(denoiser))


def blocks(height: int, width: int, channels: int = 3) -> Samples:
    """A picture that is flat within each square of 8×8, so that the mean autoencoder can bring it back."""
    small = np.random.default_rng(height * width).integers(
        0, 256, (-(-height // 8), -(-width // 8), channels), np.uint8
    )
    return small.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
