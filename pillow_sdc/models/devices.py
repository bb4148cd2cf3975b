"""Where torch computes, and in which precision: what the settings ``device`` and ``dtype`` stand for here."""

import logging
import sys
from collections.abc import Iterable

from ..errors import ModelUnavailableError, OptionError
from ..runtime import libraries
from ..runtime.accelerators import CPU, may_be_there, type_of
from ..runtime.torch_state import isolated
from .diffusion.layout import Precision

_DTYPES = {CPU: "float32", "cuda": "float16", "mps": "float16", "xpu": "float16"}
"""What types of devices compute in by default: half precision where they are quick in it; ROCm's is CUDA."""

_logger = logging.getLogger("pillow_sdc")


def choose_device(name: str) -> str:
    """Return the torch device that a setting stands for: of ``"auto"`` the accelerator if it works, else the CPU.

    Torch is imported where only it knows.

    Raises:
        OptionError: The setting is not the name of a torch device.
        ModelUnavailableError: The device cannot be used here.
    """
    if not needs_torch(name):
        return CPU
    torch = libraries.imported("torch")
    if name == "auto":
        if not torch.accelerator.is_available():
            return CPU
        accelerator: str = torch.accelerator.current_accelerator().type
        try:
            _try_device(accelerator)
        except (RuntimeError, ImportError, AssertionError) as error:  # as in a child forked after CUDA was used
            reason = libraries.summary(error)
            _logger.info("computing on the CPU, for %s cannot be used here: %s", accelerator, reason)
            return CPU
        return accelerator
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise OptionError(f"device is {name!r}; it must be 'auto' or the name of a torch device") from error
    try:
        _try_device(name)
    except (NotImplementedError, ImportError) as error:  # the former with a list of all that other devices can do
        raise _unusable(name, f"torch {torch.__version__} {_what_is_here()}") from error
    except (RuntimeError, AssertionError) as error:  # the latter where torch was built without the device
        raise _unusable(name, f"{libraries.summary(error)}; torch {_what_is_here()}") from error
    return str(device)


def choose_dtype(name: str, device: str) -> str:
    """Return the torch dtype that a setting stands for: of ``"auto"`` float32 on the CPU, half precision elsewhere.

    That is float16 on CUDA, ROCm, MPS and XPU; other accelerators are tried: bfloat16 is for those that lack float16.
    """
    if name != "auto":
        return name
    halves = ("float16", "bfloat16")
    known = _DTYPES.get(type_of(device))
    return known or next((dtype for dtype in halves if _computes_in(dtype, device)), "float32")


def precision_for(dtype: str) -> Precision:
    """Return which weights suit a dtype."""
    return Precision.FULL if dtype == "float32" else Precision.HALF


def needs_torch(device: str) -> bool:
    """Tell whether only torch knows what a device setting stands for here."""
    return device != CPU and (device != "auto" or may_be_there())


def count_devices(device: str) -> int:
    """Return how many devices of a device's type torch has here; it is imported for that."""
    count: int = libraries.imported("torch").get_device_module(type_of(device)).device_count()
    return count


def release_memory(devices: Iterable[str]) -> None:
    """Have torch give back what it keeps of these devices' memory for later; what is in use stays."""
    if (torch := sys.modules.get("torch")) is not None:
        for kind in {type_of(device) for device in devices} - {CPU}:
            torch.get_device_module(kind).empty_cache()


def _unusable(device: str, reason: str) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"device {device!r} cannot be used here: {reason}; name another with pillow_sdc.configure(device=...) or the"
        " environment variable PILLOW_SDC_DEVICE"
    )


def _what_is_here() -> str:
    """Return what torch computes on here, in words."""
    import torch

    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return f"computes on {accelerator.type} and the CPU here" if accelerator else "computes on the CPU alone here"


def _computes_in(dtype: str, device: str) -> bool:
    import torch

    try:
        with isolated():
            ones = torch.ones(1, 1, 2, 2, device=device, dtype=getattr(torch, dtype))
            return bool(torch.nn.functional.conv2d(ones @ ones, ones).cpu().item() == 8)
    except (RuntimeError, TypeError):
        return False


def _try_device(name: str) -> None:
    """Bring a number to a device and back: the device ``meta`` holds none.

    Raises:
        RuntimeError: The device cannot be used; or AssertionError or ImportError, where torch was built without it.
    """
    import torch

    with isolated():
        torch.zeros(1, device=name).cpu()
