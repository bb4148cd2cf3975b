"""Which models are on this machine; the hub is never asked."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..errors import ModelUnavailableError
from ..models.diffusion import hub
from ..models.diffusion.diffusers_models import SCALING_FACTORS
from ..models.diffusion.layout import PIPELINE_INDEX, DamagedFileError, Precision
from ..models.diffusion.original_checkpoint import (
    PICKLES,
    PREFIXES,
    SUFFIX,
    CheckpointFile,
    Family,
    file_of,
    identify,
)
from ..models.kinds import DIFFUSERS, SINGLE_FILE
from ..runtime.libraries import imported

MODEL_PATH = "PILLOW_SDC_MODEL_PATH"
"""Environment variable: folders in which people keep checkpoints, separated as in ``PATH``."""

_EITHER = Precision.FULL
"""Finds weights of any variant; only the order of preference differs."""


class LocalModel(NamedTuple):
    """A model of which at least the autoencoder is here, or of which something is damaged.

    Attributes:
        directory: Holds the model, or is the file that does.
        is_pipeline: Whether it has, or should have, a denoiser of its own.
        missing: Parts of a pipeline that are not here.
        damage: Why it cannot be used, and what to do about it; ``None`` if nothing is known to be wrong.
    """

    directory: Path
    is_pipeline: bool
    missing: tuple[str, ...]
    damage: str | None = None


def find_model(model: str) -> LocalModel | None:
    """Return a model in a directory, a file or the hub's local cache; ``None`` if its autoencoder is not here.

    Raises:
        ModelUnavailableError: The name is neither a directory that holds a model, nor a file, nor the id of a
            repository.
    """
    if file := file_of(model):
        return _find_in_file(model, file)
    folder = hub.folder_of(model)
    try:
        missing = DIFFUSERS.missing_parts(model, _EITHER)
    except ModelUnavailableError as error:
        return LocalModel(folder, False, (), str(error))
    autoencoder = hub.find(model, "vae", _EITHER)
    if autoencoder is None:
        return None
    if not hub.is_pipeline(model):
        return LocalModel(autoencoder.directory, False, ())
    return LocalModel(autoencoder.directory.parent, True, missing)


def _find_in_file(model: str, file: Path) -> LocalModel:
    try:
        missing = SINGLE_FILE.missing_parts(model, _EITHER)
        family = identify(file).family
    except ModelUnavailableError as error:
        return LocalModel(file, False, (), str(error))
    return LocalModel(file, family is Family.SD_V1, missing)


class ModelFolders(NamedTuple):
    """What is in the folders of :data:`MODEL_PATH` and in those within them.

    Attributes:
        checkpoints: Those that would do, by path.
        pipelines: Folders in diffusers' layout.
        damaged: Files that cannot be read or are damaged, and why.
        others: How many files would not do, by what they are.
        unreadable: Folders that are not there or cannot be read, and why.
    """

    checkpoints: list[CheckpointFile]
    pipelines: list[Path]
    damaged: dict[Path, str]
    others: Counter[str]
    unreadable: dict[Path, str]


def models_in_folders() -> ModelFolders:
    """Look through the folders of :data:`MODEL_PATH`; of files only headers are read."""
    found = ModelFolders([], [], {}, Counter(), {})
    roots = [Path(name).expanduser() for name in os.environ.get(MODEL_PATH, "").split(os.pathsep) if name]
    for folder, files in _folders_in(roots, found.unreadable):
        if PIPELINE_INDEX in files:
            found.pipelines.append(folder)
            continue
        for path in (folder / name for name in files):
            if path.suffix.lower() in PICKLES:
                found.others["pickle"] += 1
            elif path.suffix.lower() == SUFFIX:
                _look_at(path, found)
    return found


def _folders_in(roots: list[Path], unreadable: dict[Path, str]) -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder once and the names of its files, but not what is within a pipeline; links are followed."""
    seen = set[str]()
    for root in roots:

        def note(error: OSError) -> None:
            unreadable[Path(error.filename)] = error.strerror or str(error)

        for folder, names, files in os.walk(root, onerror=note, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen or PIPELINE_INDEX in files:
                names.clear()
            names[:] = sorted(name for name in names if not name.startswith("."))
            if place not in seen:
                seen.add(place)
                yield Path(folder), sorted(files)


def _look_at(path: Path, found: ModelFolders) -> None:
    try:
        checkpoint = identify(path)
    except DamagedFileError as error:
        found.damaged[path] = str(error)
        return
    if checkpoint.family.is_usable:
        found.checkpoints.append(checkpoint)
    else:
        found.others[checkpoint.family.name.replace("_", " ")] += 1


def parts_lacking(checkpoint: CheckpointFile) -> list[str]:
    """Return the parts that a checkpoint of Stable Diffusion lacks."""
    return [part for part in PREFIXES if part not in checkpoint.parts] if checkpoint.family is Family.SD_V1 else []


def cached_models() -> list[tuple[str, LocalModel]]:
    """Return the models of Stable Diffusion v1's latent space in the hub's local cache, by their ids.

    Raises:
        ModelUnavailableError: The hub's library is not installed, or broken.
    """
    imported("huggingface_hub")
    from huggingface_hub import constants

    # Not by the hub's scan_cache_dir, which a single damaged repository may stop.
    prefix = "models" + constants.REPO_ID_SEPARATOR
    cache = Path(constants.HF_HUB_CACHE)
    folders = sorted(cache.glob(f"{prefix}*")) if os.path.isdir(cache) else []  # noqa: PTH112 - never raises
    ids = [folder.name.removeprefix(prefix).replace(constants.REPO_ID_SEPARATOR, "/") for folder in folders]
    found = [
        (repository_id, find_model(repository_id))
        for repository_id, folder in zip(ids, folders, strict=True)
        if repository_id.count("/") == 1 and _may_be_of_the_family(folder)
    ]
    return [(name, model) for name, model in found if model is not None]


def _may_be_of_the_family(repository: Path) -> bool:
    """Tell whether a repository in the hub's cache is of SD v1's family, or was before it was damaged."""
    return any(_is_of_the_family(snapshot) for snapshot in repository.glob("snapshots/*"))


def _is_of_the_family(snapshot: Path) -> bool:
    is_pipeline = os.path.lexists(snapshot / PIPELINE_INDEX)
    folder = snapshot / "vae" if is_pipeline else snapshot
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        usual = SCALING_FACTORS.get(config.get("_class_name"))
    except (OSError, ValueError, AttributeError):
        return is_pipeline
    # The usual is the default where none is named.
    return usual is not None and config.get("latent_channels", 4) == 4 and config.get("scaling_factor", usual) == usual
