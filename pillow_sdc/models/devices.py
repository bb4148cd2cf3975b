"""Where torch computes, and in which precision: what the settings ``device`` and ``dtype`` stand for here."""

import logging

from ..errors import ModelUnavailableError, OptionError
from ..runtime import cuda_driver, libraries
from ..runtime.torch_state import isolated
from .diffusion.layout import Precision

_logger = logging.getLogger("pillow_sdc")


def choose_device(name: str) -> str:
    """Return the torch device that a setting stands for: of ``"auto"`` CUDA if it works, else the CPU.

    Torch is imported where only it knows.

    Raises:
        OptionError: The setting is not the name of a torch device.
        ModelUnavailableError: The device cannot be used here.
    """
    if not needs_torch(name):
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


def choose_dtype(name: str, device: str) -> str:
    """Return the torch dtype that a setting stands for: of ``"auto"`` float16 on CUDA, else float32."""
    if name == "auto":
        return "float16" if device.startswith("cuda") else "float32"
    return name


def precision_for(dtype: str) -> Precision:
    """Return which weights suit a dtype."""
    return Precision.FULL if dtype == "float32" else Precision.HALF


def needs_torch(device: str) -> bool:
    """Tell whether only torch knows what a device setting stands for here."""
    return device != "cpu" and (device != "auto" or cuda_driver.may_be_there())


def _unusable(device: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"device {device!r} cannot be used here: {reason}; name another with pillow_sdc.configure(device=...) or the"
        " environment variable PILLOW_SDC_DEVICE"
    )


def _try_device(name: str) -> None:
    """Bring a number to a device and back: the device ``meta`` holds none.

    Raises:
        RuntimeError: The device cannot be used; or AssertionError or ImportError, where torch was built without it.
    """
    import torch

    with isolated():
        torch.zeros(1, device=name).cpu()
