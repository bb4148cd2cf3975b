"""The parts of a saved pipeline as one file, in the layout that Stable Diffusion v1 was published in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from pillow_sdc.models.diffusion.original_checkpoint import PREFIXES

Tensors = dict[str, torch.Tensor]

LAYERS_PER_BLOCK = 1
"""Those of the small pipeline's U-Net; SD v1's has 2."""

_OF_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OF_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OF_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def original_unet(tensors: Mapping[str, torch.Tensor], layers: int = LAYERS_PER_BLOCK) -> Tensors:
    return {_unet_name(name, layers): tensor for name, tensor in tensors.items()}


def original_vae(tensors: Mapping[str, torch.Tensor], *, convolutions: bool = True) -> Tensors:
    """Return the autoencoder's tensors; its attention as convolutions of 1×1, as published, or as matrices."""
    renamed = {_vae_name(name): tensor for name, tensor in tensors.items()}
    return {
        name: tensor[:, :, None, None] if convolutions and ".attn_1." in name and tensor.ndim == 2 else tensor
        for name, tensor in renamed.items()
    }


def original_text_encoder(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the text encoder's tensors, with the positions that the published file has among them."""
    renamed = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}
    positions = renamed["text_model.embeddings.position_embedding.weight"].shape[0]
    return renamed | {"text_model.embeddings.position_ids": torch.arange(positions)[None]}


def original_tensors(pipeline: Path, dtype: torch.dtype = torch.float32) -> Tensors:
    """Return all tensors of a pipeline's checkpoint, by their names in it."""
    parts = {
        "vae": original_vae(load_file(pipeline / "vae" / "diffusion_pytorch_model.safetensors")),
        "unet": original_unet(load_file(pipeline / "unet" / "diffusion_pytorch_model.safetensors")),
        "text_encoder": original_text_encoder(load_file(pipeline / "text_encoder" / "model.safetensors")),
    }
    return {
        PREFIXES[part] + name: tensor.to(dtype) if tensor.is_floating_point() else tensor  # type: ignore[index]
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def save(tensors: Mapping[str, torch.Tensor], path: Path, **metadata: Any) -> Path:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata=metadata or None)
    return path


def _unet_name(name: str, layers: int) -> str:
    for part, original in _OF_UNET.items():
        if name.startswith(f"{part}."):
            return original + name.removeprefix(part)
    if match := re.fullmatch(r"mid_block\.(resnets|attentions)\.(\d)\.(.+)", name):
        kind, number, rest = match.groups()
        return f"middle_block.{1 if kind == 'attentions' else 2 * int(number)}.{_inside(kind, rest)}"
    if match := re.fullmatch(r"down_blocks\.(\d)\.downsamplers\.0\.conv\.(.+)", name):
        return f"input_blocks.{(int(match[1]) + 1) * (layers + 1)}.0.op.{match[2]}"
    if match := re.fullmatch(r"up_blocks\.(\d)\.upsamplers\.0\.conv\.(.+)", name):
        block = int(match[1])
        return f"output_blocks.{block * (layers + 1) + layers}.{1 if block == 0 else 2}.conv.{match[2]}"
    match = re.fullmatch(r"(down|up)_blocks\.(\d)\.(resnets|attentions)\.(\d)\.(.+)", name)
    assert match is not None, name
    way, block, kind, layer, rest = match.groups()
    number = int(block) * (layers + 1) + int(layer) + (1 if way == "down" else 0)
    place = f"{'input' if way == 'down' else 'output'}_blocks.{number}.{int(kind == 'attentions')}"
    return f"{place}.{_inside(kind, rest)}"


def _inside(kind: str, rest: str) -> str:
    return rest if kind == "attentions" else _replaced(rest, _OF_RESNET)


def _vae_name(name: str) -> str:
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda match: f"mid.block_{int(match[1]) + 1}", name)
    if match := re.fullmatch(r"(.*)mid_block\.attentions\.0\.(.+)", name):
        return f"{match[1]}mid.attn_1.{_replaced(match[2], _OF_ATTENTION)}"
    name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda match: f"up.{3 - int(match[1])}.block.{match[2]}", name)
    return re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda match: f"up.{3 - int(match[1])}.upsample", name)


def _replaced(name: str, names: Mapping[str, str]) -> str:
    for part, original in names.items():
        if name.startswith(f"{part}."):
            return original + name.removeprefix(part)
    return name
