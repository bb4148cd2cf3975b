"""Which models are on this machine, and which one ``auto`` stands for; the hub is never asked."""

import json
import logging
from pathlib import Path
from typing import NamedTuple

from .. import models, options
from ..models import hub
from ..models.diffusers_models import SCALING_FACTORS
from ..models.hub import Precision, find, is_pipeline

_EITHER = Precision.FULL
"""Finds weights of any variant; only the order of preference differs."""


class LocalModel(NamedTuple):
    """A model of which at least the autoencoder is here.

    Attributes:
        directory: Holds the model.
        is_pipeline: Whether it has, or should have, a denoiser of its own.
        missing: Parts of a pipeline that are not here.
    """

    directory: Path
    is_pipeline: bool
    missing: tuple[str, ...]


class Choice(NamedTuple):
    """What settings come to on this machine."""

    model: str
    device: str
    dtype: str
    reason: str


def find_model(model: str) -> LocalModel | None:
    """Return a model in a directory or in the hub's local cache; ``None`` if its autoencoder is not here.

    Raises:
        ModelUnavailableError: The name is neither a directory that holds a model nor the id of a repository.
    """
    autoencoder = find(model, "vae", _EITHER)
    if autoencoder is None:
        return None
    if not is_pipeline(model):
        return LocalModel(autoencoder.directory, False, ())
    return LocalModel(autoencoder.directory.parent, True, _missing_parts(model))


def cached_models() -> list[tuple[str, LocalModel]]:
    """Return the models of Stable Diffusion v1's latent space in the hub's local cache, by their ids."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        repositories = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    ids = sorted(repository.repo_id for repository in repositories if repository.repo_type == "model")
    found = ((repository_id, find_model(repository_id)) for repository_id in ids if repository_id.count("/") == 1)
    return [(name, model) for name, model in found if model is not None and _is_of_the_family(model)]


def choose(settings: options.Settings) -> Choice:
    """Return what the settings come to, and the reason if the model was chosen for the user.

    Raises:
        OptionError: The device's name is none.
        ModelUnavailableError: The device cannot be used here.
    """
    models.clear_cache()  # the reason is logged when the choice is made, and that is once
    logger = logging.getLogger("pillow_sdc")
    messages: list[str] = []
    handler = _Listener(messages)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        chosen = models.get_models(settings)
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
    reason = next((message.partition(", because ")[2] for message in messages if ", because " in message), "")
    return Choice(chosen.name, chosen.device, chosen.dtype, reason)


class _Listener(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())


def _missing_parts(model: str) -> tuple[str, ...]:
    from ..errors import ModelUnavailableError

    missing = []
    for part in hub.PARTS:
        try:
            here = find(model, part, _EITHER) is not None
        except ModelUnavailableError:  # so it is said of directories
            here = False
        if not here:
            missing.append(part)
    return tuple(missing)


def _is_of_the_family(model: LocalModel) -> bool:
    folder = model.directory / "vae" if model.is_pipeline else model.directory
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    usual = SCALING_FACTORS.get(config.get("_class_name"))  # which is the default where none is named
    return usual is not None and config.get("latent_channels", 4) == 4 and config.get("scaling_factor", usual) == usual
