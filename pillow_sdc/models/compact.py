"""The embedded model: small networks of our own in SD v1's latent space, whose weights come with the package.

How they were trained, on what, and what they are bad at: ``training/MODEL_CARD.md``.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelUnavailableError
from ..options import Settings
from .compilation import CompiledOnRecurrence
from .failures import computing, finite
from .noise_schedule import NoiseSchedule
from .tensors import PerPicture, for_each, spread, to_array, to_batch, to_tensor

if TYPE_CHECKING:
    import torch

NAME = "compact"

WEIGHTS = Path(__file__).parent / "weights"

CHECKSUMS = "SHA256SUMS"
"""What :data:`WEIGHTS` holds, as ``sha256sum`` writes it; a file other than the released one is not loaded."""


def load_autoencoder(device: str, dtype: str) -> "CompactAutoencoder":
    """Load the embedded encoder and decoder.

    Raises:
        ModelUnavailableError: The installation is damaged.
        ModelFailedError: The device has too little memory.
    """
    return CompactAutoencoder(_load("encoder", device, dtype), _load("decoder", device, dtype))


def load_denoiser(device: str, dtype: str) -> "CompactDenoiser":
    """Load the embedded denoiser.

    Raises:
        ModelUnavailableError: The installation is damaged.
        ModelFailedError: The device has too little memory.
    """
    return CompactDenoiser(_load("denoiser", device, dtype))


class CompactAutoencoder:
    """An :class:`~.interfaces.Autoencoder` whose decoder was trained on noisy latents and removes the noise itself.

    The encoder marks its latents, and the decoder paints those with the mark sharper than others; see
    :mod:`~.signature`.
    """

    def __init__(self, encoder: Any, decoder: Any) -> None:
        self._encoder = encoder
        self._decoder = decoder
        self._run_encoder: Callable[..., torch.Tensor] = _run
        self._run_decoder: Callable[..., torch.Tensor] = _run

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        import torch

        from .signature import signed

        with computing("the encoder"), torch.inference_mode():
            latents = self._run_encoder(self._encoder, to_batch(pixels, self._encoder))
            signed_latents = to_array(signed(latents.float()), pixels)
        return finite(signed_latents, "the encoder")

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)`` with noise of that variance in them."""
        import torch

        from .signature import recognise

        with computing("the decoder"), torch.inference_mode():
            variances = to_tensor(for_each(noise_variance, latents), self._decoder)
            unsigned, foreign = recognise(to_batch(latents, self._decoder))
            pixels = self._run_decoder(self._decoder, unsigned, variances, foreign)
            decoded = to_array(pixels.clamp(-1.0, 1.0), latents)
        return finite(decoded, "the decoder")

    def compile(self) -> None:
        """From now on, compile the networks for shapes that recur."""
        self._run_encoder, self._run_decoder = CompiledOnRecurrence(_run), CompiledOnRecurrence(_run)


class CompactDenoiser:
    """A :class:`~.interfaces.Denoiser` for low noise, up to timestep 200, and above all for that of quantisation."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._schedule = NoiseSchedule.scaled_linear()
        self._run: Callable[..., torch.Tensor] = _run

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
        import torch

        alpha = self._schedule.alpha_cumprod(timestep)
        with computing("the denoiser"), torch.inference_mode():
            variances = to_tensor(for_each((1 - alpha) / alpha, diffused), self._network)
            scaled = to_batch(diffused / spread(alpha**0.5), self._network)
            noise = to_array(self._run(self._network, scaled, variances), diffused)
        return finite(noise, "the denoiser")

    def compile(self) -> None:
        """From now on, compile the network for shapes that recur; the steps of a single picture are no recurrence."""
        self._run = CompiledOnRecurrence(_run, Settings().denoise_steps)


def _run(network: Any, *tensors: "torch.Tensor") -> "torch.Tensor":
    return network(*tensors)  # type: ignore[no-any-return]


def _load(name: str, device: str, dtype: str) -> Any:
    """Load one of the networks, if its file is the one that was released."""
    import torch
    from safetensors.torch import load

    from . import compact_networks

    path = WEIGHTS / f"{name}.safetensors"
    try:
        data = path.read_bytes()
        released = (WEIGHTS / CHECKSUMS).read_text(encoding="ascii").splitlines()
        if f"{hashlib.sha256(data).hexdigest()}  {path.name}" not in released:
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{path} is damaged or missing ({error}); install pillow-sdc again") from error
    with computing("moving the model to its device"):
        with torch.device("meta"):
            network: torch.nn.Module = getattr(compact_networks, name.capitalize())()
        network.load_state_dict(load(data), assign=True)
        network = network.eval().requires_grad_(False).to(torch.device(device), getattr(torch, dtype))
        # Convolutions are faster in this memory layout, whatever their input's.
        return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
