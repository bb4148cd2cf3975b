"""Whether there may be an accelerator to compute on, as far as that can be seen without importing torch."""

import ctypes
import platform
import runpy
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

CPU = "cpu"
"""Name of the device that is always there, and no accelerator."""

_CUDA_DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def type_of(device: str) -> str:
    """Return the type of a device of torch, such as ``"cuda"`` of ``"cuda:1"``."""
    return device.partition(":")[0]


def may_be_there() -> bool:
    """Tell whether torch could find an accelerator; once torch is imported, ask it."""
    if "torch" in sys.modules:
        return True
    if find_spec("torch") is None:
        return False
    backends = _built_for()
    if (sys.platform, platform.machine()) == ("darwin", "arm64"):  # whose torch computes on the GPU by MPS
        return True
    if backends is None or "cuda" in backends:
        return has_cuda_driver()
    return bool(backends)  # builds for ROCm and for XPU are nobody's who has not chosen them


def supports_cuda() -> bool:
    """Tell whether there is CUDA or ROCm for this system at all."""
    return sys.platform != "darwin"


@cache
def has_cuda_driver() -> bool:
    """Tell whether there is a driver of CUDA."""
    library = _CUDA_DRIVERS.get(sys.platform)
    if library is None:
        return False
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@cache
def _built_for() -> frozenset[str] | None:
    """Return the accelerators that torch was built for, ``"cuda"``, ``"hip"`` and ``"xpu"``; ``None`` if unknown.

    Its module ``version`` says so, and can be run by itself.
    """
    spec = find_spec("torch")
    try:
        names = runpy.run_path(str(Path(spec.origin).with_name("version.py")))  # type: ignore[union-attr, arg-type]
    except Exception:  # another layout than in any version so far
        return None
    return frozenset(name for name in ("cuda", "hip", "xpu") if names.get(name))
