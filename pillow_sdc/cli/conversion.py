"""What ``encode`` and ``decode`` have in common: they convert named files in this process, one after another."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from ..jobs.executors.serial import SerialEngine
from ..jobs.progress import Progress, Reporter, count_of
from ..jobs.tasks import Conversion, Task
from .messages import FAILED, ending, misuse
from .progress import shown
from .sources import STANDARD, NamedFiles


def run(tasks: Sequence[Task], conversion: Conversion, failed: int, *, quiet: bool, debug: bool) -> None:
    """Do tasks of one file each, go on after those that fail, and sum up on standard error.

    Args:
        tasks: What is to be done.
        conversion: How each file is converted.
        failed: The number of names that failed before there were tasks.
        quiet: Whether there is no progress bar and no summary.
        debug: Whether warnings and tracebacks are shown.

    Raises:
        typer.Exit: Something failed, or the user interrupted.
    """
    is_piped = any(task.targets == (STANDARD,) for task in tasks)
    if is_piped and sys.stdout.isatty():
        raise misuse("a picture is not written to a terminal; redirect it, or name a file with --output")
    files = NamedFiles()
    progress = Progress(sum(task.size for task in tasks), count=count_of(tasks), failed=failed)
    targets: list[str] = []

    def left() -> str:
        done = len(targets) + progress.failed - failed
        return f"{len(tasks) - done:,} of {len(tasks):,} files were not done"

    # A program at the other end of the pipe may have a bar of its own.
    showing = shown(lambda progress: _named(targets), quiet=quiet, bar=not is_piped, remarks=True)
    with ending(left, debug=debug), _warnings(debug), showing as report:
        report(progress)
        listener = _Written(progress, report, targets)
        outcomes = SerialEngine()(tasks, files, files, conversion, listener)
        with listener.following(outcomes):
            for task, rows in outcomes:
                listener.add(task, rows)
        if files.output is not None:
            sys.stdout.buffer.write(files.output)
            sys.stdout.buffer.flush()
    if progress.failed:
        raise typer.Exit(FAILED)


class _Written(Reporter):
    """Keeps where files were written."""

    def __init__(self, progress: Progress, report: Callable[[Progress], None], targets: list[str]) -> None:
        super().__init__(progress, report)
        self._targets = targets

    def converted(self, task: Task, source_bytes: int, output_bytes: int) -> None:
        """Learn that a file is written, or is about to go to standard output."""
        self._targets += task.targets
        super().converted(task, source_bytes, output_bytes)


def _named(written: Sequence[str]) -> str:
    """Return what was written, in words: the file, or how many and the folder that holds them all."""
    if len(written) == 1:
        return written[0] or "standard output"
    count = f"{len(written)} files"
    folders = {Path(path).parent for path in written}
    with suppress(ValueError):  # there are none, or they are on several drives, or relative to several folders
        return f"{count} in {os.path.commonpath(folders) or os.curdir}{os.sep}"
    return count


@contextmanager
def _warnings(debug: bool) -> Iterator[None]:
    """Keep quiet what Pillow and others warn of; or show it, with which model is used and why, and tracebacks."""
    if not debug:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    logger, handler = logging.getLogger("pillow_sdc"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
