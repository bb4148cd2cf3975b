"""Registers the format with Pillow at the cost of a few dictionary entries.

The container, the plugin and ``PIL.ImageFile``, which its classes derive from, are imported when they are first needed.
"""

from typing import IO, TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:
    from .plugin import SdcImageFile

FORMAT = "SDC"


def register() -> None:
    """Make Pillow read and write ``.sdc`` files; calling it again does no harm."""
    Image.register_open(FORMAT, _open, _accept)
    Image.register_save(FORMAT, _save)
    Image.register_save_all(FORMAT, _save_all)
    Image.register_extension(FORMAT, ".sdc")
    Image.register_mime(FORMAT, "image/x-sdc")


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
