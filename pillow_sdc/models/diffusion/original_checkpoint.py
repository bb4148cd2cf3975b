"""What a checkpoint in one file is, by the names and shapes of its tensors: Stable Diffusion v1, or something else.

That is the layout in which Stable Diffusion was published and in which AUTOMATIC1111, ComfyUI and model sites keep it:
the autoencoder's tensors under ``first_stage_model.``, the U-Net's under ``model.diffusion_model.``, the text encoder's
under ``cond_stage_model.``. Only the header of a safetensors file is read, so a folder full of checkpoints is looked
through in no time; no library is imported.
"""

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from .checkpoint import LFS_POINTER, unreadable
from .layout import DamagedFileError, PartName

SUFFIX = ".safetensors"

PICKLES = (".ckpt", ".pt", ".pth", ".bin")
"""Suffixes of files that torch pickles."""

PREFIXES: dict[PartName, str] = {
    "vae": "first_stage_model.",
    "unet": "model.diffusion_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
"""What the names of a part's tensors begin with in a checkpoint of Stable Diffusion v1."""

MAX_HEADER_BYTES = 16 * 2**20
"""Those of a checkpoint of Stable Diffusion v1 with all its training state take 0.3 MB."""

_ZIP, _TORCH_BEFORE_ZIP = b"PK\x03\x04", b"\x80\x02\x8a\n"
"""What torch's pickles begin with; as the length of a header either would be too large."""

_MAX_DIMENSIONS = 8
_MAX_YAML_BYTES = 2**16

_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}
"""Bytes of a number by safetensors' name of its type; types that pack several into a byte are not here."""

_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"} | dict.fromkeys(
    ("F8_E4M3", "F8_E5M2"), "float8"
)


class Family(Enum):
    """What a file is; the value says so to people."""

    SD_V1 = "a checkpoint of Stable Diffusion v1"
    AUTOENCODER = "an autoencoder (VAE) alone"
    OTHER_AUTOENCODER = "an autoencoder (VAE) of another latent space than Stable Diffusion v1's"
    V_PREDICTION = "a checkpoint whose U-Net predicts v, and only noise (epsilon) is supported"
    INPAINTING = "a checkpoint for inpainting or editing, whose U-Net takes more than four channels"
    SD_V2 = "a checkpoint of Stable Diffusion 2"
    SD_XL = "a checkpoint of Stable Diffusion XL"
    SD_3 = "a checkpoint of Stable Diffusion 3"
    FLUX = "a checkpoint of FLUX"
    UNET = "a U-Net alone"
    TEXT_ENCODER = "a text encoder alone"
    LORA = "a LoRA, which changes a model"
    CONTROL_NET = "a ControlNet, which steers a model"
    EMBEDDING = "a textual inversion, which is a word for a text encoder"
    UNKNOWN = "not a model that is known here, by the names of its tensors"

    @property
    def is_usable(self) -> bool:
        """Whether a model can be made of such a file."""
        return self in (Family.SD_V1, Family.AUTOENCODER)


@dataclass(frozen=True)
class CheckpointFile:
    """What a safetensors file is.

    Attributes:
        path: The file.
        family: What it is.
        precision: The dtype of most of its bytes: ``"float32"``, ``"float16"``, ``"bfloat16"``, ``"float64"``,
            ``"float8"``, or safetensors' name of another one; of the parts alone, if it has some.
        parts: The parts of Stable Diffusion v1 that it has.
        prefix: What the names of its autoencoder's tensors begin with: ``"first_stage_model."`` or ``""``.
        has_original_names: Whether its autoencoder's tensors have the original names, and not those of diffusers.
        has_ema: Whether it also has the averaged weights of training, ``model_ema.*``.
        size: Bytes of the file.
    """

    path: Path
    family: Family
    precision: str
    parts: tuple[PartName, ...]
    prefix: str
    has_original_names: bool
    has_ema: bool
    size: int


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a header: safetensors' name of its type, its shape, and its bytes."""

    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Header:
    """The header of a safetensors file.

    Attributes:
        path: The file.
        size: Bytes of the file.
        metadata: What its writer says of it.
        tensors: By name.
    """

    path: Path
    size: int
    metadata: Mapping[str, str]
    tensors: Mapping[str, StoredTensor]

    @property
    def architecture(self) -> str:
        """What the writer says it is, in lower case."""
        return self.metadata.get("modelspec.architecture", "").lower()

    def has(self, *beginnings: str) -> bool:
        """Tell whether a tensor's name begins with one of these."""
        return any(name.startswith(beginnings) for name in self.tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, ``()`` if it is not there."""
        return self.tensors[name].shape if name in self.tensors else ()


def file_of(model: str) -> Path | None:
    """Return the file that a model's name stands for, ``~`` expanded; by its suffix it need not be there.

    Of a directory or the id of a hub repository it is ``None``.
    """
    path = os.path.expanduser(model)  # noqa: PTH111 - Path's raises where there is no such home
    is_named_so = path.lower().endswith((SUFFIX, *PICKLES)) and not os.path.isdir(path)  # noqa: PTH112 - never raises
    return Path(path) if is_named_so or os.path.isfile(path) else None  # noqa: PTH113 - never raises


def identify(path: Path) -> CheckpointFile:
    """Tell what a file is by its header.

    Raises:
        DamagedFileError: It cannot be read, is cut short or damaged, or is no safetensors file: the message says what
            it seems to be instead.
    """
    header = read_header(path)
    prefix = _autoencoder_prefix(header)
    family = next((family for family, is_of_it in _FAMILIES.items() if is_of_it(header)), Family.UNKNOWN)
    parts = _parts_of(family, header)
    beginnings = tuple(PREFIXES[part] for part in parts) if family is Family.SD_V1 else ("",)
    return CheckpointFile(
        path,
        family,
        _precision_of([tensor for name, tensor in header.tensors.items() if name.startswith(beginnings)]),
        parts,
        prefix,
        has_original_names=f"{prefix}decoder.norm_out.weight" in header.tensors,
        has_ema=header.has("model_ema."),
        size=header.size,
    )


def read_header(path: Path) -> Header:
    """Return the header of a safetensors file, each of its lengths checked against the file's.

    Raises:
        DamagedFileError: As :func:`identify`.
    """
    if path.exists() and not path.is_file():
        raise DamagedFileError(path, "is not a file")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            beginning = file.read(max(8, len(LFS_POINTER)))
            _check_beginning(path, beginning)
            length = int.from_bytes(beginning[:8], "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise DamagedFileError(
                    path, f"is damaged, cut short, or no safetensors file: its header has {length:,} bytes"
                )
            file.seek(8)
            content = file.read(length)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        entries = json.loads(content)
        metadata = {name: str(value) for name, value in entries.pop("__metadata__", {}).items()}
        tensors = {name: _stored_tensor(entry) for name, entry in entries.items()}
        end = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(path, f"is damaged, or no safetensors file ({error})") from None
    if 8 + length + end != size:
        which = "cut short" if 8 + length + end > size else "damaged"
        raise DamagedFileError(path, f"is {which}: it has {size:,} bytes, and its header says {8 + length + end:,}")
    return Header(path, size, metadata, tensors)


def _stored_tensor(entry: Any) -> StoredTensor:
    """Return a tensor by its entry in the header.

    Raises:
        ValueError: Its shape, its type and its place in the file disagree.
        LookupError, TypeError: It is no such entry.
    """
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    numbers = (*shape, begin, end)
    if not isinstance(dtype, str) or any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError("an entry of its header is not one of a tensor")
    if len(shape) > _MAX_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} dimensions")
    if begin > end or (dtype in _BYTES and _BYTES[dtype] * math.prod(shape) != end - begin):
        raise ValueError(f"a tensor of {dtype} and the shape {shape} has {end - begin} bytes")
    return StoredTensor(dtype, tuple(shape), end - begin)


def _check_beginning(path: Path, beginning: bytes) -> None:
    """Check that a file may be a safetensors file by its first bytes and its suffix.

    Raises:
        DamagedFileError: It is something else, or too short.
    """
    wanted = "take the model's .safetensors file"
    if beginning.startswith(LFS_POINTER):
        reason, mend = "is a Git LFS pointer, which stands for the file", f"run `git lfs pull` in {path.parent}"
    elif beginning.startswith((_ZIP, _TORCH_BEFORE_ZIP)) or path.suffix.lower() in PICKLES:
        reason = "is a pickle of torch's (.ckpt, .pt, .bin), which can run code and is never loaded"
        mend = f"{wanted}, or convert it where you trust it"
    elif beginning.startswith(b"GGUF"):
        reason, mend = "is a GGUF file, quantised for other programs", wanted
    elif beginning.lstrip().lower().startswith((b"<!doctype", b"<html")):
        reason, mend = "is a web page, perhaps that of a log-in", "download the file again"
    elif len(beginning) < 8:
        reason, mend = f"is cut short: it has {len(beginning)} bytes", "download the file again"
    else:
        return
    raise DamagedFileError(path, reason, mend)


def _is_lora(header: Header) -> bool:
    marks = (".lora_up.", ".lora_down.", ".lora_a.", ".lora_b.", ".lora.up.", ".lora.down.", ".hada_w1_", ".lokr_w1")
    return "/lora" in header.architecture or any(
        name.startswith("lora_") or any(mark in name.lower() for mark in marks) for name in header.tensors
    )


def _is_xl(header: Header) -> bool:
    is_called_so = header.has(_UNET) and "stable-diffusion-xl" in header.architecture
    return is_called_so or header.has("conditioner.", f"{_UNET}label_emb.")


def _is_v2(header: Header) -> bool:
    prompt_features = header.shape(f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight")[-1:]
    return header.has("cond_stage_model.model.") or prompt_features == (1024,)


def _predicts_v(header: Header) -> bool:
    """Tell whether a checkpoint says that its U-Net predicts v: by a mark, by metadata, or by a file beside it.

    The weights themselves do not tell; AUTOMATIC1111 has users put a configuration of the same name beside them.
    """
    if not header.has(_UNET):
        return False
    prediction = header.metadata.get("modelspec.prediction_type", "").lower()
    if "v_pred" in header.tensors or prediction in ("v", "v_prediction"):
        return True
    try:
        with header.path.with_suffix(".yaml").open("rb") as file:
            return re.search(rb"""parameterization\s*:\s*["']?v\b""", file.read(_MAX_YAML_BYTES)) is not None
    except OSError:
        return False


def _autoencoder_prefix(header: Header) -> str:
    return PREFIXES["vae"] if header.has(PREFIXES["vae"]) else ""


def _latent_channels(header: Header) -> tuple[int, ...]:
    """Return the one number of latent channels, or none if there is no decoder."""
    return header.shape(f"{_autoencoder_prefix(header)}decoder.conv_in.weight")[1:2]


def _is_other_autoencoder(header: Header) -> bool:
    """Tell an autoencoder of another latent space.

    SDXL's has tensors of the very names and shapes of SD v1's, so that nothing but what it is called tells the two.
    """
    if not _latent_channels(header):
        return False
    return _latent_channels(header) != (4,) or "xl" in header.architecture or "sdxl" in header.path.name.lower()


_UNET = PREFIXES["unet"]

_FAMILIES: dict[Family, Callable[[Header], bool]] = {
    Family.LORA: _is_lora,
    Family.CONTROL_NET: lambda header: header.has("control_model.", "controlnet_cond_embedding."),
    Family.FLUX: lambda header: header.has(f"{_UNET}double_blocks.", "double_blocks."),
    Family.SD_3: lambda header: header.has(f"{_UNET}joint_blocks.", "joint_blocks."),
    Family.SD_XL: _is_xl,
    Family.SD_V2: _is_v2,
    Family.INPAINTING: lambda header: header.shape(f"{_UNET}input_blocks.0.0.weight")[1:2] > (4,),
    Family.V_PREDICTION: _predicts_v,
    Family.SD_V1: lambda header: header.has(_UNET) and header.has(PREFIXES["vae"], "cond_stage_model."),
    Family.UNET: lambda header: header.has(_UNET, "down_blocks.", "input_blocks."),
    Family.OTHER_AUTOENCODER: _is_other_autoencoder,
    Family.AUTOENCODER: lambda header: bool(_latent_channels(header)),
    Family.TEXT_ENCODER: lambda header: header.has("text_model.", "transformer.", "cond_stage_model."),
    Family.EMBEDDING: lambda header: bool(header.tensors.keys() & {"emb_params", "clip_l", "clip_g", "<concept>"}),
}
"""What tells the families, the first that holds."""


def _parts_of(family: Family, header: Header) -> tuple[PartName, ...]:
    if family is Family.AUTOENCODER:
        return ("vae",)
    if family is not Family.SD_V1:
        return ()
    return tuple(part for part, prefix in PREFIXES.items() if header.has(prefix))


def _precision_of(tensors: list[StoredTensor]) -> str:
    sizes: Counter[str] = Counter()
    for tensor in tensors:
        sizes[tensor.dtype] += tensor.size
    most = max(sizes, key=lambda dtype: sizes[dtype], default="")
    return _PRECISIONS.get(most, most)
