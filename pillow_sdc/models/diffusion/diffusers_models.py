"""Stable Diffusion's autoencoder and U-Net, run by diffusers, behind the interfaces of :mod:`.interfaces`.

Loading checks that a model belongs to the latent space of SD v1, so that a file written with one model can be read
with another, and that its denoiser predicts noise, which is what :mod:`.denoising` subtracts.
"""

import copy
import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...options import Settings
from ...runtime.accelerators import CPU, type_of
from ...runtime.compilation import CompiledOnRecurrence
from ...runtime.lazy import Lazy
from ..arrays import PerPicture, for_each
from ..failures import computing, finite, loading
from ..noise_schedule import NoiseSchedule
from .checkpoint import check_tensors, fill, mapped
from .hub import Part, unavailable
from .original_names import with_diffusers_names
from .quiet_loading import quiet_loading
from .tensors import to_array, to_batch, to_tensor

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("pillow_sdc")

PIXELS_IN_A_PASS_ON_ACCELERATORS, PIXELS_IN_A_PASS_ON_THE_CPU = 8 * 512 * 512, 512 * 512
"""Pixels that an autoencoder takes at a time, whatever the batch, but one picture at least.

At full resolution SD's needs half a gigabyte for each 512×512 of them in half precision; eight keep a GPU busy, and a
CPU is no faster with many.
"""

# Which scaling factor marks SD v1's latent space; TAESD is trained on scaled latents.
SCALING_FACTORS = {"AutoencoderKL": 0.18215, "AutoencoderTiny": 1.0}

_DOWNSAMPLING = 8


def load_autoencoder(part: Part, device: str, dtype: str) -> "DiffusersAutoencoder":
    """Load an AutoencoderKL or AutoencoderTiny of SD v1's latent space.

    Raises:
        ModelUnavailableError: It is another kind of autoencoder, of another latent space, or its files are damaged.
        ModelFailedError: The device has too little memory.
    """
    with loading(part):
        network = _filled(_empty_autoencoder(part), part, dtype)
    return DiffusersAutoencoder(_place(network, device))


def check_autoencoder(part: Part) -> None:
    """Check whether :func:`load_autoencoder` would load it, without reading its weights.

    Raises:
        ModelUnavailableError: As there.
    """
    with loading(part):
        network = _empty_autoencoder(part)
        check_tensors(network, _tensors_for(network, part))


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
    with loading(unet):
        network = _empty_unet(unet)
        _check_family(unet, network.config, {"cross_attention_dim": prompt.shape[1]})
        network = _filled(network, unet, dtype)
    return DiffusersDenoiser(unet.model, _place(network, device), schedule, prompt)


def check_denoiser(unet: Part, scheduler: Part) -> None:
    """Check whether :func:`load_denoiser` would load them, without reading the weights.

    Raises:
        ModelUnavailableError: As there.
    """
    _load_schedule(scheduler)
    with loading(unet):
        network = _empty_unet(unet)
        check_tensors(network, _tensors_for(network, unet))


class DiffusersAutoencoder:
    """An :class:`~.interfaces.Autoencoder`; where float16 overflows, the picture is computed again in float32."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._float32_network = Lazy(lambda: copy.deepcopy(network).float())
        self._encode: Callable[[Any, torch.Tensor], torch.Tensor] = _encode
        self._decode: Callable[[Any, torch.Tensor], torch.Tensor] = _decode

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        return self._apply(self._encode, pixels, math.prod(pixels.shape[-2:]))

    def decode(self, latents: NDArray[np.float32], noise_variance: PerPicture = 0.0) -> NDArray[np.float32]:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)``, their noise with the rest."""
        return self._apply(self._decode, latents, _DOWNSAMPLING**2 * math.prod(latents.shape[-2:]))

    def compile(self) -> None:
        """From now on, compile the network for shapes that recur."""
        self._encode, self._decode = CompiledOnRecurrence(_encode), CompiledOnRecurrence(_decode)

    def _apply(
        self,
        transform: "Callable[[Any, torch.Tensor], torch.Tensor]",
        array: NDArray[np.float32],
        pixels_in_a_picture: int,
    ) -> NDArray[np.float32]:
        import torch

        def apply(network: Any, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
            batch = to_batch(pictures, network)
            is_on_cpu = batch.device.type == CPU
            pixels_in_a_pass = PIXELS_IN_A_PASS_ON_THE_CPU if is_on_cpu else PIXELS_IN_A_PASS_ON_ACCELERATORS
            slices = torch.split(batch, max(1, pixels_in_a_pass // pixels_in_a_picture))
            return to_array(torch.cat([transform(network, each) for each in slices]), pictures)

        with computing("the autoencoder"), torch.inference_mode():
            result = apply(self._network, array)
            overflowed = ~np.isfinite(result).all((-3, -2, -1))
            if self._network.dtype != torch.float32 and overflowed.any():
                _logger.info("the autoencoder overflowed in %s; computing again in float32", self._network.dtype)
                result[overflowed] = apply(self._float32_network(), array[overflowed])
        return finite(result, "the autoencoder")


class DiffusersDenoiser:
    """A :class:`~.interfaces.Denoiser`: a U-Net that is given the empty prompt."""

    def __init__(self, name: str, network: Any, schedule: NoiseSchedule, prompt: NDArray[np.float32]) -> None:
        self._name = name
        self._network = network
        self._schedule = schedule
        with computing("moving the prompt to the device"):
            self._prompt = to_tensor(prompt[np.newaxis], network)
        self._predict: Callable[..., torch.Tensor] = _predict

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
            times = to_tensor(for_each(timestep, diffused), self._network, torch.float32)
            prompts = self._prompt.expand(len(times), -1, -1)
            noise = to_array(self._predict(self._network, to_batch(diffused, self._network), times, prompts), diffused)
        return finite(noise, "the U-Net")

    def compile(self) -> None:
        """From now on, compile the network for shapes that recur; the steps of a single picture are no recurrence."""
        self._predict = CompiledOnRecurrence(_predict, Settings().denoise_steps)


def _encode(network: Any, pixels: "torch.Tensor") -> "torch.Tensor":
    encoded = network.encode(pixels)
    # AutoencoderTiny's output is the latents themselves, AutoencoderKL's their distribution.
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    return latents.float() * network.config.scaling_factor  # type: ignore[no-any-return]


def _decode(network: Any, latents: "torch.Tensor") -> "torch.Tensor":
    pixels: torch.Tensor = network.decode(latents / network.config.scaling_factor).sample
    return pixels.clamp(-1.0, 1.0)


def _predict(network: Any, diffused: "torch.Tensor", times: "torch.Tensor", prompts: "torch.Tensor") -> "torch.Tensor":
    return network(diffused, times, prompts).sample  # type: ignore[no-any-return]


def _empty_autoencoder(part: Part) -> Any:
    network = _empty_network(part, tuple(SCALING_FACTORS))
    # Both kinds of autoencoder halve the resolution between one block and the next.
    downsampling = 2 ** (len(network.config.block_out_channels) - 1)
    wanted = {
        "in_channels": 3,
        "out_channels": 3,
        "latent_channels": 4,
        "downsampling": _DOWNSAMPLING,
        "scaling_factor": SCALING_FACTORS[type(network).__name__],
    }
    _check_family(part, {**network.config, "downsampling": downsampling}, wanted)
    return network


def _empty_unet(part: Part) -> Any:
    network = _empty_network(part, ("UNet2DConditionModel",))
    wanted = {"in_channels": 4, "out_channels": 4, "addition_embed_type": None, "class_embed_type": None}
    _check_family(part, network.config, wanted)
    return network


def _empty_network(part: Part, class_names: tuple[str, ...]) -> Any:
    """Return one of diffusers' models as its configuration says, its tensors on the device ``meta``.

    Not by ``from_pretrained``, which meanwhile replaces functions of torch for all threads of the process.
    """
    import diffusers
    import torch

    config = json.loads((part.directory / "config.json").read_text(encoding="utf-8"))
    class_name = config.get("_class_name")
    if class_name not in class_names:
        raise unavailable(part.model, f"{part.directory.name} is a {class_name}, not {' or '.join(class_names)}")
    with quiet_loading(), torch.device("meta"):
        return getattr(diffusers, class_name).from_config(config)


def _filled(network: Any, part: Part, dtype: str) -> Any:
    """Return an empty network with the weights of its part; it is left on the CPU."""
    import torch

    fill(network, _tensors_for(network, part), getattr(torch, dtype))
    return network.eval().requires_grad_(False)


def _tensors_for(network: Any, part: Part) -> "dict[str, torch.Tensor]":
    """Return the tensors of a part by the names that a network of diffusers has for them."""
    tensors = mapped(part.weights, part.prefix)
    if part.has_original_names:
        return with_diffusers_names(tensors, network)
    return {_present_name(name): tensor for name, tensor in tensors.items()}


_ATTENTION_OF_2022 = re.compile(r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.")
_PRESENT_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _present_name(name: str) -> str:
    """Return the name that diffusers has for a tensor today; in 2022, as in SD v1.4, it had others for attention."""
    return _ATTENTION_OF_2022.sub(lambda match: f"{match[1]}.{_PRESENT_NAMES[match[2]]}.", name)


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
    import torch
    from diffusers.models.attention_processor import AttnProcessor2_0

    if hasattr(network, "set_attn_processor"):  # AutoencoderTiny has no attention
        # Fused, whatever diffusers takes by default: no weight of each latent for each other is held in memory.
        network.set_attn_processor(AttnProcessor2_0())
    with computing("moving the model to its device"):
        network.to(device)
        if type_of(device) == "cuda":
            network.to(memory_format=torch.channels_last)  # the layout that its convolutions compute in
        return network
