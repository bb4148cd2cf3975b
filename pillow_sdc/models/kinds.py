"""The kinds of models, which a model's name distinguishes, and what each needs, finds and loads."""

from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from .. import options
from ..errors import ModelUnavailableError
from ..runtime import libraries
from ..runtime.accelerators import type_of
from . import compact, devices
from .diffusion import hub, single_file
from .diffusion.diffusers_models import check_autoencoder, check_denoiser, load_autoencoder, load_denoiser
from .diffusion.empty_prompt import encode_empty_prompt
from .diffusion.layout import PARTS, PartName, Precision
from .diffusion.original_checkpoint import CheckpointFile, Family, file_of
from .interfaces import Autoencoder, Denoiser


class ModelKind(Protocol):
    """What is asked of each kind of model; ``model`` is the name of one, as the user gave it."""

    @property
    def libraries(self) -> tuple[str, ...]:
        """The libraries that it computes with."""
        ...

    def check_libraries(self) -> None:
        """Import the libraries.

        Raises:
            ModelUnavailableError: One is not installed, broken, or too old.
        """
        ...

    def place(self, model: str, settings: options.Settings) -> tuple[str, str]:
        """Return the device and the dtype that it computes in; it need not be here.

        Raises:
            OptionError: ``settings.device`` is not the name of a device.
            ModelUnavailableError: The device cannot be used here, or a library is not installed.
        """
        ...

    def missing_parts(self, model: str, precision: Precision) -> tuple[PartName, ...]:
        """Check what is here of it, without loading it or asking the network; return the parts that are not here.

        Raises:
            ModelUnavailableError: A part is damaged or unsuitable, or a library is not installed or broken.
        """
        ...

    def fetch(self, model: str, settings: options.Settings) -> Path:
        """Download what is not yet here, in the precision of the settings; return the directory or file that holds it.

        Raises:
            ModelUnavailableError: A part is not here and cannot be had.
            OptionError: ``settings.device`` is not the name of a device.
        """
        ...

    def load_autoencoder(self, model: str, device: str, dtype: str) -> Autoencoder:
        """Load the autoencoder, downloaded if it is not here.

        Raises:
            ModelUnavailableError: It cannot be had, or is not of SD v1's latent space.
            ModelFailedError: The device has too little memory.
        """
        ...

    def load_denoiser(self, model: str, device: str, dtype: str) -> Denoiser | None:
        """Load the denoiser likewise; ``None`` if the decoder needs none."""
        ...


class EmbeddedModel:
    """The kind of the model that comes with the package."""

    libraries = (libraries.ONNXRUNTIME,)

    def check_libraries(self) -> None:
        """As :meth:`ModelKind.check_libraries`."""
        compact.runtime()

    def place(self, model: str, settings: options.Settings) -> tuple[str, str]:
        """As :meth:`ModelKind.place`: on the CPU, or on CUDA where onnxruntime can."""
        device = settings.device
        if type_of(device) not in ("auto", "cpu", "cuda") and find_spec("torch") is not None:
            devices.choose_device(device)  # refuses what is not a device, and what is not here
        return compact.usable_device(device), compact.DTYPE

    def missing_parts(self, model: str, precision: Precision) -> tuple[PartName, ...]:
        """As :meth:`ModelKind.missing_parts`."""
        compact.check()
        return ()

    def fetch(self, model: str, settings: options.Settings) -> Path:
        """As :meth:`ModelKind.fetch`: it is always here."""
        return compact.WEIGHTS

    def load_autoencoder(self, model: str, device: str, dtype: str) -> Autoencoder:
        """As :meth:`ModelKind.load_autoencoder`."""
        return compact.CompactAutoencoder(device)

    def load_denoiser(self, model: str, device: str, dtype: str) -> Denoiser | None:
        """As :meth:`ModelKind.load_denoiser`."""
        return None


class _TorchModel:
    """What the kinds of models have in common that torch and diffusers compute."""

    libraries = libraries.OF_DIFFUSERS

    def check_libraries(self) -> None:
        """As :meth:`ModelKind.check_libraries`."""
        libraries.check_those_of_diffusers()

    def place(self, model: str, settings: options.Settings) -> tuple[str, str]:
        """As :meth:`ModelKind.place`."""
        _check_installed(model)
        device = devices.choose_device(settings.device)
        return device, devices.choose_dtype(settings.dtype, device)


class DiffusersModel(_TorchModel):
    """The kind of models in diffusers' layout, pipelines and autoencoders alone, in a directory or on the hub."""

    def missing_parts(self, model: str, precision: Precision) -> tuple[PartName, ...]:
        """As :meth:`ModelKind.missing_parts`."""
        if hub.is_absent(model):
            return PARTS[:1]
        _check_installed(model)
        parts = hub.parts_here(model, precision)
        if any(parts.values()):
            self.check_libraries()
        if vae := parts["vae"]:
            check_autoencoder(vae)
        if (unet := parts.get("unet")) and (scheduler := parts.get("scheduler")):
            check_denoiser(unet, scheduler)
        return tuple(name for name, part in parts.items() if part is None)

    def fetch(self, model: str, settings: options.Settings) -> Path:
        """As :meth:`ModelKind.fetch`."""
        _, dtype = self.place(model, settings)
        return hub.fetch(model, devices.precision_for(dtype))

    def load_autoencoder(self, model: str, device: str, dtype: str) -> Autoencoder:
        """As :meth:`ModelKind.load_autoencoder`."""
        self.check_libraries()  # before anything is downloaded
        return load_autoencoder(hub.locate(model, "vae", devices.precision_for(dtype)), device, dtype)

    def load_denoiser(self, model: str, device: str, dtype: str) -> Denoiser | None:
        """As :meth:`ModelKind.load_denoiser`: the U-Net, or the embedded denoiser behind an autoencoder alone."""
        self.check_libraries()
        if not hub.is_pipeline(model):
            return compact.CompactDenoiser(compact.usable_device(device))
        parts: tuple[PartName, ...] = "unet", "scheduler", "tokenizer", "text_encoder"
        unet, scheduler, tokenizer, text_encoder = hub.locate_all(model, parts, devices.precision_for(dtype))
        return load_denoiser(unet, scheduler, encode_empty_prompt(tokenizer, text_encoder), device, dtype)


class SingleFileModel(_TorchModel):
    """The kind of models in one safetensors file: checkpoints in the original layout, and autoencoders alone."""

    def missing_parts(self, model: str, precision: Precision) -> tuple[PartName, ...]:
        """As :meth:`ModelKind.missing_parts`: the autoencoder of a checkpoint may be missing, and another named."""
        found = self._identified(model)
        parts = {name: single_file.part_of(model, found, name) for name in found.parts}
        if "vae" in parts:
            check_autoencoder(parts["vae"])
        if found.family is Family.AUTOENCODER:
            return ()
        check_denoiser(single_file.part_of(model, found, "unet"), single_file.part_of(model, found, "scheduler"))
        single_file.part_of(model, found, "text_encoder")
        return () if "vae" in parts else ("vae",)

    def fetch(self, model: str, settings: options.Settings) -> Path:
        """As :meth:`ModelKind.fetch`: the file, which is here or nowhere."""
        return self._identified(model).path

    def load_autoencoder(self, model: str, device: str, dtype: str) -> Autoencoder:
        """As :meth:`ModelKind.load_autoencoder`."""
        return load_autoencoder(single_file.part_of(model, self._identified(model), "vae"), device, dtype)

    def load_denoiser(self, model: str, device: str, dtype: str) -> Denoiser | None:
        """As :meth:`ModelKind.load_denoiser`: the U-Net, or the embedded denoiser behind an autoencoder alone."""
        found = self._identified(model)
        if found.family is Family.AUTOENCODER:
            return compact.CompactDenoiser(compact.usable_device(device))
        text_encoder, unet, scheduler = (
            single_file.part_of(model, found, name) for name in ("text_encoder", "unet", "scheduler")
        )
        return load_denoiser(unet, scheduler, encode_empty_prompt(None, text_encoder), device, dtype)

    def _identified(self, model: str) -> CheckpointFile:
        """Return what the file is.

        Raises:
            ModelUnavailableError: It is not here, damaged, or something else than a model; or a library is broken.
        """
        self.check_libraries()
        path = file_of(model)
        assert path is not None  # noqa: S101 - by the kind
        return single_file.identify(model, path)


EMBEDDED = EmbeddedModel()
DIFFUSERS = DiffusersModel()
SINGLE_FILE = SingleFileModel()


def kind_of(model: str) -> ModelKind:
    """Return the kind of a model by its name; not of ``"auto"``, which stands for another."""
    if model == compact.NAME:
        return EMBEDDED
    return DIFFUSERS if file_of(model) is None else SINGLE_FILE


def path_of(model: str) -> Path | None:
    """Return the file or directory that a model's name stands for; ``None`` if it is the name of another kind."""
    return file_of(model) or hub.directory_of(model)


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
