"""From settings to models: what ``"auto"`` means here, and each model loaded once per process."""

import copy
import gc
import logging
import sys
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, TypeVar

from .. import options
from ..errors import ModelUnavailableError, OptionError
from ..runtime import cuda_driver, libraries
from ..runtime.fork_safety import ForkSafeLock, in_forked_children
from ..runtime.lazy import Lazy
from ..runtime.torch_state import isolated
from . import compact
from .diffusion import hub
from .diffusion.diffusers_models import check_autoencoder, check_denoiser, load_autoencoder, load_denoiser
from .diffusion.empty_prompt import encode_empty_prompt
from .diffusion.hub import DEFAULT_MODEL
from .diffusion.layout import PARTS, PartName, Precision
from .interfaces import Autoencoder, Denoiser

T = TypeVar("T")

_logger = logging.getLogger("pillow_sdc")


class Models:
    """The autoencoder and the denoiser of one model on one device; each is loaded when first asked for.

    Attributes:
        name: The directory or hub id, as the user named it, or ``"compact"``, the embedded model.
        device: Name of the torch device; of the embedded model ``"cpu"``, or ``"cuda"`` with or without a number.
        dtype: Name of the torch dtype; of the embedded model ``"int8"``.
        compiled: Whether their networks are compiled for shapes that recur.
    """

    def __init__(self, name: str, device: str, dtype: str, compiled: bool = False) -> None:
        self.name = name
        self.device = device
        self.dtype = dtype
        self.compiled = compiled
        self._autoencoder = Lazy(partial(_prepare_autoencoder, name, device, dtype, compiled))
        self._denoiser = Lazy(partial(_prepare_denoiser, name, device, dtype, compiled))
        self._substitute: Models | None = None

    @property
    def autoencoder(self) -> Autoencoder:
        """The autoencoder.

        Raises:
            ModelUnavailableError: It is not here and cannot be had, or is not one of SD v1's latent space.
            ModelFailedError: The device has too little memory.
        """
        return self._loaded(lambda models: models._autoencoder)

    @property
    def denoiser(self) -> Denoiser | None:
        """The denoiser: the model's U-Net, or the embedded one if the model is an autoencoder alone.

        ``None`` if there is no need of one: the embedded decoder was trained on noisy latents.

        Raises:
            ModelUnavailableError: It is not here and cannot be had, or is not one that predicts noise.
            ModelFailedError: The device has too little memory.
        """
        return self._loaded(lambda models: models._denoiser)

    def or_else(self, substitute: "Models") -> "Models":
        """Return the same models, but such that they become others as soon as one of them turns out not to work."""
        models = copy.copy(self)
        models._substitute = substitute
        return models

    def _loaded(self, part_of: "Callable[[Models], Lazy[T]]") -> T:
        part = part_of(self)
        try:
            return part()
        except ModelUnavailableError as error:
            if self._substitute is None or part is part_of(self._substitute):
                raise
            self._become(self._substitute, str(error))
            return part_of(self)()

    def _become(self, others: "Models", reason: str) -> None:
        self.name, self.device, self.dtype = others.name, others.device, others.dtype
        self._autoencoder, self._denoiser = others._autoencoder, others._denoiser
        _say_choice(self.name, self.device, self.dtype, reason, is_amiss=True)


# By model, device, dtype and compilation, both as they were asked for and as "auto" was resolved.
_models: dict[tuple[str, str, str, bool], Models] = {}
_choosing = ForkSafeLock()
_has_warned = False


def get_models(settings: options.Settings) -> Models:
    """Return the models that ``settings`` ask for; the same object each time.

    ``"auto"`` means: the device is CUDA if there is one, else the CPU; the dtype is float16 on CUDA, else float32;
    the model is Stable Diffusion v1.4 if the device is CUDA or if its weights are already in the hub's local cache,
    and if it works; else the embedded one. Nothing is loaded or downloaded before the models are used, and torch is
    not imported for the embedded model where that can be seen without it.

    Raises:
        OptionError: ``settings.device`` is not the name of a torch device.
        ModelUnavailableError: The device is not usable here.
    """
    asked = (settings.model, settings.device, settings.dtype, settings.compile)
    with _choosing:
        if asked not in _models:
            _models[asked] = _automatic(settings) if settings.model == "auto" else _named(settings.model, settings)
        return _models[asked]


def _automatic(settings: options.Settings) -> Models:
    """Return what ``"auto"`` stands for, such that it becomes the embedded model if it turns out not to work."""
    embedded = _named(compact.NAME, settings)
    if lacking := libraries.lacking():
        reason = f"{' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} not installed"
        _say_choice(embedded.name, embedded.device, embedded.dtype, reason, is_amiss=False)
        return embedded
    try:
        if _needs_torch(settings.device):
            libraries.imported("torch")
    except ModelUnavailableError as error:
        _say_choice(embedded.name, embedded.device, embedded.dtype, str(error), is_amiss=True)
        return embedded
    device = _choose_device(settings.device)
    dtype = _choose_dtype(settings.dtype, device)
    reason, is_amiss, takes_default = _reason_for_default(device, dtype)
    if not takes_default:
        _say_choice(embedded.name, embedded.device, embedded.dtype, reason, is_amiss)
        return embedded
    _say_choice(DEFAULT_MODEL, device, dtype, reason, is_amiss)
    return _models_of(DEFAULT_MODEL, device, dtype, settings.compile).or_else(embedded)


def _named(model: str, settings: options.Settings) -> Models:
    if model == compact.NAME:
        return _models_of(model, _device_of_embedded(settings.device), compact.DTYPE, settings.compile)
    _check_installed(model)
    device = _choose_device(settings.device)
    return _models_of(model, device, _choose_dtype(settings.dtype, device), settings.compile)


def _models_of(model: str, device: str, dtype: str, compiled: bool) -> Models:
    resolved = model, device, dtype, compiled
    return _models.setdefault(resolved, Models(*resolved))


def check_model(model: str, precision: Precision) -> tuple[PartName, ...]:
    """Check, without loading it or asking the network, that what is here of a model would work.

    Returns:
        The parts of it that are not here.

    Raises:
        ModelUnavailableError: A part is damaged, or not of SD v1's family, or the hub's local cache is damaged; or the
            model's name is neither that of a directory nor a hub id; or a library that it needs is not installed or
            broken.
    """
    if hub.is_absent(model):
        return PARTS[:1]
    _check_installed(model)
    parts = hub.parts_here(model, precision)
    if any(parts.values()):
        libraries.check_those_of_diffusers()
    if vae := parts["vae"]:
        check_autoencoder(vae)
    if (unet := parts.get("unet")) and (scheduler := parts.get("scheduler")):
        check_denoiser(unet, scheduler)
    return tuple(name for name, part in parts.items() if part is None)


def fetch_model(model: str) -> Path:
    """Download what encoding and decoding need of a model and is not yet here; return the directory that holds it.

    The weights are of the precision that the current settings compute in. ``"auto"`` stands for Stable Diffusion v1.4;
    ``"compact"`` is always here.

    Raises:
        ModelUnavailableError: A part is not here and cannot be had; the cause is attached.
        OptionError: The device setting is not the name of a torch device.
    """
    if model == compact.NAME:
        return compact.WEIGHTS
    _check_installed(model)
    current = options.settings()
    dtype = _choose_dtype(current.dtype, _choose_device(current.device))
    return hub.fetch(DEFAULT_MODEL if model == "auto" else model, _precision_of(dtype))


def clear_cache() -> None:
    """Release all loaded models; those still referred to elsewhere live on until they are not."""
    with _choosing:
        if not _models:
            return
        _models.clear()
    compact.forget()
    gc.collect()  # networks contain reference cycles
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _device_of_embedded(name: str) -> str:
    """Return where the embedded model computes: on the CPU, or on CUDA where onnxruntime can."""
    if name.partition(":")[0] not in ("auto", "cpu", "cuda") and find_spec("torch") is not None:
        _choose_device(name)  # refuses what is not a device, and what is not here
    return compact.usable_device(name)


def _choose_device(name: str) -> str:
    if not _needs_torch(name):
        return "cpu"
    torch = libraries.imported("torch")
    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu"
        try:
            _try_device("cuda")
        except RuntimeError as error:  # in a child forked after CUDA was used, or with a broken driver
            _logger.info("computing on the CPU, for CUDA cannot be used here: %s", libraries.summary(error))
            return "cpu"
        return "cuda"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"device is {name!r}; it must be 'auto' or the name of a torch device") from error
    try:
        _try_device(name)
    except (NotImplementedError, ImportError) as error:  # the former with a list of all that other devices can do
        raise _unusable(name, f"torch {torch.__version__} does not compute on it") from error
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        raise _unusable(name, libraries.summary(error)) from error
    return str(device)


def _unusable(device: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"device {device!r} cannot be used here: {reason}; name another with pillow_sdc.configure(device=...) or the"
        " environment variable PILLOW_SDC_DEVICE"
    )


def _needs_torch(device: str) -> bool:
    """Tell whether only torch knows what a device setting stands for here."""
    return device != "cpu" and (device != "auto" or cuda_driver.may_be_there())


def _try_device(name: str) -> None:
    """Bring a number to a device and back: the device ``meta`` holds none.

    Raises:
        RuntimeError: The device cannot be used; or AssertionError or ImportError, where torch was built without it.
    """
    import torch

    with isolated():
        torch.zeros(1, device=name).cpu()


def _choose_dtype(name: str, device: str) -> str:
    if name == "auto":
        return "float16" if device.startswith("cuda") else "float32"
    return name


class _Reason(NamedTuple):
    """Why ``"auto"`` stands for Stable Diffusion or for the embedded model.

    Attributes:
        text: The reason.
        is_amiss: Whether something is damaged or missing that should not be.
        takes_default: Whether it stands for Stable Diffusion.
    """

    text: str
    is_amiss: bool
    takes_default: bool


def _reason_for_default(device: str, dtype: str) -> _Reason:
    """Decide what ``"auto"`` stands for."""
    try:
        missing = check_model(DEFAULT_MODEL, _precision_of(dtype))
    except ModelUnavailableError as error:
        return _Reason(str(error), is_amiss=True, takes_default=False)
    if device.startswith("cuda"):
        return _Reason(f"the device is {device}", is_amiss=False, takes_default=True)
    if not missing:
        return _Reason("it is in the hub's local cache", is_amiss=False, takes_default=True)
    lack = "not in the hub's local cache" if "vae" in missing else f"there without its {' and '.join(missing)}"
    return _Reason(f"the device is not CUDA, and {DEFAULT_MODEL} is {lack}", is_amiss=False, takes_default=False)


def _say_choice(model: str, device: str, dtype: str, reason: str, is_amiss: bool) -> None:
    """Log what ``"auto"`` stands for and why; once in the life of the process as a warning, if something is amiss."""
    global _has_warned
    level = logging.WARNING if is_amiss and not _has_warned else logging.INFO
    _has_warned |= is_amiss
    facts = {"reason": reason, "is_amiss": is_amiss}  # for those that listen
    _logger.log(level, "using %s on %s in %s, because %s", model, device, dtype, reason, extra=facts)


def _precision_of(dtype: str) -> Precision:
    return Precision.FULL if dtype == "float32" else Precision.HALF


def _prepare_autoencoder(model: str, device: str, dtype: str, compiled: bool) -> Autoencoder:
    autoencoder = _load_autoencoder(model, device, dtype)
    if compiled:
        autoencoder.compile()
    return autoencoder


def _prepare_denoiser(model: str, device: str, dtype: str, compiled: bool) -> Denoiser | None:
    denoiser = _load_denoiser(model, device, dtype)
    if denoiser is not None and compiled:
        denoiser.compile()
    return denoiser


def _check_installed(model: str) -> None:
    """Check that what a model of diffusers needs is installed; nothing is imported.

    Raises:
        ModelUnavailableError: It is not.
    """
    if lacking := libraries.lacking():
        raise ModelUnavailableError(
            f"model {model!r} needs packages that are not installed: pip install {' '.join(lacking)}; the model"
            f" {compact.NAME!r} needs none of them"
        )


def _load_autoencoder(model: str, device: str, dtype: str) -> Autoencoder:
    if model == compact.NAME:
        return compact.CompactAutoencoder(device)
    libraries.check_those_of_diffusers()  # before anything is downloaded
    return load_autoencoder(hub.locate(model, "vae", _precision_of(dtype)), device, dtype)


def _load_denoiser(model: str, device: str, dtype: str) -> Denoiser | None:
    if model == compact.NAME:
        return None
    libraries.check_those_of_diffusers()
    if not hub.is_pipeline(model):
        return compact.CompactDenoiser(compact.usable_device(device))
    parts: tuple[PartName, ...] = "unet", "scheduler", "tokenizer", "text_encoder"
    unet, scheduler, tokenizer, text_encoder = hub.locate_all(model, parts, _precision_of(dtype))
    return load_denoiser(unet, scheduler, encode_empty_prompt(tokenizer, text_encoder), device, dtype)


def _forget_cuda_models() -> None:
    """CUDA does not survive a fork; the child chooses and loads anew."""
    for asked, models in list(_models.items()):
        if models.device.startswith("cuda"):
            del _models[asked]


in_forked_children(_forget_cuda_models)
