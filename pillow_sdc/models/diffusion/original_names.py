"""From the names that Stable Diffusion's tensors were published with to those of diffusers, by diffusers itself."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def with_diffusers_names(tensors: "Mapping[str, torch.Tensor]", network: Any) -> "dict[str, torch.Tensor]":
    """Return the tensors of a part by the names, and in the shapes, that diffusers has for them; nothing is copied.

    Attention of the autoencoder was published as convolutions of 1×1, ``(C, C, 1, 1)``, which diffusers has as
    matrices ``(C, C)``.

    Args:
        tensors: By their original names, without the part's prefix.
        network: An AutoencoderKL or a UNet2DConditionModel.
    """
    from diffusers.loaders import single_file_utils

    if type(network).__name__ == "UNet2DConditionModel":
        named = {single_file_utils.LDM_UNET_KEY + name: tensor for name, tensor in tensors.items()}
        return single_file_utils.convert_ldm_unet_checkpoint(named, network.config)  # type: ignore[no-any-return]
    return single_file_utils.convert_ldm_vae_checkpoint(dict(tensors), network.config)  # type: ignore[no-any-return]
