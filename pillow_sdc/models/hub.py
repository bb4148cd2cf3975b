"""Where the parts of a model lie on this machine; what is missing is downloaded from the Hugging Face hub.

A model is named by a directory or by the id of a hub repository. Either holds a pipeline in diffusers' layout
(``model_index.json`` and one folder for each part) or an autoencoder alone (``config.json`` and the weights at its
root). Parts are looked for one by one, so that encoding pictures never downloads a U-Net, and on this machine first,
without any request to the network. Weights are read from safetensors files only: pickles can run code.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal, get_args

from ..errors import ModelUnavailableError

DEFAULT_MODEL = "CompVis/stable-diffusion-v1-4"

PartName = Literal["vae", "unet", "scheduler", "tokenizer", "text_encoder"]
PARTS: tuple[PartName, ...] = get_args(PartName)

_PIPELINE_INDEX = "model_index.json"
_logger = logging.getLogger("pillow_sdc")


class Precision(Enum):
    """Which weights to take: the value lists diffusers' names of variants, the preferred one first."""

    FULL = (None, "fp16")
    HALF = ("fp16", None)


@dataclass(frozen=True)
class Part:
    """One part of a model, complete on this machine.

    Attributes:
        model: The model it belongs to, as the user named it.
        directory: Holds the part's files.
        variant: diffusers' name of the weights' variant, ``"fp16"`` or ``None``.
        files: The part's configuration and weights.
    """

    model: str
    directory: Path
    variant: str | None
    files: tuple[Path, ...]


def unavailable(model: str, reason: str) -> ModelUnavailableError:
    """Return the error that says why there is no such model, how to name another and how to fetch one."""
    fetchable = model if _is_hub_id(model) else DEFAULT_MODEL
    return ModelUnavailableError(
        f"model {model!r} is not available: {reason}; name another with pillow_sdc.configure(model=...) or the"
        " environment variable PILLOW_SDC_MODEL ('compact' comes with this package), or fetch one with"
        f" `sdc models fetch {fetchable}`"
    )


def find(model: str, part: PartName, precision: Precision) -> Part | None:
    """Return a part that is on this machine, or ``None``; the network is not asked.

    Raises:
        ModelUnavailableError: ``model`` is a directory without that part, or neither a directory nor a hub id.
    """
    directory = _directory(model)
    if directory is not None:
        try:
            return _part_in(directory, model, part, precision)
        except _MissingFileError as error:
            raise unavailable(model, str(error)) from None
    snapshot = _cached_snapshot(model, [f"{part}/{name}" for name in (*_REQUIRED[part], *_OPTIONAL.get(part, ()))])
    if snapshot is None:
        return None
    try:
        return _part_in(snapshot, model, part, precision)
    except _MissingFileError:
        return None


def locate(model: str, part: PartName, precision: Precision) -> Part:
    """Return a part, downloaded if it is not on this machine.

    Raises:
        ModelUnavailableError: The part is not here and cannot be had; the cause is attached.
    """
    return find(model, part, precision) or _download(model, part, precision)


def is_pipeline(model: str) -> bool:
    """Tell a pipeline from an autoencoder alone; asks the hub if no part of the model is on this machine.

    Raises:
        ModelUnavailableError: The hub was to be asked, and did not answer.
    """
    root = _directory(model) or _cached_snapshot(model, [])
    if root is not None and any((root / name).is_file() for name in (_PIPELINE_INDEX, "config.json")):
        return (root / _PIPELINE_INDEX).is_file()
    return _PIPELINE_INDEX in _list_files(model)


def fetch(model: str, precision: Precision) -> Path:
    """Bring all parts that encoding and decoding need to this machine, and return the directory that holds them.

    Raises:
        ModelUnavailableError: A part is not here and cannot be had; the cause is attached.
    """
    if not is_pipeline(model):
        return locate(model, "vae", precision).directory
    parts = [locate(model, part, precision) for part in PARTS]
    return parts[0].directory.parent


# The files of each part. Of the alternatives the first that is complete is taken; optional files belong to the part
# where the repository has them.
_REQUIRED: dict[PartName, tuple[str, ...]] = {
    "vae": ("config.json",),
    "unet": ("config.json",),
    "scheduler": ("scheduler_config.json",),
    "tokenizer": ("tokenizer_config.json",),
    "text_encoder": ("config.json",),
}
_OPTIONAL: dict[PartName, tuple[str, ...]] = {"tokenizer": ("special_tokens_map.json", "added_tokens.json")}
_VOCABULARIES = (("vocab.json", "merges.txt"), ("tokenizer.json",))
_WEIGHTS: dict[PartName, str] = {
    "vae": "diffusion_pytorch_model",
    "unet": "diffusion_pytorch_model",
    "text_encoder": "model",
}


class _MissingFileError(Exception):
    """A model lacks a file; the message says which."""


@dataclass(frozen=True)
class _Choice:
    """The files of a part, relative to the model's root, and the folder and variant they make up."""

    folder: str
    names: tuple[str, ...]
    variant: str | None


def _choose_files(part: PartName, precision: Precision, exists: Callable[[str], bool]) -> _Choice:
    folder = _folder_of(part, exists)
    required = [folder + name for name in _REQUIRED[part]]
    for name in required:
        if not exists(name):
            raise _MissingFileError(f"it has no {name}")
    optional = [folder + name for name in _OPTIONAL.get(part, ()) if exists(folder + name)]
    if part == "tokenizer":
        chosen = _first_complete([[folder + name for name in vocabulary] for vocabulary in _VOCABULARIES], exists)
        return _Choice(folder, (*required, *chosen, *optional), None)
    if part == "scheduler":
        return _Choice(folder, tuple(required), None)
    weights = {
        f"{folder}{_WEIGHTS[part]}{'.' + variant if variant else ''}.safetensors": variant
        for variant in precision.value
    }
    (chosen_weights,) = _first_complete([[name] for name in weights], exists)
    return _Choice(folder, (*required, chosen_weights), weights[chosen_weights])


def _folder_of(part: PartName, exists: Callable[[str], bool]) -> str:
    if exists(_PIPELINE_INDEX):
        return f"{part}/"
    if not exists("config.json"):
        raise _MissingFileError(f"it has neither {_PIPELINE_INDEX}, like a pipeline, nor config.json")
    if part != "vae":
        raise _MissingFileError(f"it is an autoencoder alone, without a {part}")
    return ""


def _first_complete(alternatives: list[list[str]], exists: Callable[[str], bool]) -> list[str]:
    for names in alternatives:
        if all(exists(name) for name in names):
            return names
    wanted = " or ".join(" with ".join(names) for names in alternatives)
    raise _MissingFileError(f"it has no {wanted} (pickled weights, .bin or .ckpt, are never loaded)")


def _part_in(root: Path, model: str, part: PartName, precision: Precision) -> Part:
    choice = _choose_files(part, precision, lambda name: (root / name).is_file())
    return Part(model, root / choice.folder, choice.variant, tuple(root / name for name in choice.names))


def _directory(model: str) -> Path | None:
    if Path(model).is_dir():
        return Path(model)
    if not _is_hub_id(model):
        raise unavailable(model, "it is neither a directory nor the id of a hub repository, namespace/name")
    return None


def _is_hub_id(model: str) -> bool:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(model)
    except HFValidationError:
        return False
    return model.count("/") == 1


def _cached_snapshot(model: str, names: list[str]) -> Path | None:
    """Return the cached snapshot of a repository, unless it is known to lack some of ``names`` that the hub has."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True, allow_patterns=[_PIPELINE_INDEX, *names]))
    except LocalEntryNotFoundError:
        return None


def _list_files(model: str) -> frozenset[str]:
    from huggingface_hub import HfApi

    with _asking_the_hub(model):
        # Not list_repo_files, which tries again for 20 seconds where there is no network.
        return frozenset(file.rfilename for file in HfApi().model_info(model).siblings or ())


def _download(model: str, part: PartName, precision: Precision) -> Part:
    from huggingface_hub import snapshot_download

    offered = _list_files(model)
    try:
        choice = _choose_files(part, precision, offered.__contains__)
        _logger.info("downloading the %s of %s from the Hugging Face hub", part, model)
        with _asking_the_hub(model):
            root = snapshot_download(model, allow_patterns=[_PIPELINE_INDEX, *choice.names])
        return _part_in(Path(root), model, part, precision)
    except _MissingFileError as error:
        raise unavailable(model, str(error)) from None


@contextmanager
def _asking_the_hub(model: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the hub's own errors, the HTTP library's (which one depends on the version), OSError
        raise unavailable(model, _reason(error)) from error


def _reason(error: Exception) -> str:
    from huggingface_hub.errors import GatedRepoError, OfflineModeIsEnabled, RepositoryNotFoundError

    if isinstance(error, GatedRepoError):
        return "its authors ask you to accept their terms on its hub page, and then to log in with `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such directory here, and no such repository on the hub or none that you may read"
    if isinstance(error, OfflineModeIsEnabled):
        return "it is not on this machine, and HF_HUB_OFFLINE forbids asking the hub"
    summary = (str(error).splitlines() or [""])[0]
    return f"it is not on this machine, and the hub did not deliver it ({type(error).__name__}: {summary})"
