"""Whether there may be a GPU to compute on, as far as that can be seen without importing torch."""

import ctypes
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_LIBRARIES = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
_ROCM = Path("/dev/kfd")


def may_be_there() -> bool:
    """Tell whether torch could find CUDA or ROCm; once torch is imported, ask it."""
    return sys.modules.get("torch") is not None or (find_spec("torch") is not None and is_there())


@cache
def is_there() -> bool:
    """Tell whether there is a driver of CUDA or ROCm."""
    library = _LIBRARIES.get(sys.platform)
    if library is None:
        return False
    try:
        ctypes.CDLL(library)
    except OSError:
        return _ROCM.exists()
    return True
