"""Many files to many files: what ``encode`` and ``decode`` have in common."""

import io
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import typer

from ..jobs.storage.writing import check_absent, undisturbed, write_whole
from ..progress import ProgressCallback
from .messages import INTERRUPTED, Failures, misuse, say
from .progress import progress
from .sources import Job, Source, opened

Convert = Callable[[IO[bytes], Source, ProgressCallback | None], bytes]
"""Turns a picture's file into another; what it raises is said of the source. The function is called after each step."""


@dataclass
class _Tally:
    """What was done: where it was written, ``None`` being standard output, and the bytes."""

    written: list[Path | None] = field(default_factory=list)
    bytes_in: int = 0
    bytes_out: int = 0

    def add(self, target: Path | None, bytes_in: int, bytes_out: int) -> None:
        self.written.append(target)
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out


def run(jobs: Sequence[Job], convert: Convert, failures: Failures, *, force: bool, quiet: bool, debug: bool) -> None:
    """Do the jobs one after another, a failed one no hindrance to the next, and sum up on standard error.

    Args:
        jobs: What is to be done.
        convert: Does it.
        failures: Takes jobs that fail; holds what failed before there were jobs.
        force: Whether files that are there are overwritten.
        quiet: Whether there is no progress bar and no summary.
        debug: Whether warnings are shown.

    Raises:
        typer.Exit: Something failed, or the user interrupted.
    """
    is_piped = any(job.target is None for job in jobs)
    if is_piped and sys.stdout.isatty():
        raise misuse("a picture is not written to a terminal; redirect it, or name a file with --output")
    start = time.perf_counter()
    failed_before, tally = failures.count, _Tally()
    interrupted = False
    # A program at the other end of the pipe may have a bar of its own.
    with progress(len(jobs), quiet or is_piped) as bar, _warnings(debug):
        try:
            for job in jobs:
                bar.begin(str(job.source))
                with failures.of(job.source):
                    _do(job, convert, force, tally, bar.within)
                bar.end(tally.bytes_in - tally.bytes_out)
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        left = len(jobs) - len(tally.written) - (failures.count - failed_before)
        say(f"interrupted; {left} of {len(jobs)} files were not done")
    if not quiet:
        typer.echo(_summary(tally, failures.count, time.perf_counter() - start), err=True)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    failures.end()


def _do(job: Job, convert: Convert, force: bool, tally: _Tally, within: ProgressCallback | None) -> None:
    if job.target is not None:
        check_absent(job.target, force)  # before the work that the picture takes
    with opened(job.source) as file:
        data = convert(file, job.source, within)
        bytes_in = file.seek(0, io.SEEK_END)
    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        tally.add(None, bytes_in, len(data))
    else:
        with undisturbed():  # so that a file that is there is counted
            write_whole(job.target, data, force)
            tally.add(job.target, bytes_in, len(data))


def _summary(tally: _Tally, failed: int, seconds: float) -> str:
    what = _named(tally.written) + (f", {failed} failed" if failed else "")
    # A share of more than all, as in decoding, says nothing that the bytes do not.
    share = f" ({tally.bytes_out / tally.bytes_in:.1%})" if tally.bytes_out <= tally.bytes_in != 0 else ""
    return f"{what}: {tally.bytes_in:,} bytes in, {tally.bytes_out:,} bytes out{share}, {seconds:.1f} s"


def _named(written: Sequence[Path | None]) -> str:
    """Return what was written, in words: the file, or how many and the folder that holds them all."""
    if len(written) == 1:
        return str(written[0] or "standard output")
    count = f"{len(written)} files"
    folders = {path.parent for path in written if path is not None}
    with suppress(ValueError):  # there are none, or they are on several drives, or relative to several folders
        return f"{count} in {os.path.commonpath(folders) or os.curdir}{os.sep}"
    return count


@contextmanager
def _warnings(debug: bool) -> Iterator[None]:
    """Keep quiet what Pillow and others warn of; or show it, together with which model is used and why."""
    with warnings.catch_warnings():
        if debug:
            logging.basicConfig(format="%(name)s: %(message)s")
            logging.getLogger("pillow_sdc").setLevel(logging.INFO)
        else:
            warnings.simplefilter("ignore")
        yield
