"""The files of a model on this machine: whether they are whole, and from their tensors to a network."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.libraries import imported
from .layout import DamagedFileError

if TYPE_CHECKING:
    import torch

LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_file(path: Path) -> None:
    """Check that a file can be read and is what its suffix says, without reading all of it.

    Of a safetensors file the header is read, and the file must be as long as the header says.

    Raises:
        DamagedFileError: It is not.
        ModelUnavailableError: The library that reads safetensors files is broken.
    """
    safetensors = imported("safetensors")
    try:
        with path.open("rb") as file:
            beginning = file.read(len(LFS_POINTER))
        if beginning == LFS_POINTER:
            reason = "is a Git LFS pointer, which stands for the file"
            raise DamagedFileError(path, reason, f"run `git lfs pull` in {path.parent}")
        if path.suffix == ".json" and not isinstance(json.loads(path.read_bytes()), dict):
            raise ValueError("it is not a JSON object")
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="numpy"):
                pass
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError, safetensors.SafetensorError) as error:
        raise DamagedFileError(path, f"is damaged or cut short ({error})") from error


def unreadable(path: Path, error: OSError) -> DamagedFileError:
    """Return the error that says why the system does not let a file be read, and what to do."""
    mend = None
    if isinstance(error, PermissionError):
        mend = f"let this user read {path}"
    elif isinstance(error, NotADirectoryError):
        mend = f"move {next(parent for parent in path.parents if parent.is_file())} away, where a folder should be"
    return DamagedFileError(path, f"cannot be read ({error.strerror or error})", mend)


def check_tensors(network: "torch.nn.Module", files: Iterable[Path], name_of: Callable[[str], str] = str) -> None:
    """Check that files hold all tensors of a network, and in its shapes; what else they hold does not matter.

    Args:
        network: Its own tensors may be on the device ``meta``.
        files: Safetensors files.
        name_of: Returns the name that the network has for a name in the files.

    Raises:
        ValueError: They do not.
    """
    from safetensors import safe_open

    found: dict[str, list[int]] = {}
    for path in files:
        with safe_open(path, framework="numpy") as file:
            found |= {name_of(name): file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    for name, tensor in network.state_dict().items():
        if name not in found:
            raise ValueError(f"the weights lack {name}")
        if found[name] != list(tensor.shape):
            raise ValueError(f"{name} has the shape {found[name]}, not {list(tensor.shape)}")


def fill(
    network: "torch.nn.Module", files: Iterable[Path], dtype: "torch.dtype", name_of: Callable[[str], str] = str
) -> None:
    """Give a network, whose tensors are on the device ``meta``, those of the files, in ``dtype``; as above.

    Raises:
        ValueError: The files do not hold all of its tensors.
    """
    from safetensors.torch import load_file

    files = tuple(files)
    check_tensors(network, files, name_of)
    wanted = network.state_dict().keys()
    tensors = {name_of(name): tensor for path in files for name, tensor in load_file(path).items()}
    network.load_state_dict({name: tensors[name].to(dtype) for name in wanted}, assign=True)
