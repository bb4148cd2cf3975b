"""How much noise a diffusion model adds at each timestep, and which timestep a known amount of noise belongs to.

Symbols are those of Ho et al. 2020, "Denoising Diffusion Probabilistic Models": x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε with
timesteps t = 0 … T − 1 (their 1 … T). Divided by √ᾱ_t, x_t is x₀ plus noise of variance r(t) = (1 − ᾱ_t)/ᾱ_t. So
latents with quantisation noise of variance s² are, but for a factor, diffused latents at the t where r(t) = s².
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .arrays import PerPicture


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The ᾱ of every whole timestep; between them log r is interpolated linearly.

    Attributes:
        alphas_cumprod: ᾱ_t, float64 ``(T,)``, strictly falling, between 0 and 1 exclusively.

    Raises:
        ValueError: ``alphas_cumprod`` is not such a sequence.
    """

    alphas_cumprod: NDArray[np.float64]

    def __post_init__(self) -> None:
        alphas = self.alphas_cumprod
        if alphas.ndim != 1 or not alphas.size or not (np.diff(alphas, prepend=1.0, append=0.0) < 0).all():
            raise ValueError("the cumulative products of alpha must fall strictly, from below 1 to above 0")

    @classmethod
    def scaled_linear(cls, beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> "NoiseSchedule":
        """Return the schedule whose √β grows linearly, as in Rombach et al. 2022; the defaults are SD v1.4's."""
        betas = np.linspace(math.sqrt(beta_start), math.sqrt(beta_end), steps) ** 2
        alphas_cumprod: NDArray[np.float64] = np.cumprod(1.0 - betas, dtype=np.float64)
        return cls(alphas_cumprod)

    def timestep_of(self, noise_variance: float) -> float | None:
        """Return the t, 0 to T − 1 and fractional, where r(t) is ``noise_variance``.

        ``None`` means that there is nothing to denoise: the variance is below r(0), 0.00085 in SD v1.4. A variance
        above r(T − 1) gives T − 1.
        """
        if not noise_variance >= math.exp(self._log_r[0]):
            return None
        return float(np.interp(math.log(noise_variance), self._log_r, self._timesteps))

    def alpha_cumprod(self, timestep: PerPicture) -> PerPicture:
        """Return ᾱ at timesteps that may be fractional: 1/(1 + r), so that it agrees with :meth:`timestep_of`."""
        alphas: PerPicture = 1.0 / (1.0 + np.exp(np.interp(timestep, self._timesteps, self._log_r)))
        return alphas

    @cached_property
    def _log_r(self) -> NDArray[np.float64]:
        return np.log1p(-self.alphas_cumprod) - np.log(self.alphas_cumprod)

    @cached_property
    def _timesteps(self) -> NDArray[np.float64]:
        return np.arange(self.alphas_cumprod.size, dtype=np.float64)
