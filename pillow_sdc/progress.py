"""How far the work on one picture is: counted in steps, given to whoever asks, and logged where it takes long.

A step is one tile of a picture through a network, or :data:`ROWS` rows of latents through one pass of a codec.
"""

import logging
import time
from collections.abc import Callable

ProgressCallback = Callable[[int, int], object]
"""Called with the steps that are done and the steps that there are, as far as is known."""

ROWS = 128
"""Rows of latents, 1,024 rows of pixels, of a step in a codec."""

LOG_SECONDS = 5.0
"""How long work goes on before a line is logged, and how long after that the next one."""

_logger = logging.getLogger("pillow_sdc")


class Steps:
    """Steps that nobody counts."""

    def expect(self, count: int) -> None:
        """Take in that there are more steps than was known."""

    def done(self) -> None:
        """Take in that one more step is done."""


UNCOUNTED = Steps()


class CountedSteps(Steps):
    """Steps that a callback, where one is given, and the logger ``pillow_sdc`` learn of, in the thread that works."""

    def __init__(self, work: str, progress: ProgressCallback | None = None) -> None:
        """Begin to count.

        Args:
            work: What is being done, for people to read.
            progress: Called after each step. What it raises ends the work.
        """
        self._work, self._progress = work, progress
        self._done = self._total = 0
        self._begun = self._logged = time.monotonic()

    def expect(self, count: int) -> None:
        """Raise the total."""
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
        """Report the end, also where fewer steps were needed than expected."""
        if self._progress is not None and self._done < self._total:
            self._progress(self._total, self._total)
        self._done = self._total


def steps_of(rows: int) -> int:
    """Return the steps of one pass of a codec over so many rows of latents."""
    return -(-rows // ROWS)
