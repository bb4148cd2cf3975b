"""A pipeline of Stable Diffusion v1.4's architecture and size with random weights, in diffusers' layout.

It takes the time and the memory that v1.4 itself takes, and needs no download. Its pictures mean nothing.

python benchmarks/full_size_pipeline.py DIRECTORY [--dtype float16]
"""

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 512
DTYPES = ("float32", "float16")
PARAMETERS = {"unet": 859_520_964, "vae": 83_653_863, "text_encoder": 123_060_480}
"""Numbers of parameters of the parts of CompVis/stable-diffusion-v1-4."""


@dataclass(frozen=True)
class Architecture:
    """What tells networks of this family apart in size.

    Attributes:
        autoencoder: Channels of the autoencoder at each of its four resolutions.
        unet: Likewise of the U-Net.
        features: Of each token of the text encoder, and 64 for each of its heads.
        text_layers: Of the text encoder.
    """

    autoencoder: tuple[int, int, int, int]
    unet: tuple[int, int, int, int]
    features: int
    text_layers: int


V1_4 = Architecture((128, 256, 512, 512), (320, 640, 1280, 1280), features=768, text_layers=12)
TINY = Architecture((32, 32, 32, 32), (32, 32, 32, 32), features=64, text_layers=1)
"""For trying out a benchmark."""

_VOCABULARY_SIZE = 49_408
_PROMPT_TOKENS = 77
_START, _END = "<|startoftext|>", "<|endoftext|>"
_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def is_complete(directory: Path) -> bool:
    """Tell whether :func:`save_pipeline` has finished in this directory."""
    return (directory / "model_index.json").is_file()


def save_pipeline(directory: Path, dtype: str, architecture: Architecture = V1_4) -> None:
    """Save the pipeline, its weights named as v1.4's are: the variant ``fp16`` for float16, else no variant."""
    import diffusers
    import torch
    import transformers

    diffusers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    for name, build in (("vae", _build_autoencoder), ("unet", _build_unet), ("text_encoder", _build_text_encoder)):
        network = build(architecture)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if architecture == V1_4 and parameters != PARAMETERS[name]:
            raise ValueError(f"the {name} has {parameters:,} parameters, that of v1.4 {PARAMETERS[name]:,}")
        variant = "fp16" if dtype == "float16" else None
        network.to(getattr(torch, dtype)).save_pretrained(directory / name, variant=variant)
        del network  # before the next is built
    _save_tokenizer(directory / "tokenizer")
    diffusers.PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(directory / "scheduler")
    _save_json(_INDEX, directory / "model_index.json")  # last: it marks the directory as complete


def made_up_picture(seed: int) -> NDArray[np.uint8]:
    """Return noise ``(512, 512, 3)`` whose amplitudes fall with the frequency as a photograph's do, like 1/f."""
    frequencies = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None, :])
    frequencies[0, 0] = np.inf  # no constant part
    noise = np.random.default_rng(seed).standard_normal((3, SIDE, SIDE))
    planes = np.fft.irfft2(np.fft.rfft2(noise) / frequencies, (SIDE, SIDE))
    samples: NDArray[np.uint8] = np.clip(128 + 48 * planes / planes.std(), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.moveaxis(samples, 0, 2))


def _build_autoencoder(architecture: Architecture) -> Any:
    from diffusers import AutoencoderKL

    network = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=architecture.autoencoder,
        layers_per_block=2,
        latent_channels=4,
        sample_size=SIDE,
        scaling_factor=0.18215,
    )
    _whiten_latents(network.eval())
    return network


def _whiten_latents(network: Any) -> None:
    """Make a random encoder's latents as white as a trained one's: of mean 0 and variance 1, uncorrelated.

    As they come, the latents hardly vary, so that quantising them leaves less noise than the least the U-Net knows of,
    and nothing would be denoised. So the means' rows of ``quant_conv``, a 1×1 convolution, are multiplied with the
    whitening matrix of one picture's latents.
    """
    import torch

    pixels = torch.from_numpy(made_up_picture(0)).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        latents = network.encode(pixels).latent_dist.mode()[0].flatten(1).double()
        variances, directions = torch.linalg.eigh(torch.cov(latents))
        whitening = directions / variances.sqrt() @ directions.T / network.config.scaling_factor
        weight, bias = network.quant_conv.weight, network.quant_conv.bias
        weight[:4] = (whitening @ weight[:4].flatten(1).double()).reshape(weight[:4].shape)
        bias[:4] = whitening @ (bias[:4].double() - latents.mean(1))


def _build_unet(architecture: Architecture) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=64,
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        block_out_channels=architecture.unet,
        layers_per_block=2,
        cross_attention_dim=architecture.features,
        attention_head_dim=8,
    )


def _build_text_encoder(architecture: Architecture) -> Any:
    """Build the text half of CLIP, in v1.4 that of ViT-L/14."""
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=_VOCABULARY_SIZE,
            hidden_size=architecture.features,
            intermediate_size=4 * architecture.features,
            projection_dim=architecture.features,
            num_hidden_layers=architecture.text_layers,
            num_attention_heads=architecture.features // 64,
            max_position_embeddings=_PROMPT_TOKENS,
            bos_token_id=_VOCABULARY_SIZE - 2,
            eos_token_id=_VOCABULARY_SIZE - 1,
        )
    )


def _save_tokenizer(directory: Path) -> None:
    """Save the files of v1.4's tokenizer; the made-up vocabulary has CLIP's size and only words of two letters."""
    letters = [chr(0x100 + byte) for byte in range(256)]
    merged = _VOCABULARY_SIZE - 2 * len(letters) - 2
    merges = list(itertools.islice(itertools.product(letters, letters), merged))
    words = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges), _START, _END]
    special = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
    _save_json({word: token for token, word in enumerate(words)}, directory / "vocab.json")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (directory / "merges.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _save_json(special, directory / "special_tokens_map.json")
    config = {**special, "model_max_length": _PROMPT_TOKENS, "tokenizer_class": "CLIPTokenizer"}
    _save_json(config, directory / "tokenizer_config.json")


def _save_json(content: object, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def main() -> None:
    """Save the pipeline that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help="of the weights (default: %(default)s)")
    arguments = parser.parse_args()
    save_pipeline(arguments.directory, arguments.dtype)


if __name__ == "__main__":
    main()
