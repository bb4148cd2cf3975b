"""What the commands say: one line on standard error, ``sdc: PATH: message``."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import typer

from ..errors import summary_of

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: some file failed, the command makes no sense, Ctrl-C."""


def as_line(message: str, about: object = None) -> str:
    """Return what is printed of a message, about a file or the command as a whole."""
    return f"sdc: {message}" if about is None else f"sdc: {about}: {message}"


def say(message: str, about: object = None) -> None:
    """Print a line on standard error."""
    typer.echo(as_line(message, about), err=True)


def misuse(message: str) -> typer.Exit:
    """Say why a command makes no sense, and return what to raise then."""
    say(message)
    return typer.Exit(MISUSED)


def announce(path: object) -> None:
    """Print on standard output where something was written; that it is written does not depend on the printing."""
    with suppress(typer.Exit):
        typer.echo(path)


class Failures:
    """Says what went wrong with each of several things, and counts them."""

    def __init__(self, debug: bool = False) -> None:
        self.count = 0
        self._debug = debug

    @contextmanager
    def of(self, about: object = None) -> Iterator[None]:
        """End the block at an error, and go on after it."""
        try:
            yield
        except typer.Exit:
            raise
        except Exception as error:
            self.count += 1
            say(summary_of(error), about)
            if self._debug:
                traceback.print_exc()

    def end(self) -> None:
        """Leave with an exit code that says so, if something went wrong."""
        if self.count:
            raise typer.Exit(FAILED)
