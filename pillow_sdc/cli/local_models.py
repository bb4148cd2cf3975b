"""Which models are on this machine, and which one ``auto`` stands for; the hub is never asked."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .. import models, options
from ..errors import ModelUnavailableError
from ..models.diffusion import hub
from ..models.diffusion.diffusers_models import SCALING_FACTORS
from ..models.diffusion.layout import PIPELINE_INDEX, Precision
from ..runtime.libraries import imported

_EITHER = Precision.FULL
"""Finds weights of any variant; only the order of preference differs."""


class LocalModel(NamedTuple):
    """A model of which at least the autoencoder is here, or of which something is damaged.

    Attributes:
        directory: Holds the model.
        is_pipeline: Whether it has, or should have, a denoiser of its own.
        missing: Parts of a pipeline that are not here.
        damage: Why it cannot be used, and what to do about it; ``None`` if nothing is known to be wrong.
    """

    directory: Path
    is_pipeline: bool
    missing: tuple[str, ...]
    damage: str | None = None


class Reason(NamedTuple):
    """Why ``auto`` stands for a model.

    Attributes:
        text: The reason.
        is_amiss: Whether something is damaged or missing that should not be.
    """

    text: str
    is_amiss: bool


class Choice(NamedTuple):
    """What settings come to on this machine.

    Attributes:
        model, device, dtype: Those that are used.
        reason: Why, if the model was chosen for the user; else nothing.
        is_amiss: Whether that is for something damaged or missing that should not be.
    """

    model: str
    device: str
    dtype: str
    reason: str
    is_amiss: bool


def find_model(model: str) -> LocalModel | None:
    """Return a model in a directory or in the hub's local cache; ``None`` if its autoencoder is not here.

    Raises:
        ModelUnavailableError: The name is neither a directory that holds a model nor the id of a repository.
    """
    folder = hub.folder_of(model)
    try:
        missing = models.check_model(model, _EITHER)
    except ModelUnavailableError as error:
        return LocalModel(folder, False, (), str(error))
    autoencoder = hub.find(model, "vae", _EITHER)
    if autoencoder is None:
        return None
    if not hub.is_pipeline(model):
        return LocalModel(autoencoder.directory, False, ())
    return LocalModel(autoencoder.directory.parent, True, missing)


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


def choose(settings: options.Settings) -> Choice:
    """Return what the settings come to, and the reason if the model was chosen for the user.

    Raises:
        OptionError: The device's name is none.
        ModelUnavailableError: The device cannot be used here.
    """
    models.clear_cache()  # the reason is logged when the choice is made, and that is once
    with reasons_said() as reasons:
        chosen = models.get_models(settings)
    reason = reasons[0] if reasons else Reason("", is_amiss=False)
    return Choice(chosen.name, chosen.device, chosen.dtype, reason.text, reason.is_amiss)


@contextmanager
def reasons_said() -> Iterator[list[Reason]]:
    """Give the reasons that are logged in the block for what ``auto`` stands for."""
    logger = logging.getLogger("pillow_sdc")
    handler = _Listener()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.reasons
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


class _Listener(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.reasons: list[Reason] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = record.__dict__
        if "is_amiss" in facts:
            self.reasons.append(Reason(facts["reason"], facts["is_amiss"]))


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
