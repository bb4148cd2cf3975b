"""The files of a model on this machine: whether they are whole, and from their tensors to a network."""

import json
from collections.abc import Iterable, Mapping
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
    if isinstance(error, FileNotFoundError):
        return DamagedFileError(path, "is not there")
    if isinstance(error, PermissionError):
        mend = f"let this user read {path}"
    elif isinstance(error, NotADirectoryError):
        mend = f"move {next(parent for parent in path.parents if parent.is_file())} away, where a folder should be"
    return DamagedFileError(path, f"cannot be read ({error.strerror or error})", mend)


def mapped(files: Iterable[Path], prefix: str = "") -> "dict[str, torch.Tensor]":
    """Return the tensors of safetensors files whose names begin with ``prefix``, by the rest of their names.

    The files are mapped into memory, and of a tensor nothing is read before it is used.
    """
    from safetensors import safe_open

    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no dict
                if name.startswith(prefix):
                    tensors[name.removeprefix(prefix)] = file.get_tensor(name)
    return tensors


def check_tensors(network: "torch.nn.Module", tensors: "Mapping[str, torch.Tensor]") -> None:
    """Check that there are all tensors of a network, and in its shapes; what else there is does not matter.

    Args:
        network: Its own tensors may be on the device ``meta``.
        tensors: By the names that the network has for them.

    Raises:
        ValueError: There are not.
    """
    for name, tensor in network.state_dict().items():
        if name not in tensors:
            raise ValueError(f"the weights lack {name}")
        if tensors[name].shape != tensor.shape:
            raise ValueError(f"{name} has the shape {list(tensors[name].shape)}, not {list(tensor.shape)}")


def fill(network: "torch.nn.Module", tensors: "Mapping[str, torch.Tensor]", dtype: "torch.dtype") -> None:
    """Give a network, whose tensors are on the device ``meta``, others of their names, in ``dtype``; as above.

    Raises:
        ValueError: There are not all of them.
    """
    check_tensors(network, tensors)
    network.load_state_dict({name: tensors[name].to(dtype) for name in network.state_dict()}, assign=True)
