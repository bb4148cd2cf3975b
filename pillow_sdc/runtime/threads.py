"""How many threads the libraries behind this package take: numpy's BLAS, faiss, torch and ONNX Runtime.

The user decides, by ``OMP_NUM_THREADS``, ``torch.set_num_threads`` or the cores that the process may use. Within that,
each product, search or picture is kept to as many as pay.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from .fork_safety import ForkSafeLock

_ENVIRONMENT = "OMP_NUM_THREADS"

_of_thread = threading.local()

_blas_lock = ForkSafeLock()
_blas_users = 0
_blas_numbers: list[int] = []


def available_cores() -> int:
    """Return how many of the processor's cores this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def cores() -> int:
    """Return how many threads a model takes for what it computes in this thread."""
    limit: int | None = getattr(_of_thread, "limit", None)
    return limit or _default()


def use_cores(count: int) -> None:
    """Let what a model computes in this thread, and in no other, take so many threads."""
    _of_thread.limit = count
    torch = sys.modules.get("torch")
    if torch is not None:
        from threadpoolctl import threadpool_limits

        torch.get_num_threads()  # what it would do when it first computes here: set the number to the process's
        threadpool_limits(count, user_api="openmp")  # OpenMP keeps it for each thread


def use_cores_in_process(count: int) -> None:
    """Let models take so many threads in every thread of this process, a worker, but where :func:`use_cores` is called.

    To be called before the libraries are imported: of these torch alone learns of it later.
    """
    os.environ[_ENVIRONMENT] = str(count)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(count)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep numpy's products to the calling thread, where matrices are small and many: to wake others takes longer.

    On a busy machine it takes far longer. The number of threads belongs to a thread in some versions of OpenBLAS, to
    the process in others. So each user sets it, and restores what the first of those that overlap had found.
    """
    global _blas_users, _blas_numbers
    libraries = _blas_libraries()
    with _blas_lock:
        if _blas_users == 0:
            _blas_numbers = [library.num_threads for library in libraries]
        _blas_users += 1
        for library in libraries:
            library.set_num_threads(1)
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            for library, number in zip(libraries, _blas_numbers, strict=True):
                library.set_num_threads(number)


@contextmanager
def single_threaded_faiss() -> Iterator[None]:
    """Keep faiss to the calling thread: for few vectors, waking others takes longer than the search.

    The number of OpenMP threads is a setting of each thread, so others are not disturbed.
    """
    import faiss

    number = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(number)


def _default() -> int:
    """Return how many threads a model takes where none of our own is limited."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    try:
        # For nested regions OpenMP takes a list, whose first number is that of the outermost.
        return max(1, int(os.environ[_ENVIRONMENT].partition(",")[0]))
    except (KeyError, ValueError):
        return available_cores()


@cache
def _blas_libraries() -> list[Any]:
    import numpy as np  # noqa: F401 - so that its library is there to be found
    from threadpoolctl import ThreadpoolController

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
