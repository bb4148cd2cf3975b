"""The text encoder's encoding of the empty prompt, which an unguided U-Net is given at every step.

It takes half a gigabyte of text encoder to compute these 231 kB once; so they are kept on disk, beside the hub's
cache, and later processes load neither tokenizer nor text encoder.
"""

import hashlib
import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...runtime.libraries import imported
from ..failures import computing, finite, loading
from .checkpoint import fill, mapped
from .hub import Part
from .quiet_loading import quiet_loading

_NAME = "empty_prompt"
_CHECKSUM = "sha256"
_logger = logging.getLogger("pillow_sdc")


def encode_empty_prompt(tokenizer: Part | None, text_encoder: Part) -> NDArray[np.float32]:
    """Return the encoding of ``""`` padded to the tokenizer's full length, float32 ``(tokens, features)``.

    It is computed in float32 on the CPU, so that it is the same whatever the device.

    Args:
        tokenizer: The model's own; without one, the text is its beginning and then nothing but its end, as CLIP's
            tokenizer has it, by the numbers in the text encoder's configuration: 49406, then 49407 to 77 in all.
        text_encoder: A CLIPTextModel.

    Raises:
        ModelUnavailableError: The files of the tokenizer or the text encoder are damaged, or transformers is broken.
        ModelFailedError: The computation failed, or gave values that are not finite.
    """
    path = _path_for(tokenizer, text_encoder)
    encoding = _read(path)
    if encoding is None:
        encoding = _compute(tokenizer, text_encoder)
        _keep(encoding, path)
    return encoding


def _path_for(tokenizer: Part | None, text_encoder: Part) -> Path:
    """Name the cache file after the files that its content follows from.

    In the hub's cache they resolve to blobs named by their content; elsewhere a file that was replaced has another
    size or time.
    """
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256()
    for file in (*(tokenizer.files if tokenizer else ()), *text_encoder.files):
        status = file.stat()
        key.update(f"{os.path.realpath(file)}\n{status.st_size}\n{status.st_mtime_ns}\n".encode())
    return Path(HF_HOME, "pillow_sdc", _NAME, f"{key.hexdigest()}.safetensors")


def _read(path: Path) -> NDArray[np.float32] | None:
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            encoding: NDArray[np.float32] = file.get_tensor(_NAME)
            intact = file.metadata() == {_CHECKSUM: _checksum(encoding)}
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged file makes the library raise
        _logger.info("computing the empty prompt's encoding again, for %s cannot be read: %s", path, error)
        return None
    return encoding if intact else None


def _compute(tokenizer: Part | None, text_encoder: Part) -> NDArray[np.float32]:
    import torch

    transformers = imported("transformers", "CLIPTextConfig", "CLIPTextModel")
    tokens = tokenizer and _tokens_by(tokenizer)
    with loading(text_encoder), quiet_loading():
        config = transformers.CLIPTextConfig.from_pretrained(text_encoder.directory, local_files_only=True)
        with torch.device("meta"):  # and not by from_pretrained, which sets the default dtype of the whole process
            network = transformers.CLIPTextModel(config)
        prefix = "text_model." if any(name.startswith("text_model.") for name in network.state_dict()) else ""
        stored = mapped(text_encoder.weights, text_encoder.prefix)
        tensors = {prefix + name.removeprefix("text_model."): tensor for name, tensor in stored.items()}
        fill(network, tensors, torch.float32)
        network.eval()
        tokens = tokens or [config.bos_token_id, *[config.eos_token_id] * (config.max_position_embeddings - 1)]
    with computing("the text encoder"), torch.inference_mode():
        positions = torch.arange(len(tokens))[None]  # which are no weights: the network's own are on meta
        encoding: NDArray[np.float32] = network(torch.tensor([tokens]), position_ids=positions)[0][0].numpy()
    return finite(encoding, "the text encoder")


def _tokens_by(tokenizer: Part) -> list[int]:
    """Return the numbers of the tokens of ``""``, padded to the tokenizer's full length."""
    transformers = imported("transformers", "CLIPTokenizer")
    with loading(tokenizer), quiet_loading():
        tokenize = transformers.CLIPTokenizer.from_pretrained(tokenizer.directory, local_files_only=True)
        length = tokenize.model_max_length
        tokens: list[int] = tokenize("", padding="max_length", max_length=length, truncation=True).input_ids
        return tokens


def _keep(encoding: NDArray[np.float32], path: Path) -> None:
    """Write the cache file, whole or not at all; a cache that cannot be written is no reason to fail."""
    from safetensors.numpy import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as directory:
            complete = Path(directory, path.name)
            complete.write_bytes(save({_NAME: encoding}, {_CHECKSUM: _checksum(encoding)}))
            complete.replace(path)
    except OSError as error:
        _logger.info("cannot keep the empty prompt's encoding in %s: %s", path, error)


def _checksum(encoding: NDArray[np.float32]) -> str:
    """Return that of the shape and the values: a file that a full disk cut short may be padded with zeros."""
    return hashlib.sha256(f"{encoding.dtype} {encoding.shape}".encode() + encoding.tobytes()).hexdigest()
