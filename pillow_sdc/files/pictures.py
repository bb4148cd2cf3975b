"""From a file of any format that Pillow knows to a picture, and back."""

import io
import sys
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ..errors import NotSdcError
from .plugins import format_of_suffix, open_image, remedy

if TYPE_CHECKING:
    from PIL import Image

NOT_DECODED = {"SDC", "BUFR", "GRIB", "HDF5", "MPEG", *(() if sys.platform == "win32" else ("WMF",))}
"""What encoding leaves out: our own files, and those that Pillow recognises but cannot decode by itself."""


class OpenedPicture(NamedTuple):
    """A picture that is to be stored.

    Attributes:
        image: Pillow's, loaded.
        metadata: What ``save`` must be told so that they are kept.
        frames: How many the file has; the first is taken.
    """

    image: "Image.Image"
    metadata: dict[str, Any]
    frames: int


def is_sdc(path: PurePath) -> bool:
    """Tell whether a file is taken for an SDC file, by its suffix."""
    return path.suffix.lower() == ".sdc"


def is_picture(path: PurePath) -> bool:
    """Tell whether a file is taken for a picture of another format: by its suffix, if Pillow can decode such files."""
    file_format = format_of_suffix(path.suffix.lower())
    return file_format not in NOT_DECODED and reads(file_format)


def reads(file_format: str | None) -> bool:
    """Tell whether Pillow reads files of a format; ``None`` is no format."""
    from PIL import Image

    return file_format in Image.OPEN


def is_written(path: PurePath) -> bool:
    """Tell whether a file's suffix is that of a format which decoding writes."""
    try:
        format_of(path.suffix.lower())
    except ValueError:
        return False
    return True


def format_of(suffix: str) -> str:
    """Return Pillow's name of the format that a suffix, such as ``.png``, stands for.

    Raises:
        ValueError: It is none that Pillow writes, or SDC.
    """
    from PIL import Image

    file_format = format_of_suffix(suffix)
    if file_format is None or file_format not in Image.SAVE or file_format == "SDC":
        name = suffix.removeprefix(".")
        advice = remedy(suffix) or "png, jpg, webp and tiff are some"
        raise ValueError(f"{name!r} is no format that Pillow writes; {advice}")
    return file_format


def open_picture(file: IO[bytes], *, keep_metadata: bool) -> OpenedPicture:
    """Open a picture of any format for storing it as SDC.

    Raises:
        OSError: Pillow cannot read it (``UnidentifiedImageError`` if it is no picture).
    """
    from . import metadata

    image = open_image(file)
    frames = getattr(image, "n_frames", 1)
    if image.format == "MPO":  # whose other frames are views and thumbnails of the first
        frames = 1
    image.load()
    if not keep_metadata:
        metadata.strip(image)
    return OpenedPicture(image, metadata.save_options(image), frames)


def check_sdc(data: bytes) -> None:
    """Refuse what does not begin as an SDC file does.

    Raises:
        NotSdcError: It does not (also a ``SyntaxError``).
    """
    from ..container import accepts

    if not accepts(data):
        raise NotSdcError("not an SDC file")


def picture_file(image: "Image.Image", file_format: str, *, keep_metadata: bool) -> bytes:
    """Return a decoded picture as the bytes of a file of another format.

    Raises:
        OSError: The format cannot hold such a picture.
    """
    from . import metadata

    if not keep_metadata:
        metadata.strip(image)
    buffer = io.BytesIO()
    image.save(buffer, file_format, **metadata.save_options_for(image, file_format))
    return buffer.getvalue()
