"""ONNX Runtime sessions for the embedded networks.

onnxruntime is imported when a network is first used. Its telemetry is turned off before: on Linux the import would
write a device id to the user's cache folder, start a thread and look up a collector.
"""

import ctypes
import hashlib
import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelFailedError, ModelUnavailableError, OptionError
from ...runtime.accelerators import has_cuda_driver, type_of
from ...runtime.fork_safety import ForkSafeLock, in_forked_children
from ...runtime.libraries import ONNXRUNTIME, imported, summary

NETWORKS = ("encoder", "decoder", "denoiser")
"""Names of the networks."""

WEIGHTS = Path(__file__).parent / "weights"
"""Folder of the networks, ``NAME.onnx`` each."""

CHECKSUMS = "SHA256SUMS"
"""Name of the file that lists the SHA-256 of each file in :data:`WEIGHTS`; others than these are not loaded."""

TELEMETRY = "ORT_DISABLE_TELEMETRY"
"""Environment variable of onnxruntime's; ``1`` turns its telemetry off."""

OLDEST = (1, 20)
"""Version of onnxruntime, major and minor, that is needed at least."""

_logger = logging.getLogger("pillow_sdc")

_sessions: dict[tuple[str, str, int], Any] = {}
_making = ForkSafeLock()

_ON_CUDA = "CUDAExecutionProvider"


def run(name: str, device: str, cores: int, inputs: dict[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the output of a network.

    Args:
        name: Of its file.
        device: ``"cpu"``, or ``"cuda"`` with or without a number.
        cores: Threads of a session on the CPU.
        inputs: Finite float32 arrays, by the names that the network gives them.

    Raises:
        ModelUnavailableError: The network or onnxruntime cannot be loaded.
        ModelFailedError: The inputs are not finite, or memory ran out.
    """
    for values in inputs.values():
        if not np.isfinite(values).all():  # eight bits would make any number of them
            raise ModelFailedError(f"the {name} failed: its inputs are not finite numbers")
    session = _session(name, device, cores)
    try:
        (output,) = session.run(None, inputs)
    except Exception as error:  # onnxruntime's errors have no common base
        raise ModelFailedError(f"the {name} failed ({summary(error)})") from error
    result: NDArray[np.float32] = output
    return result


def released(name: str) -> bytes:
    """Return the file of a network, if it is the one that was released.

    Raises:
        ModelUnavailableError: It is not.
    """
    path = WEIGHTS / f"{name}.onnx"
    try:
        data = path.read_bytes()
        checksums = (WEIGHTS / CHECKSUMS).read_text(encoding="ascii").splitlines()
        if f"{hashlib.sha256(data).hexdigest()}  {path.name}" not in checksums:
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise ModelUnavailableError(f"{path} is damaged or missing ({error}); install pillow-sdc again") from error
    return data


def check() -> None:
    """Check that all networks are here and are the released ones.

    Raises:
        ModelUnavailableError: One is not.
    """
    for name in NETWORKS:
        released(name)


def usable_device(device: str) -> str:
    """Return the device on which sessions compute when ``device`` is asked for; warn once if it is another.

    ``"auto"`` is CUDA where there is a driver and onnxruntime can use it.

    Raises:
        OptionError: CUDA has no such number.
        ModelUnavailableError: onnxruntime is not installed, or broken.
    """
    kind, _, number = device.partition(":")
    if device == "cpu" or (device == "auto" and not has_cuda_driver()):
        return "cpu"
    if kind == "cuda" and not re.fullmatch(r"cuda(:[0-9]+)?", device):
        raise OptionError(f"device is {device!r}; after 'cuda:' comes the number of the card")
    if kind in ("auto", "cuda") and _ON_CUDA in runtime().get_available_providers():
        return f"cuda:{int(number)}" if number else "cuda"
    if kind != "auto":
        _say_that_it_computes_on_the_cpu(device)
    return "cpu"


def forget() -> None:
    """Release all sessions, and their memory."""
    with _making:
        _sessions.clear()


def _session(name: str, device: str, cores: int) -> Any:
    key = name, device, cores
    session = _sessions.get(key)
    if session is None:
        with _making:
            session = _sessions.get(key) or _sessions.setdefault(key, _made(name, device, cores))
    return session


def _made(name: str, device: str, cores: int) -> Any:
    data = released(name)
    onnxruntime = runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers: list[Any] = ["CPUExecutionProvider"]
    if type_of(device) == "cuda":
        providers.insert(0, (_ON_CUDA, {"device_id": int(device.partition(":")[2] or 0)}))
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base
        raise ModelUnavailableError(
            f"{WEIGHTS / name}.onnx cannot be loaded by onnxruntime {onnxruntime.__version__}"
            f" ({summary(error)}); install a newer onnxruntime, or pillow-sdc again"
        ) from error
    if len(providers) > 1 and _ON_CUDA not in session.get_providers():  # its libraries are missing, or the card
        _say_that_it_computes_on_the_cpu(device)
    return session


@cache
def runtime() -> Any:
    """Return onnxruntime, its telemetry turned off.

    Raises:
        ModelUnavailableError: It is not installed, broken, or too old.
    """
    os.environ.setdefault(TELEMETRY, "1")
    onnxruntime = imported(ONNXRUNTIME)
    found = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
    if found < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise ModelUnavailableError(
            f"onnxruntime {onnxruntime.__version__} is too old for the embedded model, which needs {wanted} or newer:"
            " pip install --upgrade onnxruntime"
        )
    return onnxruntime


@cache
def _say_that_it_computes_on_the_cpu(device: str) -> None:
    _logger.warning(
        "the embedded model computes on the CPU, not on %s: it needs CUDA, and onnxruntime-gpu in place of onnxruntime",
        device,
    )


def _abandon() -> None:
    """Make new sessions from now on, and never release those of the parent: that would wait for threads it has."""
    for session in _sessions.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(session))
    _sessions.clear()


in_forked_children(_abandon)
