"""How many of the processor's cores a model's own threads take."""

import os
import sys
import threading

_of_thread = threading.local()


def cores() -> int:
    """Return how many cores a model takes in this thread: all that this process may use, or ``OMP_NUM_THREADS``."""
    limit: int | None = getattr(_of_thread, "limit", None)
    return limit or _default()


def use_cores(count: int) -> None:
    """Let what a model computes in this thread, and in no other, take so many cores."""
    _of_thread.limit = count
    torch = sys.modules.get("torch")
    if torch is not None:
        from threadpoolctl import threadpool_limits

        torch.get_num_threads()  # what it would do when it first computes here: set the number to the process's
        threadpool_limits(count, user_api="openmp")  # OpenMP keeps it for each thread


def _default() -> int:
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    try:
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    except (KeyError, ValueError):
        has_affinity = hasattr(os, "sched_getaffinity")
        return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
