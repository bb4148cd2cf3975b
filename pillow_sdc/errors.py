"""The errors of this package: one family, rooted at :class:`SdcError`.

Each is also an instance of the built-in exception that Pillow's users already catch: ``SyntaxError`` for a file that
is not an SDC file (``Image.open`` turns it into ``UnidentifiedImageError``), ``OSError`` for one that is damaged or
cannot be decoded here, ``ValueError`` for an option that makes no sense.
"""


class SdcError(Exception):
    """Base of every error that this package raises on purpose."""


class NotSdcError(SdcError, SyntaxError):
    """The file does not begin with the SDC signature."""


class CorruptFileError(SdcError, OSError):
    """The file is an SDC file, but damaged: a wrong checksum, length or value."""


class TruncatedFileError(CorruptFileError):
    """The file is an SDC file that ends too early."""


class UnsupportedFileError(SdcError, OSError):
    """The file is intact as far as can be told, but needs a newer version of this package."""


class ModelUnavailableError(SdcError, OSError):
    """The model that the settings ask for is not here and cannot be had."""


class ModelFailedError(SdcError, OSError):
    """The model was found, but computing with it failed: out of memory, or results that are not numbers."""


class InsufficientMemoryError(SdcError, OSError):
    """The picture is larger than the memory that there is for it."""


class OptionError(SdcError, ValueError):
    """An option has a value outside the range that the message names."""
