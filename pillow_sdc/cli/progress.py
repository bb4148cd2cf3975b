"""A bar of progress on standard error, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ..progress import ProgressCallback


@dataclass(frozen=True)
class Bar:
    """What moves a bar.

    Attributes:
        begin: To call with the name of a file that is begun.
        within: To call after each step of a file, as :func:`pillow_sdc.encode` does; ``None`` where nothing is shown.
        end: To call when a file is done, with the bytes saved so far.
    """

    begin: Callable[[str], None] = lambda name: None
    within: ProgressCallback | None = None
    end: Callable[[int], None] = lambda saved: None


@contextmanager
def progress(total: int, quiet: bool) -> Iterator[Bar]:
    """Show how many of ``total`` files are done, how far the next one is, and how many bytes that has saved."""
    if quiet or not sys.stderr.isatty():
        yield Bar()
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[saved]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, expand=True) as bar:
        task = bar.add_task("", total=total, saved="")
        files = 0

        def begin(name: str) -> None:
            bar.update(task, description=escape(name))

        def within(done: int, steps: int) -> None:
            bar.update(task, completed=files + min(done / steps, 0.999))  # the file is not written yet

        def end(saved: int) -> None:
            nonlocal files
            files += 1
            words = f"{saved:,} bytes saved" if saved >= 0 else f"{-saved:,} bytes more"
            bar.update(task, completed=files, saved=words, refresh=True)

        yield Bar(begin, within, end)
