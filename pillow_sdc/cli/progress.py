"""A bar of progress on standard error, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(total: int, quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[int], None]]]:
    """Show how many of ``total`` files are done, and how many bytes that has saved.

    Yields:
        A function to call with the name of a file that is begun, and one to call when it is done, with the bytes
        saved so far.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda name: None, lambda saved: None
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

        def begin(name: str) -> None:
            bar.update(task, description=escape(name))

        def end(saved: int) -> None:
            words = f"{saved:,} bytes saved" if saved >= 0 else f"{-saved:,} bytes more"
            bar.update(task, advance=1, saved=words, refresh=True)

        yield begin, end
