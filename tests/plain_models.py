"""Models that are easily predicted, and pictures that they bring back."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from pillow_sdc.format.codecs import LatentCodec
from pillow_sdc.format.container import Envelope, Header, read_layout
from pillow_sdc.models import Denoiser, Models, NoiseSchedule
from pillow_sdc.models.arrays import PerPicture
from pillow_sdc.options import Settings
from pillow_sdc.pipeline import decoding, encoding
from pillow_sdc.progress import ProgressCallback

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
    vae = None
    device = "cpu"

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


@contextmanager
def in_use(using: Models) -> Iterator[None]:
    """Have the pipeline compute with these models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pillow_sdc.models.get_models", lambda settings: using)
        yield


def encoded(samples: Samples, codec: LatentCodec, using: Models, progress: ProgressCallback | None = None) -> bytes:
    """Return the file of a picture, by the whole pipeline."""
    height, width = samples.shape[:2]
    mode = "L" if samples.ndim == 2 else "RGB"
    envelope = Envelope.of(Header(width, height, mode, codec.name))
    with in_use(using):
        source = encoding.SourceImage(encoding.EncodeOptions(codec), envelope, samples)
        return encoding.encode(encoding.prepare(source), progress).data


def decoded(
    data: bytes, using: Models, denoise_steps: int = 4, progress: ProgressCallback | None = None
) -> decoding.DecodedImage:
    """Return the picture of a file, by the whole pipeline."""
    fp = io.BytesIO(data)
    layout = read_layout(fp)
    steps = decoding.counted(layout.header, progress)
    with in_use(using):
        stored = decoding.prepare(fp, layout, steps)
        (picture,) = decoding.compute([stored], Settings(denoise_steps=denoise_steps), steps)
    steps.finish()
    return picture
