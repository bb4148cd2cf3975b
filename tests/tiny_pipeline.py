"""A Stable Diffusion v1 pipeline with random weights, a few hundred kilobytes in all, in diffusers' layout."""

import json
from pathlib import Path

PROMPT_TOKENS = 16
PROMPT_FEATURES = 16

# What stable-diffusion-v1-4 has in scheduler/scheduler_config.json.
SCHEDULER_CONFIG = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def save_tiny_pipeline(directory: Path) -> Path:
    """Save the pipeline, its weights in float32 and as fp16 variant, and return ``directory``."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = {
            "vae": AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(8, 8, 8, 8),
                latent_channels=4,
                norm_num_groups=4,
            ),
            "unet": UNet2DConditionModel(
                sample_size=8,
                down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
                up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
                block_out_channels=(8, 8, 8, 8),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=PROMPT_FEATURES,
                attention_head_dim=4,
            ),
            "text_encoder": CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=54,
                    hidden_size=PROMPT_FEATURES,
                    intermediate_size=16,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    max_position_embeddings=PROMPT_TOKENS,
                    bos_token_id=52,
                    eos_token_id=53,
                )
            ),
        }
    for name, network in parts.items():
        network.half().save_pretrained(directory / name, variant="fp16")
        network.float().save_pretrained(directory / name)
    _save_tokenizer(directory / "tokenizer")
    _save_json(SCHEDULER_CONFIG, directory / "scheduler" / "scheduler_config.json")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    _save_json(index, directory / "model_index.json")
    return directory


def _save_tokenizer(directory: Path) -> None:
    start, end = "<|startoftext|>", "<|endoftext|>"
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    vocabulary = [*letters, *(f"{letter}</w>" for letter in letters), start, end]
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    _save_json({token: index for index, token in enumerate(vocabulary)}, directory / "vocab.json")
    (directory / "merges.txt").write_text("#version: 0.2\n")
    _save_json(special, directory / "special_tokens_map.json")
    config = {**special, "model_max_length": PROMPT_TOKENS, "tokenizer_class": "CLIPTokenizer"}
    _save_json(config, directory / "tokenizer_config.json")


def _save_json(content: dict[str, object] | dict[str, int] | dict[str, str], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2))
