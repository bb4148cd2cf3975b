"""What the commands say: one line on standard error, ``sdc: PATH: message``."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import typer

from ..errors import is_full, summary_of

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


@contextmanager
def ending(done: Callable[[], str], onwards: str = "", about: object = None, *, debug: bool) -> Iterator[None]:
    """Say in a line what ends a whole run, and leave with the exit code that says so.

    Args:
        done: Returns what there is to say of what was done.
        onwards: How to go on.
        about: What the run writes to.
        debug: Whether errors are raised.
    """
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        say(f"interrupted; {done()}{onwards}")
        raise typer.Exit(INTERRUPTED) from None
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        if debug:
            raise
        if is_full(error):
            say(f"{summary_of(error)}; make room{onwards}", about)
        elif isinstance(error, OSError):
            say(summary_of(error), error.filename)
        else:
            say(str(error))
        raise typer.Exit(FAILED) from None


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
