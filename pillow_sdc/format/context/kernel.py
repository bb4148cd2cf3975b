"""The compiled kernel of the codec ``context``, where the package was built with a C compiler.

``kernel.c`` computes the same integers as the Python modules, which are the reference and the fallback. It releases the
GIL. Only :mod:`.stream` and :mod:`.trellis` call it.
"""

import ctypes
import logging
import os
import sys
from collections.abc import Mapping
from ctypes import c_char_p, c_int32, c_int64, c_uint64, c_void_p
from enum import IntEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...progress import UNCOUNTED, Steps
from ...runtime.fork_safety import ForkSafeLock
from . import mixtures, range_coder
from .network import BAND, CHANNELS, OUTPUTS

if TYPE_CHECKING:
    from .stream import EntropyModel

LIBRARY = Path(__file__).parent / {"win32": "sdc_context.dll", "darwin": "libsdc_context.dylib"}.get(
    sys.platform, "libsdc_context.so"
)

VARIABLE = "PILLOW_SDC_KERNEL"
"""Environment variable: ``0`` selects the Python reference, the name of a path selects that path of the kernel."""

_VERSION = 2
_WINDOW, _UNITS, _LAST_UNITS = 190, 96, 16
_WEIGHTS = {
    "window.weights": (CHANNELS, _WINDOW, _UNITS),
    "here": (CHANNELS, CHANNELS, _UNITS),
    "inner0.weights": (CHANNELS, _UNITS, _UNITS),
    "inner1.weights": (CHANNELS, _UNITS, _UNITS),
    "last.weights": (CHANNELS, _UNITS, OUTPUTS),
}
"""Shapes of the weights that the kernel supports."""


class Operation(IntEnum):
    """What the kernel is to do with a picture's symbols."""

    READ = 0
    READ_TRUNCATED = 1
    WRITE = 2
    PREDICT = 3


class Status(IntEnum):
    """How an operation ended."""

    DONE = 0
    DAMAGED = 1
    TOO_FAR = 2
    TRUNCATED = 3
    FULL = 4


class KernelOutput(NamedTuple):
    """Result of an operation.

    Attributes:
        status: How it ended.
        symbols: int64 ``(4, rows, columns)``.
        means: Centroids of the symbols' latents, float64 of the same shape.
        variances: Variances around the centroids, of the same shape; negative where a symbol was not read.
        state: State of the range decoder after the last symbol read.
    """

    status: Status
    symbols: NDArray[np.int64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    state: range_coder.DecoderState


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("window", "here", "inner0", "inner1", "last")),
        *((name, c_void_p) for name in ("window_bias", "inner0_bias", "inner1_bias", "last_bias")),
        *((name, c_void_p) for name in ("weights", "inverse_scales", "logistic_cdf")),
        *((name, c_int32) for name in ("step", "bin_width", "radius", "is_trellis", "path")),
    ]


class _Coder(ctypes.Structure):
    _fields_ = [
        ("stream", c_void_p),
        ("length", c_int64),
        ("next", c_int64),
        ("width", c_uint64),
        ("offset", c_uint64),
    ]


class Kernel:
    """A loaded kernel, and the code path, by instruction set, that it takes."""

    def __init__(self, library: Path = LIBRARY, path: str | None = None) -> None:
        """Load the kernel.

        Args:
            library: The shared library.
            path: Name of the code path; by default the fastest that the processor supports.

        Raises:
            OSError: The library cannot be loaded, or has another version.
            ValueError: The processor does not support the code path.
        """
        self._library = ctypes.CDLL(os.fspath(library))
        self._declare()
        version = self._library.sdc_version()
        if version != _VERSION:
            raise OSError(f"{library} has version {version}, not {_VERSION}; install pillow-sdc again")
        running = {
            self._library.sdc_path_name(number).decode(): number
            for number in range(self._library.sdc_path_count())
            if self._library.sdc_path_runs(number)
        }
        self.paths = tuple(running)
        """Names of the code paths that this processor supports, the fastest last."""
        self.path = path or self.paths[-1]
        if self.path not in running:
            raise ValueError(
                f"{self.path!r} is not one of the paths that this processor supports: {', '.join(running)}"
            )
        self._path = running[self.path]
        self._packed: dict[int, tuple[object, dict[str, NDArray[np.int8]]]] = {}
        tables = mixtures.MIXTURE_WEIGHTS, mixtures.INVERSE_SCALES, mixtures.LOGISTIC_CDF
        self._tables = [np.ascontiguousarray(table, np.int32) for table in tables]

    def takes(self, arrays: Mapping[str, NDArray[np.integer]]) -> bool:
        """Return whether the kernel supports a network of these sizes."""
        return all(arrays[name].shape == shape and arrays[name].dtype == np.int8 for name, shape in _WEIGHTS.items())

    def read(
        self, stream: bytes, rows: int, columns: int, model: "EntropyModel", *, whole: bool, steps: Steps = UNCOUNTED
    ) -> KernelOutput:
        """Read the symbols of a stream. A stream that need not be ``whole`` is read as far as it goes."""
        state = range_coder.Decoder(stream).state
        coder = _Coder(ctypes.cast(c_char_p(stream), c_void_p), len(stream), *state)
        symbols = np.zeros((CHANNELS, rows, columns), np.int64)
        return self._run(model, Operation.READ if whole else Operation.READ_TRUNCATED, coder, symbols, steps)

    def predict(self, symbols: NDArray[np.int64], model: "EntropyModel") -> KernelOutput:
        """Return means and variances of the latents of symbols ``(4, rows, columns)``."""
        return self._run(model, Operation.PREDICT, _Coder(), np.ascontiguousarray(symbols))

    def write(self, symbols: NDArray[np.int64], model: "EntropyModel", steps: Steps = UNCOUNTED) -> bytes:
        """Return the stream of symbols ``(4, rows, columns)``."""
        symbols = np.ascontiguousarray(symbols)
        size = 64 + 2 * symbols.size
        while True:
            out = np.empty(size, np.uint8)
            coder = _Coder(out.ctypes.data, size, 0, range_coder.TOP, 0)
            if self._run(model, Operation.WRITE, coder, symbols, steps).status != Status.FULL:
                return range_coder.terminate(bytearray(out[: coder.next].tobytes()), coder.offset, coder.width)
            size *= 4  # rare: symbols with long escapes
            steps = UNCOUNTED  # they have been counted

    def quantise(self, targets: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the symbols of chains ``(n, places)`` of targets in steps, as :func:`.trellis.quantise` does."""
        targets = np.ascontiguousarray(targets)
        chains, places = targets.shape
        symbols = np.empty(targets.shape, np.int64)
        memory = _memory(self._library.sdc_quantise_bytes(places))
        pointers = _pointer(targets), chains, places, _pointer(symbols), _pointer(memory)
        self._library.sdc_quantise(self._path, *pointers)
        return symbols

    def _run(
        self,
        model: "EntropyModel",
        operation: Operation,
        coder: _Coder,
        symbols: NDArray[np.int64],
        steps: Steps = UNCOUNTED,
    ) -> KernelOutput:
        """Run an operation band by band; between two bands progress is counted and the caller can be interrupted."""
        _, rows, columns = symbols.shape
        size = 0 if operation == Operation.WRITE else symbols.size
        means, variances = np.zeros(size), np.full(size, -1.0)
        memory = _memory(self._library.sdc_work_bytes(columns))
        arrays = self._arrays(model)
        fields = [array.ctypes.data for array in arrays]
        in_c = _Model(*fields, model.step, model.bin_width, model.radius, model.trellis, self._path)
        pointers = [_pointer(array) for array in (symbols, means, variances, memory)]
        for top in range(0, rows, BAND):
            place = rows, columns, top
            status = Status(
                self._library.sdc_run_band(ctypes.byref(in_c), operation, *place, ctypes.byref(coder), *pointers)
            )
            if status != Status.DONE:
                break
            steps.done()
        shape = symbols.shape if size else (0,)
        state = range_coder.DecoderState(coder.next, coder.width, coder.offset)
        return KernelOutput(status, symbols, means.reshape(shape), variances.reshape(shape), state)

    def _arrays(self, model: "EntropyModel") -> list[NDArray[Any]]:
        """Return the arrays that :class:`_Model` points to, in its order."""
        weights = self._weights(model.arrays)
        biases = [np.ascontiguousarray(bias, np.int32) for bias in model.network.biases]
        if offset := self._library.sdc_path_offset(self._path):
            sums = model.arrays["window.weights"].sum(1, dtype=np.int32) + model.arrays["here"].sum(1, dtype=np.int32)
            biases[0] -= offset * sums.reshape(-1)
        return [*(weights[name] for name in ("window", "here", "inner0", "inner1", "last")), *biases, *self._tables]

    def _weights(self, arrays: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.int8]]:
        """Return a network's weights in the kernel's packing, computed once."""
        known = self._packed.get(id(arrays))
        if known is None:
            window = np.concatenate(list(arrays["window.weights"]), axis=1)
            packed = {"window": self._pack(window, window.shape[1])}
            for name in ("here", "inner0", "inner1", "last"):
                layers = arrays[name if name == "here" else f"{name}.weights"]
                width = _LAST_UNITS if name == "last" else layers.shape[2]
                packed[name] = np.concatenate([self._pack(layer, width) for layer in layers])
            known = self._packed[id(arrays)] = arrays, packed  # keeps the arrays alive, so that the id stays theirs
        return known[1]

    def _pack(self, weights: NDArray[np.integer], width: int) -> NDArray[np.int8]:
        inputs, units = weights.shape
        packed = np.empty(4 * -(-inputs // 4) * width, np.int8)
        values = np.ascontiguousarray(weights, np.int8)
        self._library.sdc_pack(_pointer(values), inputs, units, width, _pointer(packed))
        return packed

    def _declare(self) -> None:
        library = self._library
        library.sdc_path_name.restype = c_char_p
        library.sdc_work_bytes.argtypes, library.sdc_work_bytes.restype = [c_int64], c_int64
        library.sdc_pack.argtypes = [c_void_p, c_int32, c_int32, c_int32, c_void_p]
        library.sdc_pack.restype = None
        library.sdc_run_band.argtypes = [c_void_p, c_int32, *[c_int64] * 3, c_void_p, *[c_void_p] * 4]
        library.sdc_quantise_bytes.argtypes, library.sdc_quantise_bytes.restype = [c_int64], c_int64
        library.sdc_quantise.argtypes = [c_int32, c_void_p, c_int64, c_int64, c_void_p, c_void_p]
        library.sdc_quantise.restype = None


def _memory(size: int) -> NDArray[np.uint64]:
    """Return at least ``size`` bytes, aligned to 8."""
    return np.empty(-(-size // 8), np.uint64)


def _pointer(array: NDArray[Any]) -> int:
    return array.ctypes.data


class KernelSelection(NamedTuple):
    """The implementation that this process uses.

    Attributes:
        kernel: The compiled kernel, or ``None`` for the Python reference.
        reason: Why, in one sentence.
    """

    kernel: Kernel | None
    reason: str


_lock = ForkSafeLock()


def selection() -> KernelSelection:
    """Return the implementation that this process uses; a kernel that does not load falls back to Python."""
    with _lock:  # so that not two threads load it, and warn
        return _select()


@cache
def _select() -> KernelSelection:
    targets = os.environ.get(VARIABLE)
    if targets == "0":
        return KernelSelection(None, f"Python, because {VARIABLE} is 0")
    if not LIBRARY.exists():
        return KernelSelection(None, "Python: the installation found no C compiler, and has no compiled kernel")
    try:
        kernel = Kernel(LIBRARY, targets)
    except ValueError as error:
        problem = f"{VARIABLE}={error}"
    except (OSError, AttributeError) as error:  # the latter, where a function is missing
        problem = f"the compiled kernel does not load ({error}); install pillow-sdc again"
    else:
        return KernelSelection(kernel, f"compiled, {kernel.path}")
    reason = f"Python, up to 20 times as slow: {problem}"
    logging.getLogger("pillow_sdc").warning("the codec context runs in %s", reason)
    return KernelSelection(None, reason)
