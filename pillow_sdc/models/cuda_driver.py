"""Whether there may be a GPU that torch computes on, as far as that can be told without importing torch."""

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_LIBRARIES = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_ROCM = Path("/dev/kfd")


def may_be_there() -> bool:
    """Tell whether torch could find CUDA or ROCm; if torch is imported already it knows."""
    return "torch" in sys.modules or (find_spec("torch") is not None and _driver_is_there())


@cache
def _driver_is_there() -> bool:
    library = _LIBRARIES.get(sys.platform)
    if library is None:
        return False
    try:
        ctypes.CDLL(library)
    except OSError:
        return _ROCM.exists()
    return True
