"""Which files make up the parts of a model in diffusers' layout.

A pipeline has ``model_index.json`` and one folder for each part; an autoencoder alone has ``config.json`` and its
weights at the root. Weights are one safetensors file or several with an index, which ``save_pretrained`` writes where
they are larger than its ``max_shard_size``. Names are relative to the model's root, with ``/`` between folders.
"""

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Protocol, get_args

PartName = Literal["vae", "unet", "scheduler", "tokenizer", "text_encoder"]
PARTS: tuple[PartName, ...] = get_args(PartName)

PIPELINE_INDEX = "model_index.json"

REQUIRED: dict[PartName, tuple[str, ...]] = {
    "vae": ("config.json",),
    "unet": ("config.json",),
    "scheduler": ("scheduler_config.json",),
    "tokenizer": ("tokenizer_config.json",),
    "text_encoder": ("config.json",),
}
OPTIONAL: dict[PartName, tuple[str, ...]] = {"tokenizer": ("special_tokens_map.json", "added_tokens.json")}
"""Names of files that belong to a part where the model has them."""

# Of the alternatives the first that is complete is taken.
_VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))
_WEIGHTS: dict[PartName, str] = {
    "vae": "diffusion_pytorch_model",
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
}

_SHARD = re.compile(r"[\w.-]+\.safetensors", re.ASCII)
"""Names of files in the index's own folder, which no hub or file system could take for a pattern."""


class Precision(Enum):
    """Which weights to take: the value lists diffusers' names of variants, the preferred one first."""

    FULL = (None, "fp16")
    HALF = ("fp16", None)


class MissingFileError(Exception):
    """A model lacks a file; the message says which."""


class LostFileError(Exception):
    """A model lacks a file that it has had, for what refers to it is still there; the message says which."""


class DamagedFileError(Exception):
    """A file of a model is there, but of no use; the message names it and says why.

    Attributes:
        mend: What to do about it, if that is another thing than to get the file anew.
    """

    def __init__(self, file: object, reason: str, mend: str | None = None) -> None:
        super().__init__(f"{file} {reason}")
        self.mend = mend


class Files(Protocol):
    """The files that a model has."""

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a file of that name."""
        ...

    def read(self, name: str) -> bytes:
        """Return the content of a small file that there is."""
        ...


@dataclass(frozen=True)
class PartFiles:
    """The files of a part.

    Attributes:
        folder: Holds them: ``"vae/"``, or ``""`` of an autoencoder alone.
        others: All files but the weights.
        weights: The files of the weights; none of parts that have no weights.
    """

    folder: str
    others: tuple[str, ...]
    weights: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All files."""
        return (*self.others, *self.weights)


def choose_files(part: PartName, precision: Precision, files: Files) -> PartFiles:
    """Return the files of a part, as far as the model has what it takes.

    Raises:
        MissingFileError: It has not.
        DamagedFileError: The index of weights in several files is damaged, or names other files than those beside it.
    """
    folder = _folder_of(part, files)
    required = [folder + name for name in REQUIRED[part]]
    for name in required:
        if name not in files:
            raise MissingFileError(f"it has no {name}")
    optional = [name for name in (folder + name for name in OPTIONAL.get(part, ())) if name in files]
    if part == "tokenizer":
        required += _vocabulary_in(folder, files)
    weights = _weights_in(folder, _WEIGHTS[part], precision, files) if part in _WEIGHTS else PartFiles(folder, ())
    return PartFiles(folder, (*required, *optional, *weights.others), weights.weights)


def is_pipeline(files: Files) -> bool:
    """Tell a pipeline from an autoencoder alone.

    Raises:
        MissingFileError: It is neither.
    """
    if PIPELINE_INDEX not in files and "config.json" not in files:
        raise MissingFileError(f"it has neither {PIPELINE_INDEX}, like a pipeline, nor config.json")
    return PIPELINE_INDEX in files


def _folder_of(part: PartName, files: Files) -> str:
    if is_pipeline(files):
        return f"{part}/"
    if part != "vae":
        raise MissingFileError(f"it is an autoencoder alone, without a {part}")
    return ""


def _vocabulary_in(folder: str, files: Files) -> list[str]:
    alternatives = [[folder + name for name in vocabulary] for vocabulary in _VOCABULARIES]
    for names in alternatives:
        if all(name in files for name in names):
            return names
    raise MissingFileError(f"it has no {' or '.join(' with '.join(names) for names in alternatives)}")


def _weights_in(folder: str, stem: str, precision: Precision, files: Files) -> PartFiles:
    incomplete = []
    for variant in precision.value:
        single = f"{folder}{stem}{'.' + variant if variant else ''}.safetensors"
        if single in files:
            return PartFiles(folder, (), (single,))
        for index in _indices(folder + stem, variant):
            if index in files:
                shards = [folder + name for name in _shards_of(index, files.read(index))]
                absent = next((shard for shard in shards if shard not in files), None)
                if absent is None:
                    return PartFiles(folder, (index,), tuple(shards))
                incomplete.append(f"it has no {absent}, which {index} names")
    if incomplete:
        raise MissingFileError(incomplete[0])
    singles = (f"{folder}{stem}{'.' + variant if variant else ''}.safetensors" for variant in precision.value)
    wanted = " or ".join(singles)
    raise MissingFileError(f"it has no {wanted}, in one file or in several (pickles, .bin or .ckpt, are never loaded)")


def _indices(stem: str, variant: str | None) -> tuple[str, ...]:
    """Return the names that an index may have: diffusers put the variant elsewhere until its version 0.31."""
    if variant is None:
        return (f"{stem}.safetensors.index.json",)
    return f"{stem}.safetensors.index.{variant}.json", f"{stem}.safetensors.{variant}.index.json"


def _shards_of(index: str, content: bytes) -> list[str]:
    """Return the names of the files that an index names for its tensors."""
    try:
        names = set(json.loads(content)["weight_map"].values())
        if not names:
            raise ValueError("it names no file")
        for name in names:
            if not isinstance(name, str) or not _SHARD.fullmatch(name):
                raise ValueError(f"it names {name!r}, which is not a safetensors file in its folder")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(index, f"is not an index of weights ({error})") from None
    return sorted(names)
