"""The standard streams, such that no command fails because nobody can read what it says.

Messages, on standard error, are lost where they cannot be written. What goes to standard output is what the command was
asked for: if that cannot be written, one line says so and the exit code is 1. Characters that the encoding of a stream
lacks are written in another way.
"""

import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO

import typer

from .messages import FAILED, say

_ERRORS = "sdc-replace"
_PLAIN = {"×": "x"}


def prepare() -> None:
    """Replace this process's standard streams; those that a test or a notebook put in their place stay."""
    _occupy_descriptors()
    codecs.register_error(_ERRORS, _replace)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for the rest of the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Results(_raw(sys.stdout, 1)), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Messages(_raw(sys.stderr, 2)), sys.stderr)


class _Messages(io.RawIOBase):
    """Passes on what is written, and loses what cannot be."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int:
        try:
            count = self._raw.write(data)
            if count is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        except OSError as error:
            self._lose(error)
            return len(data)
        return count

    def _lose(self, error: OSError) -> None:
        pass


class _Results(_Messages):
    """Passes on what is written, and ends the command when that cannot be."""

    _lost = False

    def write(self, data: Any) -> int:
        return len(data) if self._lost else super().write(data)

    def _lose(self, error: OSError) -> None:
        self._lost = True  # what is in buffers still is written again when the process ends
        if error.errno != errno.EPIPE:  # else whoever read it has gone, and need not be told
            say(error.strerror or str(error), "standard output")
        raise typer.Exit(FAILED)


def _occupy_descriptors() -> None:
    """Open what is closed of the descriptors 0 to 2, or the next file would get one, and be mixed with messages.

    Reading 0 and writing to 1 fail afterwards, as they did before.
    """
    for descriptor, mode in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, mode)  # which is the lowest that is closed
            os.set_inheritable(opened, True)


def _raw(stream: TextIO | None, descriptor: int) -> io.RawIOBase:
    """Return what a stream writes to in the end."""
    if stream is None:
        return io.FileIO(descriptor, "w", closefd=False)
    stream.flush()
    buffer: Any = stream.buffer  # which with python -u is the raw stream itself
    raw: io.RawIOBase = getattr(buffer, "raw", buffer)
    return raw


def _text(raw: io.RawIOBase, like: TextIO | None) -> TextIO:
    encoding = None if like is None else like.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, _ERRORS, line_buffering=True)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    """Write a character that an encoding lacks: bytes of a file's name that are no text as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character, end = error.object[error.start], error.start + 1
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), end
    return _PLAIN.get(character) or character.encode("ascii", "backslashreplace").decode("ascii"), end
