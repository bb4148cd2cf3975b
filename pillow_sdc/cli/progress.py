"""How far a run is, on standard error: a bar where that is a terminal, what failed as it fails, and a summary."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import typer

from ..jobs import skipped
from .messages import as_line, say

if TYPE_CHECKING:
    from ..jobs.progress import Progress

Say = Callable[[str, str | None], None]
"""Prints a message, about one file or about the run."""


@contextmanager
def shown(
    written: "Callable[[Progress], str]", *, quiet: bool, bar: bool = True, remarks: bool = False
) -> "Iterator[Callable[[Progress], None]]":
    """Yield a function that shows the progress of a run, and print a summary when the block ends, in whatever way.

    Args:
        written: Returns what was written, in words, and remarks on it, without failures.
        quiet: Whether only errors are printed.
        bar: Whether there may be a bar.
        remarks: Whether a line for each picture names what it lacks; a manifest holds that otherwise.
    """
    start = time.perf_counter()
    latest: list[Progress] = []

    def summed_up() -> None:
        if latest and not quiet:
            typer.echo(_summary(written(latest[0]), latest[0], time.perf_counter() - start), err=True)

    try:
        has_bar = bar and not quiet and sys.stderr.isatty()
        with _bar() if has_bar else nullcontext((lambda progress: None, say)) as (update, tell):

            def report(progress: "Progress") -> None:
                if not latest and not quiet and progress.skipped:
                    tell(skipped.described(progress.skipped), None)
                latest[:] = [progress]
                for row in progress.errors:
                    tell(row.error or "", row.source)
                for row in progress.remarked if remarks else ():
                    tell(row.remark or "", row.source)
                update(progress)

            yield report
    except typer.Exit:  # what was to be written was not
        raise
    except BaseException:
        summed_up()
        raise
    summed_up()


@contextmanager
def _bar() -> "Iterator[tuple[Callable[[Progress], None], Say]]":
    """Yield a function that moves a bar, and one that prints a line above it."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.table import Column

    columns: Any = (
        BarColumn(bar_width=24),
        TextColumn("{task.fields[counted]}", table_column=Column(no_wrap=True)),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        start = time.perf_counter()
        task = bar.add_task("", total=None, counted="")

        def update(progress: "Any") -> None:
            count = f"{progress.pictures:,}" if progress.count is None else f"{progress.pictures:,}/{progress.count:,}"
            rate = progress.pictures / max(1e-3, time.perf_counter() - start)
            counted = f"{count} pictures, {rate:.1f}/s, {_saved(progress)}"
            bar.update(
                task,
                total=progress.total,
                completed=progress.done,
                description=escape(progress.name),
                counted=counted,
                refresh=progress.done == progress.total,
            )

        def tell(message: str, about: str | None) -> None:
            bar.console.print(as_line(message, about), markup=False, highlight=False, soft_wrap=True)

        yield update, tell


def _saved(progress: "Progress") -> str:
    saved = progress.source_bytes - progress.output_bytes
    return f"{saved:,} bytes saved" if saved >= 0 else f"{-saved:,} bytes more"


def _summary(written: str, progress: "Progress", seconds: float) -> str:
    bytes_in, bytes_out = progress.source_bytes, progress.output_bytes
    # A share of more than all, as in decoding, says nothing that the bytes do not.
    share = f" ({bytes_out / bytes_in:.1%})" if bytes_out <= bytes_in != 0 else ""
    failed = f", {progress.failed:,} failed" if progress.failed else ""
    rate = f", {progress.pictures / max(seconds, 1e-3):.1f} pictures/s" if progress.pictures > 1 else ""
    return f"{written}{failed}: {bytes_in:,} bytes in, {bytes_out:,} bytes out{share}, {seconds:.1f} s{rate}"
