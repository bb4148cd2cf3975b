"""Which model computes, where and why: what settings come to on this machine."""

from dataclasses import dataclass, replace

from .. import options
from ..errors import ModelUnavailableError
from ..runtime import libraries
from ..runtime.accelerators import supports_cuda, type_of
from . import compact, devices
from .diffusion.hub import DEFAULT_MODEL, is_absent
from .kinds import DIFFUSERS, kind_of


@dataclass(frozen=True)
class ModelChoice:
    """A model on a device.

    Attributes:
        model: The directory, file or hub id, as the user named it, or ``"compact"``, the embedded model.
        device: Name of the torch device; of the embedded model ``"cpu"``, or ``"cuda"`` with or without a number.
        dtype: Name of the torch dtype; of the embedded model ``"int8"``.
        compiled: Whether its networks are compiled for shapes that recur.
        reason: Why ``"auto"`` stands for it; ``""`` if the settings name it.
        is_fault: Whether the reason is something damaged or missing that should not be.
        substitute: What takes its place if it turns out not to work; ``None`` if that is an error.
        vae: What takes the place of the model's autoencoder, as the user named it; ``None`` if that is its own.
    """

    model: str
    device: str
    dtype: str
    compiled: bool
    reason: str = ""
    is_fault: bool = False
    substitute: "ModelChoice | None" = None
    vae: str | None = None

    @property
    def autoencoder(self) -> str:
        """The name of the model whose autoencoder it is."""
        return self.vae or self.model

    def substituted(self, reason: str) -> "ModelChoice | None":
        """Return what takes its place, for that reason."""
        return self.substitute and replace(self.substitute, reason=reason, is_fault=True)


def choose_model(settings: options.Settings) -> ModelChoice:
    """Return what settings come to; nothing is loaded or downloaded.

    ``"auto"`` means: the device is the accelerator if there is one, else the CPU; the dtype is half precision on
    accelerators, else float32; the model is Stable Diffusion v1.4 if the device is CUDA or if its weights are already
    in the hub's local cache, and if it works; else the embedded one, or the autoencoder that the settings name, as a
    model of its own. Torch is not imported for the embedded model where that can be seen without it.

    Raises:
        OptionError: ``settings.device`` is not the name of a torch device.
        ModelUnavailableError: The device is not usable here, or the model that the settings name needs a library that
            is not installed.
    """
    if settings.model != "auto":
        return _named(settings.model, settings)
    other = _named(settings.vae or compact.NAME, settings._replace(vae=None))
    if lacking := libraries.lacking():
        return replace(other, reason=f"{' and '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} not installed")
    no_cuda = f"the device is not CUDA, and {DEFAULT_MODEL} is"
    if settings.device == "auto" and not supports_cuda() and is_absent(DEFAULT_MODEL):  # no reason to import torch
        return replace(other, reason=f"{no_cuda} not in the hub's local cache")
    try:
        if devices.needs_torch(settings.device):
            libraries.imported("torch")
    except ModelUnavailableError as error:
        return replace(other, reason=str(error), is_fault=True)
    default = replace(_named(DEFAULT_MODEL, settings), substitute=other)
    try:
        missing = DIFFUSERS.missing_parts(DEFAULT_MODEL, devices.precision_for(default.dtype))
    except ModelUnavailableError as error:
        return replace(other, reason=str(error), is_fault=True)
    if type_of(default.device) == "cuda":
        return replace(default, reason=f"the device is {default.device}")
    if not missing:
        return replace(default, reason="it is in the hub's local cache")
    lack = "not in the hub's local cache" if "vae" in missing else f"there without its {' and '.join(missing)}"
    return replace(other, reason=f"{no_cuda} {lack}")


def _named(model: str, settings: options.Settings) -> ModelChoice:
    device, dtype = kind_of(model).place(model, settings)
    return ModelChoice(model, device, dtype, settings.compile, vae=settings.vae)
