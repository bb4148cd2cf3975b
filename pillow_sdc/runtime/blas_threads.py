"""numpy's products of matrices in one thread, where the matrices are small and many."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from .fork_safety import ForkSafeLock

_lock = ForkSafeLock()
_users = 0
_numbers: list[int] = []


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep numpy's products to the calling thread, for to wake others takes longer, and on a busy machine far longer.

    The number of threads belongs to a thread in some versions of OpenBLAS, to the process in others. So each user sets
    it, and restores what the first of those that overlap had found.
    """
    global _users, _numbers
    libraries = _blas_libraries()
    with _lock:
        if _users == 0:
            _numbers = [library.num_threads for library in libraries]
        _users += 1
        for library in libraries:
            library.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            for library, number in zip(libraries, _numbers, strict=True):
                library.set_num_threads(number)


@cache
def _blas_libraries() -> list[Any]:
    import numpy as np  # noqa: F401 - so that its library is there to be found
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
