"""The parts of a model that is one file: a checkpoint of Stable Diffusion v1, or an autoencoder alone.

Such a file has tensors and nothing else. The configurations of the parts, which are those of all models of the family,
come with the package.
"""

from pathlib import Path

from ...errors import ModelUnavailableError
from . import original_checkpoint
from .checkpoint import check_file
from .hub import Part, unavailable
from .layout import DamagedFileError, PartName
from .original_checkpoint import PREFIXES, CheckpointFile, Family

CONFIGURATIONS = Path(__file__).parent / "sd_v1"
"""Holds the configuration of each part in a folder of its name."""

_MEND = "name a checkpoint of Stable Diffusion v1 or its autoencoder, a .safetensors file"


def identify(model: str, path: Path) -> CheckpointFile:
    """Return what the file is, of which a model can be made.

    Raises:
        ModelUnavailableError: It is damaged or something else.
    """
    try:
        found = original_checkpoint.identify(path)
        check_file(path)
    except DamagedFileError as error:
        raise unavailable(model, str(error), error.mend) from error
    if not found.family.is_usable:
        is_in_a_model = found.family is Family.UNKNOWN and _has_configuration(path)
        mend = f"name the folder {path.parent}" if is_in_a_model else _MEND
        raise unavailable(model, f"{path} is {found.family.value}", mend)
    return found


def part_of(model: str, found: CheckpointFile, name: PartName) -> Part:
    """Return a part of a model, or its scheduler, which is in no file.

    Raises:
        ModelUnavailableError: The file does not have it.
    """
    configuration = CONFIGURATIONS / name
    if name == "scheduler":
        return Part(model, configuration, (configuration / "scheduler_config.json",), ())
    if name not in found.parts:
        raise _lacking(model, found, name)
    if name != "vae":
        return _part(model, configuration, found.path, PREFIXES[name], has_original_names=True)
    if not found.has_original_names and _has_configuration(found.path):
        configuration = found.path.parent  # which may say that it is of another latent space
    return _part(model, configuration, found.path, found.prefix, has_original_names=found.has_original_names)


def _has_configuration(path: Path) -> bool:
    """Tell whether a file lies in a folder of diffusers' layout, beside the configuration of its part."""
    return (path.parent / "config.json").is_file()


def _part(model: str, configuration: Path, path: Path, prefix: str, *, has_original_names: bool) -> Part:
    return Part(model, configuration, (configuration / "config.json", path), (path,), prefix, has_original_names)


def _lacking(model: str, found: CheckpointFile, name: PartName) -> ModelUnavailableError:
    if name == "vae":
        mend = "name one beside it with pillow_sdc.configure(vae=...) or the environment variable PILLOW_SDC_VAE"
        return unavailable(model, f"{found.path} has no autoencoder", mend)
    words = {"unet": "U-Net", "text_encoder": "text encoder, which the U-Net takes its prompt from"}
    assert found.family is Family.SD_V1  # noqa: S101 - nobody asks an autoencoder alone for these
    return unavailable(model, f"{found.path} has no {words[name]}", _MEND)
