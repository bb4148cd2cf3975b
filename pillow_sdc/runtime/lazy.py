"""Values that are expensive to make, made at first use and only once."""

from collections.abc import Callable
from typing import Generic, TypeVar

from .fork_safety import ForkSafeLock

T = TypeVar("T")

# One lock for all: making is rare, and two models loading side by side would only double the peak of memory. It is
# reentrant, so that making one value may need another.
_making = ForkSafeLock()


class Lazy(Generic[T]):
    """Calls ``make`` when it is first called itself, and returns the same result ever after, to every thread.

    A ``make`` that raises is called again the next time.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def __call__(self) -> T:
        """Return the value."""
        if not self._made:
            with _making:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]
