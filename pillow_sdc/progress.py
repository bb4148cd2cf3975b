"""Progress of the work on one picture: counted in steps, passed to a callback, and logged if it takes long.

A step is one tile of a picture through a network, or :data:`ROWS` rows of latents through one pass of a codec.
"""

import logging
import time
from collections.abc import Callable

ProgressCallback = Callable[[int, int], object]
"""Called with the number of steps done and the number of steps in all, as far as it is known."""

ROWS = 128
"""Number of rows of latents (1,024 rows of pixels) in a step of a codec."""

LOG_SECONDS = 5.0
"""Seconds before the first line is logged, and between two lines."""

_logger = logging.getLogger("pillow_sdc")


class Steps:
    """The interface for counting progress; this base class counts nothing."""

    def expect(self, count: int) -> None:
        """Add a number of steps to the total."""

    def done(self) -> None:
        """Count one step as done."""


UNCOUNTED = Steps()


class CountedSteps(Steps):
    """Counts steps, and reports them to a callback and to the logger ``pillow_sdc``, in the thread that works."""

    def __init__(self, work: str, progress: ProgressCallback | None = None) -> None:
        """Start counting.

        Args:
            work: Description of the work for people, such as ``encoding 6000×4000``.
            progress: Called after each step. An exception from it ends the work.
        """
        self._work, self._progress = work, progress
        self._done = self._total = 0
        self._begun = self._logged = time.monotonic()

    def expect(self, count: int) -> None:
        """Add a number of steps to the total."""
        self._total += count

    def done(self) -> None:
        """Count a step, and report."""
        self._done += 1
        now = time.monotonic()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            _logger.info("%s: %d of %d steps, %.0f s", self._work, self._done, self._total, now - self._begun)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Report the end, even if fewer steps were needed than expected."""
        if self._progress is not None and self._done < self._total:
            self._progress(self._total, self._total)
        self._done = self._total


def steps_of(rows: int) -> int:
    """Return the number of steps of one pass of a codec over some rows of latents."""
    return -(-rows // ROWS)
