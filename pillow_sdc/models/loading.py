"""The models that were chosen, each loaded once per process."""

import gc
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from .. import options
from ..errors import ModelUnavailableError
from ..runtime.accelerators import CPU
from ..runtime.fork_safety import ForkSafeLock, in_forked_children
from ..runtime.lazy import Lazy
from . import compact
from .choice import ModelChoice, choose_model
from .devices import release_memory
from .diffusion.hub import DEFAULT_MODEL
from .interfaces import Autoencoder, Denoiser
from .kinds import kind_of

T = TypeVar("T")

_logger = logging.getLogger("pillow_sdc")


class Models:
    """The autoencoder and the denoiser of one model on one device; each is loaded when first asked for.

    Attributes:
        choice: Which model that is, where and why. It becomes another one, for good, where ``"auto"`` stands for a
            model that turns out not to work.
    """

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self._networks = _Networks(choice)

    @property
    def name(self) -> str:
        """The directory, file or hub id, as the user named it, or ``"compact"``, the embedded model."""
        return self.choice.model

    @property
    def vae(self) -> str | None:
        """What takes the place of the model's autoencoder, as the user named it; ``None`` if that is its own."""
        return self.choice.vae

    @property
    def device(self) -> str:
        """Name of the torch device; of the embedded model ``"cpu"``, or ``"cuda"`` with or without a number."""
        return self.choice.device

    @property
    def dtype(self) -> str:
        """Name of the torch dtype; of the embedded model ``"int8"``."""
        return self.choice.dtype

    @property
    def compiled(self) -> bool:
        """Whether their networks are compiled for shapes that recur."""
        return self.choice.compiled

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder.

        Raises:
            ModelUnavailableError: It is not here and cannot be had, or is not one of SD v1's latent space.
            ModelFailedError: The device has too little memory.
        """
        try:
            return self._loaded(lambda networks: networks.autoencoder)
        except ModelUnavailableError as error:
            if self.vae is None:
                raise
            raise ModelUnavailableError(f"{error}; it is the setting vae that names it") from error

    @property
    def denoiser(self) -> Denoiser | None:
        """The denoiser: the model's U-Net, or the embedded one if the model is an autoencoder alone.

        ``None`` if there is no need of one: the embedded decoder was trained on noisy latents.

        Raises:
            ModelUnavailableError: It is not here and cannot be had, or is not one that predicts noise.
            ModelFailedError: The device has too little memory.
        """
        return self._loaded(lambda networks: networks.denoiser)

    def _loaded(self, part_of: "Callable[[_Networks], Lazy[T]]") -> T:
        networks = self._networks
        try:
            return part_of(networks)()
        except ModelUnavailableError as error:
            with _choosing:
                if self._networks is networks:  # else another thread has met the same error
                    substitute = self.choice.substituted(str(error))
                    if substitute is None:
                        raise
                    self.choice, self._networks = substitute, _Networks(substitute)
                    _log_choice(substitute)
            return part_of(self._networks)()


class _Networks:
    """The networks of a choice, shared with all choices that have them in common."""

    def __init__(self, choice: ModelChoice) -> None:
        self.autoencoder: Lazy[Autoencoder] = _shared("autoencoder", choice.autoencoder, choice, _load_autoencoder)
        self.denoiser: Lazy[Denoiser | None] = _shared("denoiser", choice.model, choice, _load_denoiser)


_models: dict[tuple[str, str | None, str, str, bool], Models] = {}
"""By the settings that they were chosen for."""

_networks: dict[tuple[str, str, str, str, bool], Lazy[Any]] = {}
"""By kind of network, model, device, dtype and compilation."""

_choosing = ForkSafeLock()
_has_warned = False


def get_models(settings: options.Settings) -> Models:
    """Return the models that settings come to, as :func:`.choice.choose_model` says; the same object each time.

    Nothing is loaded or downloaded before the models are used. The logger ``pillow_sdc`` says what ``"auto"`` stands
    for, once.

    Raises:
        OptionError: ``settings.device`` is not the name of a torch device.
        ModelUnavailableError: The device is not usable here, or a library is not installed.
    """
    asked = (settings.model, settings.vae, settings.device, settings.dtype, settings.compile)
    with _choosing:
        if asked not in _models:
            choice = choose_model(settings)
            _log_choice(choice)
            _models[asked] = Models(choice)
        return _models[asked]


def fetch_model(model: str) -> Path:
    """Download what encoding and decoding need of a model and is not yet here; return its directory, or its file.

    The weights are of the precision that the current settings compute in. ``"auto"`` stands for Stable Diffusion v1.4;
    ``"compact"`` is always here.

    Raises:
        ModelUnavailableError: A part is not here and cannot be had; the cause is attached.
        OptionError: The device setting is not the name of a torch device.
    """
    name = DEFAULT_MODEL if model == "auto" else model
    return kind_of(name).fetch(name, options.settings())


def clear_cache() -> None:
    """Release all loaded models; those still referred to elsewhere live on until they are not."""
    with _choosing:
        if not _models:
            return
        used = {models.device for models in _models.values()}
        _models.clear()
        _networks.clear()
    compact.forget()
    gc.collect()  # networks contain reference cycles
    release_memory(used)


def _shared(kind: str, model: str, choice: ModelChoice, load: "Callable[[str, ModelChoice], T]") -> Lazy[T]:
    key = kind, model, choice.device, choice.dtype, choice.compiled
    return _networks.get(key) or _networks.setdefault(key, Lazy(partial(load, model, choice)))


def _load_autoencoder(model: str, choice: ModelChoice) -> Autoencoder:
    autoencoder = kind_of(model).load_autoencoder(model, choice.device, choice.dtype)
    if choice.compiled:
        autoencoder.compile()
    return autoencoder


def _load_denoiser(model: str, choice: ModelChoice) -> Denoiser | None:
    denoiser = kind_of(model).load_denoiser(model, choice.device, choice.dtype)
    if denoiser is not None and choice.compiled:
        denoiser.compile()
    return denoiser


def _log_choice(choice: ModelChoice) -> None:
    """Log what ``"auto"`` stands for and why; once in the life of the process as a warning, if that is a fault."""
    global _has_warned
    if not choice.reason:
        return
    level = logging.WARNING if choice.is_fault and not _has_warned else logging.INFO
    _has_warned |= choice.is_fault
    model = f"{choice.model} with the autoencoder of {choice.vae}" if choice.vae else choice.model
    where = model, choice.device, choice.dtype
    _logger.log(level, "using %s on %s in %s, because %s", *where, choice.reason)


def _forget_accelerated_models() -> None:
    """Accelerators do not survive a fork; the child chooses and loads anew."""
    for asked, models in list(_models.items()):
        if models.device != CPU:
            del _models[asked]
    for key in [key for key in _networks if key[2] != CPU]:
        del _networks[key]


in_forked_children(_forget_accelerated_models)
