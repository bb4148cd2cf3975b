"""The embedded model: small networks of our own in SD v1's latent space, in 8 bits, in files of the package.

They run on ONNX Runtime, without torch. How they were trained, on what, and what they are bad at:
``training/MODEL_CARD.md``.
"""

import numpy as np
from numpy.typing import NDArray

from ...runtime.threads import cores
from ..arrays import PerPicture, for_each, pictures_of, spread
from ..failures import finite
from ..noise_schedule import NoiseSchedule
from . import sessions
from .sessions import CHECKSUMS, WEIGHTS, check, forget, runtime, usable_device

__all__ = [
    "CHECKSUMS",
    "DTYPE",
    "NAME",
    "WEIGHTS",
    "CompactAutoencoder",
    "CompactDenoiser",
    "check",
    "forget",
    "runtime",
    "usable_device",
]

NAME = "compact"
"""Name of the model, by which the setting ``model`` chooses it."""

DTYPE = "int8"
"""Name of the type that it computes in, whatever the setting ``dtype``."""


class CompactAutoencoder:
    """An :class:`~.interfaces.Autoencoder` whose decoder was trained on noisy latents and removes the noise itself."""

    def __init__(self, device: str) -> None:
        """Load nothing yet: networks are read and checked when they are first needed.

        Args:
            device: ``"cpu"``, or ``"cuda"`` with or without a number.
        """
        self._device = device

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        latents = self._run("encoder", pixels=pictures_of(pixels))
        return latents.reshape(*pixels.shape[:-3], *latents.shape[1:])

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)`` with noise of that variance in them."""
        variances = for_each(noise_variance, latents).astype(np.float32)
        pixels = self._run("decoder", latents=pictures_of(latents), noise_variance=variances)
        return pixels.clip(-1, 1, out=pixels).reshape(*latents.shape[:-3], *pixels.shape[1:])

    def compile(self) -> None:
        """Do nothing: the networks are compiled already."""

    def _run(self, name: str, **inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return finite(sessions.run(name, self._device, cores(), inputs), f"the {name}")


class CompactDenoiser:
    """A :class:`~.interfaces.Denoiser` for low noise, up to timestep 200, and above all for that of quantisation."""

    def __init__(self, device: str) -> None:
        """Load nothing yet, as :class:`CompactAutoencoder` does."""
        self._device = device
        self._schedule = NoiseSchedule.scaled_linear()

    @property
    def name(self) -> str:
        """``"compact"``."""
        return NAME

    @property
    def schedule(self) -> NoiseSchedule:
        """SD v1's noise schedule."""
        return self._schedule

    def predict_noise(self, diffused: NDArray[np.float32], timestep: PerPicture) -> NDArray[np.float32]:
        """Return ε, shaped like ``diffused`` ``(…, 4, h, w)``."""
        alpha = self._schedule.alpha_cumprod(timestep)
        variances = for_each((1 - alpha) / alpha, diffused).astype(np.float32)
        inputs = {"latents": pictures_of(diffused / spread(alpha**0.5)), "noise_variance": variances}
        noise = sessions.run("denoiser", self._device, cores(), inputs)
        return finite(noise.reshape(diffused.shape), "the denoiser")

    def compile(self) -> None:
        """Do nothing: the network is compiled already."""
