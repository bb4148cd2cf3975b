"""What lets a forked child go on where its parent stood.

``fork`` copies the memory of a process, but only the thread that called it: a lock that another thread held stays
locked in the child for ever.
"""

import os
import threading
from collections.abc import Callable
from types import TracebackType


def in_forked_children(act: Callable[[], None]) -> None:
    """Have ``act`` called in every child that this process forks, before anything else runs there."""
    if hasattr(os, "register_at_fork"):  # Windows neither has it nor forks
        os.register_at_fork(after_in_child=act)


class ForkSafeLock:
    """A reentrant lock that is free in a forked child, whoever held it in the parent.

    Made for module-level locks: a registration for forks cannot be taken back.
    """

    def __init__(self) -> None:
        self._renew()
        in_forked_children(self._renew)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()

    def _renew(self) -> None:
        self._lock = threading.RLock()
