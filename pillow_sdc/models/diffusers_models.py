"""Stable Diffusion's autoencoder and U-Net, run by diffusers, behind the interfaces of :mod:`.interfaces`.

Loading checks that a model belongs to the latent space of SD v1, so that a file written with one model can be read
with another, and that its denoiser predicts noise, which is what :mod:`.denoising` subtracts.
"""

import copy
import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .failures import computing, finite, loading
from .hub import Part, unavailable
from .noise_schedule import NoiseSchedule
from .once import Once
from .quiet_loading import quiet_loading
from .tensors import PerPicture, for_each, to_array, to_batch, to_tensor

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("pillow_sdc")

# Which scaling factor marks SD v1's latent space; TAESD is trained on scaled latents.
SCALING_FACTORS = {"AutoencoderKL": 0.18215, "AutoencoderTiny": 1.0}


def load_autoencoder(part: Part, device: str, dtype: str) -> "DiffusersAutoencoder":
    """Load an AutoencoderKL or AutoencoderTiny of SD v1's latent space.

    Raises:
        ModelUnavailableError: It is another kind of autoencoder, of another latent space, or its files are damaged.
        ModelFailedError: The device has too little memory.
    """
    network = _load_network(part, tuple(SCALING_FACTORS), dtype)
    # Both kinds of autoencoder halve the resolution between one block and the next.
    downsampling = 2 ** (len(network.config.block_out_channels) - 1)
    wanted = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "downsampling": 8,
        "scaling_factor": SCALING_FACTORS[type(network).__name__],
    }
    _check_family(part, {**network.config, "downsampling": downsampling}, wanted)
    return DiffusersAutoencoder(_place(network, device))


def load_denoiser(
    unet: Part, scheduler: Part, prompt: NDArray[np.float32], device: str, dtype: str
) -> "DiffusersDenoiser":
    """Load an unguided denoiser: a U-Net together with the noise schedule that it was trained on.

    Args:
        unet: A UNet2DConditionModel.
        scheduler: The configuration of any of diffusers' schedulers with a β schedule.
        prompt: The encoding of the empty prompt, float32 ``(tokens, features)``.
        device: Name of a torch device.
        dtype: Name of a torch dtype.

    Raises:
        ModelUnavailableError: It is another kind of U-Net, it predicts something else than noise, or its files are
            damaged.
        ModelFailedError: The device has too little memory.
    """
    schedule = _load_schedule(scheduler)
    network = _load_network(unet, ("UNet2DConditionModel",), dtype)
    wanted = {
        "in_channels": 4,
        "out_channels": 4,
        "cross_attention_dim": prompt.shape[1],
        "addition_embed_type": None,
        "class_embed_type": None,
    }
    _check_family(unet, network.config, wanted)
    return DiffusersDenoiser(unet.model, _place(network, device), schedule, prompt)


class DiffusersAutoencoder:
    """An :class:`~.interfaces.Autoencoder`; where float16 overflows, the picture is computed again in float32."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._float32_network = Once(lambda: copy.deepcopy(network).float())

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        return self._apply(_encode, pixels)

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)``, their noise with the rest."""
        return self._apply(_decode, latents)

    def _apply(
        self, transform: "Callable[[Any, torch.Tensor], torch.Tensor]", array: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        import torch

        with computing("the autoencoder"), torch.inference_mode():
            result = to_array(transform(self._network, to_batch(array, self._network)), array)
            overflowed = ~np.isfinite(result).all((-3, -2, -1))
            if self._network.dtype != torch.float32 and overflowed.any():
                _logger.info("the autoencoder overflowed in %s; computing again in float32", self._network.dtype)
                network = self._float32_network()
                again = array[overflowed]
                result[overflowed] = to_array(transform(network, to_batch(again, network)), again)
        return finite(result, "the autoencoder")


class DiffusersDenoiser:
    """A :class:`~.interfaces.Denoiser`: a U-Net that is told the empty prompt."""

    def __init__(self, name: str, network: Any, schedule: NoiseSchedule, prompt: NDArray[np.float32]) -> None:
        self._name = name
        self._network = network
        self._schedule = schedule
        self._prompt = to_tensor(prompt[np.newaxis], network)

    @property
    def name(self) -> str:
        """The directory or hub id of the model, as the user named it."""
        return self._name

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise schedule that the U-Net was trained on."""
        return self._schedule

    def predict_noise(self, diffused: NDArray[np.float32], timestep: PerPicture) -> NDArray[np.float32]:
        """Return ε, shaped like ``diffused`` ``(…, 4, h, w)``."""
        import torch

        with computing("the U-Net"), torch.inference_mode():
            # In float32, for half precision would round fractional timesteps.
            times = torch.from_numpy(for_each(timestep, diffused).astype(np.float32)).to(self._network.device)
            prompts = self._prompt.expand(len(times), -1, -1)
            noise = to_array(self._network(to_batch(diffused, self._network), times, prompts).sample, diffused)
        return finite(noise, "the U-Net")


def _encode(network: Any, pixels: "torch.Tensor") -> "torch.Tensor":
    encoded = network.encode(pixels)
    # AutoencoderTiny's output is the latents themselves, AutoencoderKL's their distribution.
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return latents.float() * network.config.scaling_factor  # type: ignore[no-any-return]


def _decode(network: Any, latents: "torch.Tensor") -> "torch.Tensor":
    pixels: torch.Tensor = network.decode(latents / network.config.scaling_factor).sample
    return pixels.clamp(-1.0, 1.0)


def _load_network(part: Part, class_names: tuple[str, ...], dtype: str) -> Any:
    """Load one of diffusers' models, complete and in safetensors or not at all; it is left on the CPU."""
    import diffusers
    import torch

    with loading(part):
        class_name = json.loads((part.directory / "config.json").read_text(encoding="utf-8")).get("_class_name")
    if class_name not in class_names:
        raise unavailable(part.model, f"{part.directory.name} is a {class_name}, not {' or '.join(class_names)}")
    with loading(part), quiet_loading():
        network, info = getattr(diffusers, class_name).from_pretrained(
            part.directory,
            variant=part.variant,
            torch_dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        if info["missing_keys"]:  # diffusers would leave them random
            raise ValueError(f"the weights lack {min(info['missing_keys'])}")
    return network.eval().requires_grad_(False)


def _check_family(part: Part, found: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    for name, value in wanted.items():
        if found[name] != value:
            reason = f"its {part.directory.name} is not of the SD v1 family ({name} is {found[name]}, not {value})"
            raise unavailable(part.model, reason)


def _load_schedule(part: Part) -> NoiseSchedule:
    from diffusers import DDIMScheduler

    with loading(part), quiet_loading():
        scheduler: Any = DDIMScheduler.from_pretrained(part.directory, local_files_only=True)
        prediction = scheduler.config.prediction_type
        schedule = NoiseSchedule(scheduler.alphas_cumprod.double().numpy())
    if prediction != "epsilon":
        reason = f"its U-Net predicts {prediction!r}, and only 'epsilon', noise, is supported"
        raise unavailable(part.model, reason)
    return schedule


def _place(network: Any, device: str) -> Any:
    with computing("moving the model to its device"):
        return network.to(device)
