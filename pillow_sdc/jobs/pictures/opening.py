"""From a file of any format that Pillow knows to a picture, and back."""

import sys
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from ...format.container import MAX_METADATA_BYTES, pack_dpi
from ...registration import FORMAT
from .plugins import format_of_suffix, open_image, remedy

if TYPE_CHECKING:
    from PIL import Image

NOT_DECODED = {FORMAT, "BUFR", "GRIB", "HDF5", "MPEG", *(() if sys.platform == "win32" else ("WMF",))}
"""What is no picture of another format: our own files, and those that Pillow recognises but cannot decode by itself."""

_OF_ONE_PICTURE = {"MPO", "PSD"}
"""Formats of which the further frames are views, thumbnails or layers of the first."""


class OpenedPicture(NamedTuple):
    """A picture that is to be stored.

    Attributes:
        image: Pillow's, loaded unless its file is SDC, for then its latents are in the file.
        options: What ``save`` must be given so that its metadata are kept, or dropped.
        remark: What of the file is not stored, in one line for the user; ``None`` if all is.
    """

    image: "Image.Image"
    options: Mapping[str, Any]
    remark: str | None


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
        ValueError: Pillow does not write the format, or it is SDC.
    """
    from PIL import Image

    file_format = format_of_suffix(suffix)
    if file_format is None or file_format not in Image.SAVE or file_format == FORMAT:
        name = suffix.removeprefix(".")
        advice = remedy(suffix) or "png, jpg, webp and tiff are some"
        raise ValueError(f"{name!r} is no format that Pillow writes; {advice}")
    return file_format


def open_picture(file: IO[bytes], *, keep_metadata: bool) -> OpenedPicture:
    """Open the first picture of a file of any format, for storing it as SDC.

    Raises:
        OSError: Pillow cannot read it (``UnidentifiedImageError`` if it is no picture).
    """
    from . import depth, metadata

    image, has_more = _open_first(file)
    depth.check_planes(image)
    remarks = ["has several frames, of which the first is taken"] if has_more else []
    if depth.is_cut(image):
        remarks.append("has more than 8 bits a sample, which are cut to 8")
    tags = metadata.exif_tags(image)
    if image.format != FORMAT:
        image.load()
    options, left_out = _kept(image, tags) if keep_metadata else (metadata.NONE, [])
    if left_out:
        remarks.append(metadata.left_out(left_out, "SDC"))
    return OpenedPicture(image, options, "; ".join(remarks) or None)


def _open_first(file: IO[bytes]) -> "tuple[Image.Image, bool]":
    """Open a picture, and tell whether others follow it. They are not counted: that may take long, or fail."""
    image = open_image(file)
    try:
        return image, image.format not in _OF_ONE_PICTURE and getattr(image, "is_animated", False)
    except Exception:  # the next one is damaged, and this picture no longer where it was in the file
        file.seek(0)
        return open_image(file), True


def _kept(image: "Image.Image", tags: Collection[int]) -> tuple[Mapping[str, Any], list[str]]:
    """Return those metadata that an SDC file holds, as options of ``save``, and what people call the others.

    The colour profile is an option only where it is dropped: the plugin takes it from the picture, unless the colours
    that it stores are others.
    """
    from . import metadata

    found = metadata.read(image, tags)
    left_out = ["EXIF that is damaged"] if tags and "exif" not in found else []
    sizes = {key: len(pack_dpi(value) if key == "dpi" else value) for key, value in found.items()}
    options = {key: value for key, value in found.items() if key != "icc_profile"}
    while sum(sizes.values()) > MAX_METADATA_BYTES:
        largest = max(sizes, key=sizes.__getitem__)
        left_out.append(metadata.described(largest, found[largest]))
        options[largest] = None
        del sizes[largest]
    return options, left_out
