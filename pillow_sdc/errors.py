"""The errors of this package: one family, rooted at :class:`SdcError`.

Each is also an instance of the built-in exception that Pillow's users already catch: ``SyntaxError`` for a file that
is not an SDC file (``Image.open`` turns it into ``UnidentifiedImageError``), ``OSError`` for one that is damaged or
cannot be decoded here, ``ValueError`` for an option that makes no sense.
"""

import errno
from collections.abc import Mapping, Sequence
from typing import Any


class SdcError(Exception):
    """Base of every error that this package raises on purpose."""


class NotSdcError(SdcError, SyntaxError):
    """The file does not begin with the SDC signature."""


class CorruptFileError(SdcError, OSError):
    """The file is an SDC file, but damaged: a wrong checksum, length or value."""


class TruncatedFileError(CorruptFileError):
    """The file is an SDC file that ends too early."""


class UnsupportedFileError(SdcError, OSError):
    """The file seems intact, but needs a newer version of this package."""


class ModelUnavailableError(SdcError, OSError):
    """The model that the settings ask for cannot be found or loaded."""


class ModelFailedError(SdcError, OSError):
    """The model was found, but computing with it failed: out of memory, or results that are not numbers."""


class InsufficientMemoryError(SdcError, OSError):
    """There is not enough memory for the picture."""


class BatchError(SdcError):
    """Some pictures of a batch failed.

    Attributes:
        results: The result of each picture, in order; ``None`` for those that failed.
        errors: The error of each picture that failed, by its index.
    """

    def __init__(self, results: Sequence[Any], errors: Mapping[int, Exception]) -> None:
        self.results, self.errors = list(results), dict(errors)
        index, error = next(iter(self.errors.items()))
        super().__init__(
            f"{len(self.errors)} of {len(self.results)} pictures failed; the first, number {index}: {error}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.results, self.errors)


class OptionError(SdcError, ValueError):
    """An option has a value outside the range that the message names."""


def is_full(error: BaseException) -> bool:
    """Return whether an error means that the storage is full, so that every later write would fail too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def summary_of(error: BaseException) -> str:
    """Return an error's message in one line, without the path, which the caller names."""
    if type(error).__name__ == "UnidentifiedImageError":
        return "not a picture that Pillow can read"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    message = " ".join(str(error).split())
    if type(error).__name__ == "DecompressionBombError":
        return f"{message.partition(',')[0]}; --max-pixels, or in Python PIL.Image.MAX_IMAGE_PIXELS, allows more"
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError | ValueError | SyntaxError) and message:
        return message
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
