"""Registers the format with Pillow at the cost of a few dictionary entries.

``PIL.ImageFile``, which the plugin's classes derive from, is imported when the first file is opened or saved.
"""

from typing import IO, TYPE_CHECKING

from PIL import Image

from . import container

if TYPE_CHECKING:
    from .plugin import SdcImageFile

FORMAT = "SDC"


def register() -> None:
    """Make Pillow read and write ``.sdc`` files; calling it again does no harm."""
    Image.register_open(FORMAT, _open, container.accepts)
    Image.register_save(FORMAT, _save)
    Image.register_extension(FORMAT, ".sdc")
    Image.register_mime(FORMAT, "image/x-sdc")


def _open(fp: IO[bytes], filename: str | bytes) -> "SdcImageFile":
    from .plugin import SdcImageFile

    return SdcImageFile(fp, filename)


def _save(image: Image.Image, fp: IO[bytes], filename: str | bytes) -> None:
    from .plugin import save

    save(image, fp, filename)
