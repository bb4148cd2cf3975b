"""The compiled kernel, in one of its paths or none, as what computes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context.kernel import LIBRARY, Kernel, KernelSelection


@contextmanager
def computing(kernel: Kernel | None) -> Iterator[None]:
    with mock.patch.object(context_kernel, "selection", return_value=KernelSelection(kernel, "for a test")):
        yield


@cache
def kernels() -> tuple[Kernel, ...]:
    """The kernel along all paths of this processor; none where it was not built."""
    return tuple(Kernel(path=path) for path in Kernel().paths) if LIBRARY.exists() else ()
