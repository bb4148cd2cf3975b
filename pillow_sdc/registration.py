"""Registers the format with Pillow and with :mod:`mimetypes`, at the cost of a few entries in dictionaries and lists.

The container, the plugin and ``PIL.ImageFile``, which its classes derive from, are imported when they are first needed.
"""

import os
from typing import IO, TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from .plugin import SdcImageFile

FORMAT = "SDC"
MIME_TYPE = "image/x-sdc"

_SUFFIX = ".sdc"
_MIME_TYPES = os.path.join(os.path.dirname(__file__), "mime.types")  # noqa: PTH118, PTH120 - pathlib is slow to import
"""Says the same as the constants above, in the form that :mod:`mimetypes` reads."""


def register() -> None:
    """Make Pillow read and write ``.sdc`` files, and :mod:`mimetypes` know them; calling it again does no harm."""
    Image.register_open(FORMAT, _open, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, _SUFFIX)
    Image.register_mime(FORMAT, MIME_TYPE)
    _register_mime_type()


def _register_mime_type() -> None:
    """Have :mod:`mimetypes` answer with our type, where systems say that ``.sdc`` is of StarOffice Calc.

    ``mimetypes`` reads the files of the system when it is first asked, and again at each ``init()``. So a file of ours
    becomes the last of those that it reads.
    """
    try:
        import mimetypes
        from mimetypes import add_type, knownfiles
    except ImportError:  # left out of a frozen application, or something else of that name
        return
    if _MIME_TYPES not in knownfiles:
        knownfiles.append(_MIME_TYPES)
    if mimetypes.inited:
        add_type(MIME_TYPE, _SUFFIX)


def _accept(prefix: bytes) -> bool:
    from .container import accepts

    return accepts(prefix)


def _open(fp: IO[bytes], filename: str | bytes) -> "SdcImageFile":
    from .plugin import SdcImageFile

    return SdcImageFile(fp, filename)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from .plugin import save

    save(image, fp, filename)


def _save_all(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from .plugin import save_all

    save_all(image, fp, filename)
