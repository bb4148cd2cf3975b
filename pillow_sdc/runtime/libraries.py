"""The libraries that models compute with: each is imported when it is first needed, and a broken one is one error."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from ..errors import ModelUnavailableError
from .torch_state import isolated

ONNXRUNTIME = "onnxruntime"
"""Name of the library that the embedded model needs."""

OF_DIFFUSERS = ("torch", "safetensors", "huggingface_hub", "transformers", "diffusers")
"""Names of the libraries that the other models need, each after those that it imports itself."""

_USED = {
    "torch": ("device", "empty"),
    "diffusers": ("AutoencoderKL", "AutoencoderTiny"),
    "transformers": (),
    "safetensors": ("safe_open",),
    "huggingface_hub": ("HfApi", "snapshot_download"),
    ONNXRUNTIME: ("InferenceSession", "SessionOptions"),
}
"""Names that show whether a library is whole: some import a part of theirs when it is first asked for."""

_PACKAGES = {"huggingface_hub": "huggingface-hub"}
"""Names of packages by their libraries', where the two differ."""

_DISPATCHER = ". This could be because the operator doesn't exist for this backend"
"""Beginning of some 50 lines in a message of torch's, after the one that says which device lacks an operation."""

_first_reasons: dict[str, str] = {}
"""Why importing a library failed at first: when it is tried again, some raise something that explains nothing."""


def imported(library: str, *parts: str) -> Any:
    """Return a library, imported if it is not yet, together with those parts of it that are named.

    Raises:
        ModelUnavailableError: It is not installed, or its installation is broken.
    """
    package = _PACKAGES.get(library, library)
    try:
        module = import_module(library)
        for name in (*_USED[library], *parts):
            getattr(module, name)
    except Exception as error:  # a broken installation raises anything: OSError, RuntimeError, AttributeError ...
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise ModelUnavailableError(f"{package} is not installed; install it with pip install {package}") from error
        reason = _first_reasons.setdefault(library, summary(_root_of(error)))
        raise ModelUnavailableError(
            f"{package} is installed, but importing it fails ({reason}); install it again with"
            f" pip install --force-reinstall {package}"
        ) from error
    return module


def check_those_of_diffusers() -> None:
    """Import what models other than the embedded one need.

    Raises:
        ModelUnavailableError: One of the libraries is not installed, or its installation is broken.
    """
    torch, *others = OF_DIFFUSERS
    imported(torch)
    with isolated():  # what the caller has set in torch is not for modules that are imported now
        for library in others:
            imported(library)


def lacking() -> list[str]:
    """Return which of the libraries that models other than the embedded one need are not installed; imports none."""
    return [_PACKAGES.get(library, library) for library in OF_DIFFUSERS if find_spec(library) is None]


def summary(error: BaseException) -> str:
    """Return the kind of an error and the first line of its message, for those of libraries run to dozens."""
    line = str(error).strip().partition("\n")[0].partition(_DISPATCHER)[0].strip()
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


def _root_of(error: BaseException) -> BaseException:
    """Return the error that the others follow from: diffusers and transformers raise one that names it alone."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
