"""The teacher, the autoencoder that the networks learn from, and our own trained encoder."""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from safetensors.torch import load_file
from torch import Tensor, nn

from pillow_sdc.models import compact

from .networks import Encoder
from .precision import mixed_precision

Encode = Callable[[Tensor], Tensor]
"""A function from pixels ``(n, 3, 8h, 8w)`` to latents ``(n, 4, h, w)``."""


class Teacher:
    """An AutoencoderTiny. In bfloat16 its mean squared error is 1e-4, far below what a student can reach."""

    def __init__(self, directory: Path, device: torch.device) -> None:
        network = AutoencoderTiny.from_pretrained(directory, local_files_only=True)
        self.device = device
        self._network = network.eval().to(device, memory_format=torch.channels_last)
        self.encoder_layers: nn.Sequential = network.encoder.layers
        self.decoder_layers: nn.Sequential = network.decoder.layers

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return the latents ``(n, 4, h, w)`` of pixels ``(n, 3, 8h, 8w)``."""
        with mixed_precision(self.device):
            return self._network.encode(pixels).latents.float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the pixels of latents, clamped."""
        return self.decode_unclamped(latents).clamp(-1, 1)

    @torch.inference_mode()
    def decode_unclamped(self, latents: Tensor) -> Tensor:
        """Return the pixels of latents, some of them beyond [−1, 1]."""
        with mixed_precision(self.device):
            return self._network.decode(latents).sample.float()

    @torch.no_grad()
    def activations(self, latents: Tensor) -> list[Tensor]:
        """Return the decoder's input and the outputs of all its layers, for latents that are squashed already."""
        made = [latents.contiguous(memory_format=torch.channels_last)]
        with mixed_precision(self.device):
            for layer in self.decoder_layers:
                made.append(layer(made[-1]))
        return [each.float() for each in made]


def own_encoder(device: torch.device, weights: Path | None = None) -> Encode:
    """Return our own encoder as a function without gradients.

    Args:
        device: Device of pixels and latents.
        weights: Exported weights; by default the package's encoder in 8 bits.
    """
    if weights is None:
        autoencoder = compact.CompactAutoencoder(compact.usable_device(str(device)))
        return lambda pixels: torch.from_numpy(autoencoder.encode(pixels.cpu().numpy())).to(device)
    network = Encoder().to(device, memory_format=torch.channels_last)
    network.load_state_dict(load_file(weights))

    @torch.inference_mode()
    def encode(pixels: Tensor) -> Tensor:
        with mixed_precision(device):
            return network(pixels).float()  # type: ignore[no-any-return]

    return encode
