"""Models: pixels to latents and back, and the removal of noise from latents.

The rest of the package sees numpy arrays and the two interfaces :class:`Autoencoder` and :class:`Denoiser`. What a
model needs, onnxruntime or torch, diffusers, transformers and huggingface_hub, is imported when it is first used, not
with this package.
"""

from .choice import ModelChoice, choose_model
from .denoising import denoise
from .interfaces import Autoencoder, Denoiser
from .loading import Models, clear_cache, fetch_model, get_models
from .noise_schedule import NoiseSchedule

__all__ = [
    "Autoencoder",
    "Denoiser",
    "ModelChoice",
    "Models",
    "NoiseSchedule",
    "choose_model",
    "clear_cache",
    "denoise",
    "fetch_model",
    "get_models",
]
