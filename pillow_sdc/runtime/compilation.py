"""Networks compiled by torch, where that pays: for shapes of their input that come again and again."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any

from ..errors import ModelUnavailableError
from .libraries import summary
from .torch_state import compiler_is_lost

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("pillow_sdc")

MOST_SHAPES = 8
"""Shapes of its input that a network is compiled for, at most; with others it runs uncompiled."""

RECENT_RUNS = 64
"""Uncompiled runs among which a shape must recur for it to be compiled."""

# What torch grants a function by default, 8, holds for all networks of a process together; ours are bounded one by one.
_RECOMPILATIONS = 256


class CompiledOnRecurrence:
    """A function of a network and tensors, compiled for each shape of the tensors that recurs.

    Compiling takes up to minutes, and what is compiled holds for one shape. So a shape runs uncompiled at first: the
    odd batch at the end, which never comes again, would not be worth it.

    It is compiled in torch's default mode, without CUDA graphs (``mode="reduce-overhead"``). As of torch 2.13 these
    belong to the thread that recorded them, and fail in others, while the threads of a process share its models; and
    their results lie in memory that the next run overwrites.
    """

    def __init__(self, function: "Callable[..., torch.Tensor]", uncompiled_runs: int = 1) -> None:
        """Take the function, and how many runs of a shape must have been before it is compiled."""
        self._function = function
        self._uncompiled_runs = uncompiled_runs
        self._recent: deque[Any] = deque(maxlen=RECENT_RUNS)
        self._counting = Lock()
        self._compiled: dict[Any, Callable[..., torch.Tensor]] = {}

    def __call__(self, network: Any, *tensors: "torch.Tensor") -> "torch.Tensor":
        """Return what the function returns for the network and the tensors.

        Raises:
            ModelUnavailableError: Compiling failed.
        """
        import torch

        if compiler_is_lost():
            return self._function(network, *tensors)
        # Torch also compiles for a number of threads.
        case = torch.get_num_threads(), *((tensor.shape, tensor.dtype) for tensor in tensors)
        if self._is_due(case):
            with _turns.alone():
                if self._is_due(case):  # still, for other threads may have had the same in mind
                    self._compiled[case] = self._compile(network, *tensors)
        with _turns.beside_others():
            function = self._compiled.get(case, self._function)
            result = function(network, *tensors)
        if function is self._function:
            with self._counting:
                self._recent.append(case)
        return result

    def _is_due(self, case: Any) -> bool:
        if case in self._compiled or len(self._compiled) >= MOST_SHAPES:
            return False
        with self._counting:
            return self._recent.count(case) >= self._uncompiled_runs

    def _compile(self, network: Any, *tensors: "torch.Tensor") -> "Callable[..., torch.Tensor]":
        import torch
        import torch._dynamo

        name = type(network).__name__
        _logger.info("compiling %s for %s", name, " and ".join(str(tuple(tensor.shape)) for tensor in tensors))
        with _errors_as_unavailable(name), torch._dynamo.config.patch(cache_size_limit=_RECOMPILATIONS):
            compiled = torch.compile(self._function, fullgraph=True, dynamic=False)
            compiled(network, *tensors)  # for it is the first run that compiles
        return compiled


@contextmanager
def _errors_as_unavailable(network: str) -> Iterator[None]:
    """Turn whatever keeps torch from compiling a network, which runs uncompiled, into one error.

    Raises:
        ModelUnavailableError: The block raised for another reason than want of memory; the cause is attached.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # of the compilers behind torch: not all their errors are wrapped
        if isinstance(error, RuntimeError) and "out of memory" in str(error):  # MPS has no class of its own for it
            raise
        raise ModelUnavailableError(
            f"{network} cannot be compiled here ({summary(error)}); do without, by pillow_sdc.configure(compile=False)"
            " or the environment variable PILLOW_SDC_COMPILE=0"
        ) from error


class _Turns:
    """Lets networks run side by side, in threads, but compiles one while none of the others runs.

    Torch's compiler is not safe under threads: for a while it replaces methods of all modules of the process.
    """

    def __init__(self) -> None:
        self._entrance = Lock()
        self._ended = Condition()
        self._running = 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        with self._entrance, self._ended:
            self._running += 1
        try:
            yield
        finally:
            with self._ended:
                self._running -= 1
                self._ended.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._entrance:
            with self._ended:
                self._ended.wait_for(lambda: not self._running)
            yield


_turns = _Turns()
