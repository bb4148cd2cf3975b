"""The compiled kernel of the codec ``context``, where the package was built with a C compiler.

``kernel.c`` gives the same integers as the modules in Python, which are the reference and which run without it.
While it computes other threads run. Everything here is called by :mod:`.context_stream` and :mod:`.trellis` alone.
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
"""Environment variable: ``0`` has the reference run in place of the kernel, a path's name that path."""

_VERSION = 2
_WINDOW, _UNITS, _LAST_UNITS = 190, 96, 16
_WEIGHTS = {
    "window.weights": (CHANNELS, _WINDOW, _UNITS),
    "here": (CHANNELS, CHANNELS, _UNITS),
    "inner0.weights": (CHANNELS, _UNITS, _UNITS),
    "inner1.weights": (CHANNELS, _UNITS, _UNITS),
    "last.weights": (CHANNELS, _UNITS, OUTPUTS),
}
"""Shapes that the kernel is made for."""


class Task(IntEnum):
    """What the kernel does with a picture's symbols."""

    READ = 0
    READ_BEGINNING = 1
    WRITE = 2
    PREDICT = 3


class Result(IntEnum):
    """How it ended."""

    DONE = 0
    DAMAGED = 1
    TOO_FAR = 2
    TRUNCATED = 3
    FULL = 4


class Run(NamedTuple):
    """What the kernel did.

    Attributes:
        result: How it ended.
        numbers: Symbols, int64 ``(4, rows, columns)``.
        means: Of the latents that they stand for, float64 of the same shape.
        variances: Around these; negative where a symbol was not read.
        state: The decoder's, after the last symbol that was read.
    """

    result: Result
    numbers: NDArray[np.int64]
    means: NDArray[np.float64]
    variances: NDArray[np.float64]
    state: range_coder.DecoderState


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("window", "here", "inner0", "inner1", "last")),
        *((name, c_void_p) for name in ("window_bias", "inner0_bias", "inner1_bias", "last_bias")),
        *((name, c_void_p) for name in ("weights", "inverse_scales", "probabilities")),
        *((name, c_int32) for name in ("step", "cell", "beside", "is_trellis", "path")),
    ]


class _Coder(ctypes.Structure):
    _fields_ = [
        ("stream", c_void_p),
        ("length", c_int64),
        ("next", c_int64),
        ("width", c_uint64),
        ("number", c_uint64),
    ]


class Kernel:
    """A loaded kernel, and the path through it that suits the processor."""

    def __init__(self, library: Path = LIBRARY, path: str | None = None) -> None:
        """Load it.

        Args:
            library: The shared library.
            path: Name of the instructions to use; the fastest that the processor has unless given.

        Raises:
            OSError: It cannot be loaded, or is of another version.
            ValueError: The processor does not have these instructions.
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
        """Names of those that this processor can take, the fastest last."""
        self.path = path or self.paths[-1]
        if self.path not in running:
            raise ValueError(f"{self.path!r} is none of the paths that this processor can take: {', '.join(running)}")
        self._path = running[self.path]
        self._packed: dict[int, tuple[object, dict[str, NDArray[np.int8]]]] = {}
        tables = mixtures.WEIGHTS, mixtures.INVERSE_SCALES, mixtures.PROBABILITIES
        self._tables = [np.ascontiguousarray(table, np.int32) for table in tables]

    def takes(self, arrays: Mapping[str, NDArray[np.integer]]) -> bool:
        """Tell whether a network has the sizes that the kernel is made for."""
        return all(arrays[name].shape == shape and arrays[name].dtype == np.int8 for name, shape in _WEIGHTS.items())

    def read(
        self, stream: bytes, rows: int, columns: int, model: "EntropyModel", *, whole: bool, steps: Steps = UNCOUNTED
    ) -> Run:
        """Read the symbols of a stream; if it need not be ``whole``, until its end."""
        state = range_coder.Decoder(stream).state
        coder = _Coder(ctypes.cast(c_char_p(stream), c_void_p), len(stream), *state)
        numbers = np.zeros((CHANNELS, rows, columns), np.int64)
        return self._run(model, Task.READ if whole else Task.READ_BEGINNING, coder, numbers, steps)

    def predict(self, numbers: NDArray[np.int64], model: "EntropyModel") -> Run:
        """Return means and variances of the latents that symbols ``(4, rows, columns)`` stand for."""
        return self._run(model, Task.PREDICT, _Coder(), np.ascontiguousarray(numbers))

    def write(self, numbers: NDArray[np.int64], model: "EntropyModel", steps: Steps = UNCOUNTED) -> bytes:
        """Return the stream of symbols ``(4, rows, columns)``."""
        numbers = np.ascontiguousarray(numbers)
        size = 64 + 2 * numbers.size
        while True:
            out = np.empty(size, np.uint8)
            coder = _Coder(out.ctypes.data, size, 0, range_coder.TOP, 0)
            if self._run(model, Task.WRITE, coder, numbers, steps).result != Result.FULL:
                return range_coder.ended(bytearray(out[: coder.next].tobytes()), coder.number, coder.width)
            size *= 4  # far outside: symbols with long escapes
            steps = UNCOUNTED  # for some are counted already

    def quantise(self, wanted: NDArray[np.float64]) -> NDArray[np.int64]:
        """Do what :func:`.trellis.quantise` does with chains ``(n, places)``, in steps."""
        wanted = np.ascontiguousarray(wanted)
        chains, places = wanted.shape
        symbols = np.empty(wanted.shape, np.int64)
        memory = _memory(self._library.sdc_quantise_bytes(places))
        pointers = _pointer(wanted), chains, places, _pointer(symbols), _pointer(memory)
        self._library.sdc_quantise(self._path, *pointers)
        return symbols

    def _run(
        self,
        model: "EntropyModel",
        task: Task,
        coder: _Coder,
        numbers: NDArray[np.int64],
        steps: Steps = UNCOUNTED,
    ) -> Run:
        """Do a task band by band, with a step after each: between two bands the caller can be interrupted."""
        _, rows, columns = numbers.shape
        size = 0 if task == Task.WRITE else numbers.size
        means, variances = np.zeros(size), np.full(size, -1.0)
        memory = _memory(self._library.sdc_work_bytes(columns))
        arrays = self._arrays(model)
        fields = [array.ctypes.data for array in arrays]
        in_c = _Model(*fields, model.step, model.cell, model.beside, model.trellis, self._path)
        pointers = [_pointer(array) for array in (numbers, means, variances, memory)]
        for top in range(0, rows, BAND):
            place = rows, columns, top
            result = Result(
                self._library.sdc_run_band(ctypes.byref(in_c), task, *place, ctypes.byref(coder), *pointers)
            )
            if result != Result.DONE:
                break
            steps.done()
        shape = numbers.shape if size else (0,)
        state = range_coder.DecoderState(coder.next, coder.width, coder.number)
        return Run(result, numbers, means.reshape(shape), variances.reshape(shape), state)

    def _arrays(self, model: "EntropyModel") -> list[NDArray[Any]]:
        """Return what :class:`_Model` points to, in its order."""
        weights = self._weights(model.arrays)
        biases = [np.ascontiguousarray(bias, np.int32) for bias in model.network.biases]
        if offset := self._library.sdc_path_offset(self._path):
            sums = model.arrays["window.weights"].sum(1, dtype=np.int32) + model.arrays["here"].sum(1, dtype=np.int32)
            biases[0] -= offset * sums.reshape(-1)
        return [*(weights[name] for name in ("window", "here", "inner0", "inner1", "last")), *biases, *self._tables]

    def _weights(self, arrays: Mapping[str, NDArray[np.integer]]) -> dict[str, NDArray[np.int8]]:
        """Return a network's weights as the kernel wants them; packed once."""
        known = self._packed.get(id(arrays))
        if known is None:
            window = np.concatenate(list(arrays["window.weights"]), axis=1)
            packed = {"window": self._pack(window, window.shape[1])}
            for name in ("here", "inner0", "inner1", "last"):
                layers = arrays[name if name == "here" else f"{name}.weights"]
                width = _LAST_UNITS if name == "last" else layers.shape[2]
                packed[name] = np.concatenate([self._pack(layer, width) for layer in layers])
            known = self._packed[id(arrays)] = arrays, packed  # with the arrays, so that the number stays theirs
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


class Choice(NamedTuple):
    """Which of the two computes.

    Attributes:
        kernel: The compiled one, or ``None``: the reference in Python.
        reason: One sentence.
    """

    kernel: Kernel | None
    reason: str


_lock = ForkSafeLock()


def choice() -> Choice:
    """Return what computes in this process; a kernel that does not load is no reason to fail."""
    with _lock:  # so that two threads do not both load it, and warn
        return _choice()


@cache
def _choice() -> Choice:
    wanted = os.environ.get(VARIABLE)
    if wanted == "0":
        return Choice(None, f"Python, for {VARIABLE} is 0")
    if not LIBRARY.exists():
        return Choice(None, "Python: the installation found no C compiler, and has no compiled kernel")
    try:
        kernel = Kernel(LIBRARY, wanted)
    except ValueError as error:
        problem = f"{VARIABLE}={error}"
    except (OSError, AttributeError) as error:  # the latter, where a function is missing
        problem = f"the compiled kernel does not load ({error}); install pillow-sdc again"
    else:
        return Choice(kernel, f"compiled, {kernel.path}")
    reason = f"Python, up to 20 times as slow: {problem}"
    logging.getLogger("pillow_sdc").warning("the codec context runs in %s", reason)
    return Choice(None, reason)
