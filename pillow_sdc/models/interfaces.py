"""What the rest of the package asks of a model: two small interfaces over numpy arrays."""

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from .arrays import PerPicture

if TYPE_CHECKING:
    from .noise_schedule import NoiseSchedule


class Autoencoder(Protocol):
    """Pixels to SD-scaled latents and back.

    Pixels are float32 ``(3, 8h, 8w)`` in [−1, 1], latents float32 ``(4, h, w)`` of about unit variance: the mode of
    the posterior times the scaling factor 0.18215. Arrays may have further dimensions before these, which count
    pictures that are computed together. Both methods raise :class:`~pillow_sdc.errors.ModelFailedError` when the
    computation fails or yields values that are not finite.
    """

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        ...

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)`` with noise of that variance left in them.

        Decoders that were trained on clean latents alone take no notice of the variance.
        """
        ...

    def compile(self) -> None:
        """From now on, compile the networks for shapes that recur; to be called before the first use.

        The methods then also raise :class:`~pillow_sdc.errors.ModelUnavailableError`: where that cannot be done.
        """
        ...


class Denoiser(Protocol):
    """Predicts the noise ε in diffused latents x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε (Ho et al. 2020, eq. 4)."""

    @property
    def name(self) -> str:
        """Who predicts, for people to read."""
        ...

    @property
    def schedule(self) -> "NoiseSchedule":
        """The noise schedule that the denoiser was trained on."""
        ...

    def predict_noise(self, diffused: NDArray[np.float32], timestep: PerPicture) -> NDArray[np.float32]:
        """Return ε, shaped like ``diffused`` ``(…, 4, h, w)``, at timesteps that may lie between two whole ones."""
        ...

    def compile(self) -> None:
        """As :meth:`Autoencoder.compile`."""
        ...
