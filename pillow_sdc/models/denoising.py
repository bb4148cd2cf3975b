"""Removing quantisation noise with a diffusion model: DDIM from the timestep that the noise belongs to.

Nothing is added to the latents: their quantisation noise takes the place of the noise that diffusion would have added.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..progress import UNCOUNTED, Steps
from .arrays import PerPicture, spread
from .interfaces import Denoiser


def denoise(
    latents: NDArray[np.float32],
    noise_variance: PerPicture,
    denoiser: Denoiser,
    steps: int,
    progress: Steps = UNCOUNTED,
) -> NDArray[np.float32]:
    """Return the latents that ``denoiser`` sees behind the noise.

    Args:
        latents: SD-scaled latents ẑ, float32 ``(…, 4, h, w)``, with noise of variance ``noise_variance`` in them.
        noise_variance: s², the mean squared error of ẑ.
        denoiser: Predicts the noise.
        steps: Evaluations of the denoiser, at timesteps evenly spaced from t* to 0, where r(t*) = s².
        progress: Learns of each evaluation that is done.

    Returns:
        float32, shaped like ``latents``; ``latents`` themselves when ``steps`` is 0 or the noise of any of them is
        below the schedule's least.

    Raises:
        ModelFailedError: The denoiser failed.
    """
    starts = [denoiser.schedule.timestep_of(variance) for variance in np.ravel(noise_variance).tolist()]
    if steps == 0 or None in starts:
        return latents
    start = np.array(starts, np.float64).reshape(np.shape(noise_variance))
    signal, _ = _amplitudes(start, denoiser)
    return follow_timesteps(signal * latents, list(np.linspace(start, 0.0, steps)), denoiser, progress)


def follow_timesteps(
    diffused: NDArray[np.float32], timesteps: Sequence[PerPicture], denoiser: Denoiser, progress: Steps = UNCOUNTED
) -> NDArray[np.float32]:
    """Return the x₀ that deterministic DDIM reaches from x_t (Song et al. 2021, eq. 12 with σ = 0).

    Args:
        diffused: x_t at the first timestep, float32 ``(…, 4, h, w)``.
        timesteps: Falling, at least one; the x₀ predicted at the last is the result.
        denoiser: Predicts ε.
        progress: As above.

    Raises:
        ModelFailedError: The denoiser failed.
    """
    clean, noise = _separate(diffused, timesteps[0], denoiser)
    progress.done()
    for timestep in timesteps[1:]:
        signal, deviation = _amplitudes(timestep, denoiser)
        clean, noise = _separate(signal * clean + deviation * noise, timestep, denoiser)
        progress.done()
    return clean


def _separate(
    diffused: NDArray[np.float32], timestep: PerPicture, denoiser: Denoiser
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the x₀ and ε that the denoiser sees in x_t."""
    signal, deviation = _amplitudes(timestep, denoiser)
    noise = denoiser.predict_noise(diffused, timestep)
    clean: NDArray[np.float32] = np.divide(diffused - deviation * noise, signal)
    return clean, noise


def _amplitudes(timestep: PerPicture, denoiser: Denoiser) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return √ᾱ and √(1 − ᾱ), what x₀ and ε are multiplied with in x_t; float32, so that latents stay so."""
    alpha = denoiser.schedule.alpha_cumprod(timestep)
    return spread(np.sqrt(alpha)), spread(np.sqrt(1.0 - alpha))
