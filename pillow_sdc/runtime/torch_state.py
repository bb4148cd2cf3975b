"""Torch as it is in a fresh process, whatever the caller has set and forked, and the caller's settings as they were.

Most settings torch keeps for each thread: the default device and other modes that change its functions, autocast,
whether gradients are recorded, transformations such as ``vmap``. Within :func:`isolated` the thread has none of them.

What torch keeps for the whole process cannot be changed in one thread without disturbing the others. So the networks
are loaded and written such that they need neither random numbers nor the default dtype, and the number of threads, the
deterministic mode and the libraries to compute with are left to the caller: results are the same but for rounding.
Only how exactly matrices are multiplied, and which kinds of attention are allowed, are as by default while we compute.

In a forked child the workers of torch's thread pools no longer exist, and a parallel region would wait for them for
ever. So in a child that was forked after torch was imported it computes with one thread, and compiles nothing.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from .fork_safety import ForkSafeLock, in_forked_children

DEVICE_TYPES = "cpu", "cuda", "mps", "xpu"
"""Types of devices that autocast knows; ROCm's is ``cuda``."""


@contextmanager
def isolated() -> Iterator[None]:
    """Use torch, in this thread, as if the caller had set nothing, and leave what the caller has set as it is.

    Gradients are not recorded. It may be nested. In a forked child torch has one thread from now on.
    """
    import torch
    from torch._C import _len_torch_function_stack
    from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack
    from torch.overrides import _pop_mode_temporarily
    from torch.utils._python_dispatch import _disable_current_modes

    _recover_threads()
    with ExitStack() as stack:
        # First what would change the calls of torch below. Torch has no public way to leave these.
        for _ in range(_len_torch_function_stack()):
            stack.enter_context(_pop_mode_temporarily())
        stack.enter_context(_disable_current_modes())
        stack.enter_context(temporarily_clear_interpreter_stack())
        for device_type in DEVICE_TYPES:
            if torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(_process_settings.at_their_defaults())
        yield


def compiler_is_lost() -> bool:
    """Tell whether ``torch.compile`` would wait for the parent's workers: in a child forked after torch was imported.

    What the parent has compiled is of no use either, for its number of threads is compiled into it.
    """
    return _torch_is_inherited


_torch_is_inherited = False
_threads_are_lost = False


def _recover_threads() -> None:
    """Give torch one thread, the calling one, where those that it counts on were lost in a fork."""
    global _threads_are_lost
    if _threads_are_lost:
        import torch

        torch.set_num_threads(1)
        _threads_are_lost = False


def _note_lost_threads() -> None:
    global _torch_is_inherited, _threads_are_lost
    _torch_is_inherited = _threads_are_lost = "torch" in sys.modules


in_forked_children(_note_lost_threads)


class _ProcessSetting(NamedTuple):
    read: Callable[[], Any]
    write: Callable[[Any], None]
    default: Any


def _settings_of_the_process() -> tuple[_ProcessSetting, ...]:
    import torch
    from torch.backends import cuda  # whose settings of attention also hold on the CPU

    return (
        _ProcessSetting(_precision_of_products, torch.set_float32_matmul_precision, "highest"),
        _ProcessSetting(cuda.flash_sdp_enabled, cuda.enable_flash_sdp, True),
        _ProcessSetting(cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, True),
        _ProcessSetting(cuda.math_sdp_enabled, cuda.enable_math_sdp, True),
    )


def _precision_of_products() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # where it was set for one library alone, which is then left as it is
        return "highest"


class _ProcessSettings:
    """Sets settings of the process to their defaults when the first thread needs them so, and back after the last."""

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._users = 0
        self._changed: list[tuple[_ProcessSetting, Any]] = []
        in_forked_children(self._forget_users)

    @contextmanager
    def at_their_defaults(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                values = [(setting, setting.read()) for setting in _settings_of_the_process()]
                self._changed = [(setting, value) for setting, value in values if value != setting.default]
                for setting, _ in self._changed:
                    setting.write(setting.default)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                if self._users == 1:
                    self._change_back()
                self._users = max(0, self._users - 1)  # it is 0 already in a child that was forked meanwhile

    def _change_back(self) -> None:
        for setting, value in self._changed:
            if setting.read() == setting.default:  # else the caller has changed it meanwhile
                setting.write(value)
        self._changed = []

    def _forget_users(self) -> None:
        """A forked child has none of the threads that used them."""
        self._users = 0
        self._change_back()


_process_settings = _ProcessSettings()
