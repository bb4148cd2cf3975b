"""What the commands say when something goes wrong: one line on standard error, ``sdc: PATH: message``."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from ..errors import summary_of

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit codes: some file failed, the command makes no sense, Ctrl-C."""


def say(message: str, about: object = None) -> None:
    """Print a line on standard error."""
    typer.echo(f"sdc: {message}" if about is None else f"sdc: {about}: {message}", err=True)


def misuse(message: str) -> typer.Exit:
    """Say why a command makes no sense, and return what to raise then."""
    say(message)
    return typer.Exit(MISUSED)


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
        except (typer.Exit, BrokenPipeError):  # whoever read standard output has gone, and need not be told
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
