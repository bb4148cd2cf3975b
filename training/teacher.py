"""The autoencoder that the networks learn from."""

from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from torch import Tensor


class Teacher:
    """An AutoencoderTiny, computing in bfloat16: off by a mean square of 1e-4, far less than a student can learn."""

    def __init__(self, directory: Path) -> None:
        network = AutoencoderTiny.from_pretrained(directory, local_files_only=True)
        self._network = network.eval().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """Return the latents ``(n, 4, h, w)`` of pixels ``(n, 3, 8h, 8w)``."""
        with torch.autocast("cpu", torch.bfloat16):
            return self._network.encode(pixels).latents.float()

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """Return the pixels of latents, clamped."""
        with torch.autocast("cpu", torch.bfloat16):
            return self._network.decode(latents).sample.float().clamp(-1, 1)
