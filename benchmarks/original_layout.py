"""The parts of a saved pipeline as one file, in the layout that Stable Diffusion v1 was published in.

The renaming is our own, from diffusers' names to the published ones, and so checks that of diffusers, which the package
uses the other way round.

python benchmarks/original_layout.py DIRECTORY FILE [--dtype float16]
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

Tensors = dict[str, torch.Tensor]

PREFIXES = {
    "vae": "first_stage_model.",
    "unet": "model.diffusion_model.",
    "text_encoder": "cond_stage_model.transformer.",
}

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


def original_unet(tensors: Mapping[str, torch.Tensor]) -> Tensors:
    """Return the U-Net's tensors by their original names."""
    layers = 1 + max(int(match[1]) for name in tensors if (match := re.match(r"down_blocks\.0\.resnets\.(\d)", name)))
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


def original_tensors(pipeline: Path, dtype: torch.dtype | None = None, variant: str = "") -> Tensors:
    """Return all tensors of a pipeline's checkpoint, by their names in it.

    Args:
        pipeline: The directory of a pipeline in diffusers' layout.
        dtype: That of the checkpoint; that of the pipeline's weights unless given.
        variant: What the names of the pipeline's weights end in, such as ``".fp16"``.
    """
    parts = {
        "vae": original_vae(load_file(pipeline / "vae" / f"diffusion_pytorch_model{variant}.safetensors")),
        "unet": original_unet(load_file(pipeline / "unet" / f"diffusion_pytorch_model{variant}.safetensors")),
        "text_encoder": original_text_encoder(load_file(pipeline / "text_encoder" / f"model{variant}.safetensors")),
    }
    return {
        PREFIXES[part] + name: tensor.to(dtype) if dtype and tensor.is_floating_point() else tensor
        for part, tensors in parts.items()
        for name, tensor in tensors.items()
    }


def save(tensors: Mapping[str, torch.Tensor], path: Path, **metadata: Any) -> Path:
    """Save tensors with metadata, and return ``path``."""
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
    if match is None:
        raise ValueError(f"{name} is not a tensor of this family's U-Net")
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


def main() -> None:
    """Write the checkpoint of a pipeline, whose weights are of one dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32")
    arguments = parser.parse_args()
    variant = ".fp16" if arguments.dtype == "float16" else ""
    partial = arguments.file.with_suffix(".partial")
    save(original_tensors(arguments.directory, variant=variant), partial)
    partial.rename(arguments.file)


if __name__ == "__main__":
    main()
