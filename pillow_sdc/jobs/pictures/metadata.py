"""Metadata that go with a picture from one format to another: EXIF, colour profile, XMP and resolution."""

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from PIL import ExifTags, Image

from ...format.container import METADATA

NAMES = {"exif": "EXIF", "icc_profile": "colour profile", "xmp": "XMP", "dpi": "resolution"}
"""What people call each of them, by the name of the option of ``save``."""

NONE: Mapping[str, None] = dict.fromkeys(METADATA)
"""Options of ``save`` with which an SDC file holds no metadata, whatever the picture has."""

_XMP_TAG = 700
_EXIF_PREFIX = b"Exif\0\0"
_RESOLUTION_TAGS = {ExifTags.Base.XResolution, ExifTags.Base.YResolution, ExifTags.Base.ResolutionUnit}
_LAYOUT_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 301, 317, 320, 321, 322),
    *(323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532, _XMP_TAG, 33723),
    *(34377, 34675, 37724),
}
"""Tags of TIFF that say how the file stores its pixels, or that hold other metadata, and are no EXIF elsewhere."""


def exif_tags(image: Image.Image) -> frozenset[int]:
    """Return the tags of a TIFF that are EXIF elsewhere; none if these are but the resolution, which is kept as such.

    To be called before the picture is loaded, which turns it and takes the orientation away.
    """
    tags = frozenset(getattr(image, "tag_v2", ())) - _LAYOUT_TAGS
    return tags if tags - _RESOLUTION_TAGS else frozenset()


def read(image: Image.Image, tags: Collection[int] = ()) -> dict[str, Any]:
    """Return the metadata of a picture, by the names of the options of ``save``.

    Args:
        image: Any picture; one that is loaded has them all.
        tags: What :func:`exif_tags` says of a picture that may be a TIFF.

    Returns:
        ``exif``, ``icc_profile`` and ``xmp`` as bytes, and ``dpi`` as two numbers, as far as the picture has them.
        Where the tags are damaged there is no ``exif``.
    """
    profile = image.info.get("icc_profile")  # a TIFF can make it anything
    found = {
        "exif": _exif(image, tags),
        "icc_profile": profile if isinstance(profile, bytes) else None,
        "xmp": _xmp(image),
        "dpi": _dpi(image),
    }
    return {key: value for key, value in found.items() if value}


def options_for(metadata: Mapping[str, Any], file_format: str) -> dict[str, Any]:
    """Return metadata as a format's plugin wants them from ``save``.

    Raises:
        Exception: They cannot be brought into the form that it wants.
    """
    options = dict(metadata)
    if "exif" in options:  # JPEG's plugin wants these bytes before it, and the others pass them by
        options["exif"] = _EXIF_PREFIX + options["exif"]
    if file_format == "PNG" and "xmp" in options:
        from PIL import PngImagePlugin

        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode("utf-8", "replace"))
    if file_format == "TIFF" and "xmp" in options:
        exif = Image.Exif()
        exif.load(options.get("exif", b""))
        exif[_XMP_TAG] = options.pop("xmp")
        options["exif"] = exif
    return options


def left_out(what: Iterable[str], file_format: str) -> str:
    """Return a line for the user that says what a file lacks."""
    return f"left out of the {file_format} file: {', '.join(what)}"


def described(key: str, value: Any) -> str:
    """Return what people call a picture's metadata of one kind, and how large they are."""
    return NAMES[key] if key == "dpi" else f"{NAMES[key]} ({len(value):,} bytes)"


def _exif(image: Image.Image, tags: Collection[int]) -> bytes | None:
    """Return EXIF that stands in the file as such, never what Pillow derives from XMP."""
    stored = image.info.get("exif")
    if not isinstance(stored, bytes):
        stored = _exif_in_text(image.info.get("Raw profile type exif")) or _exif_in_tags(image, tags) or b""
    return stored.removeprefix(_EXIF_PREFIX)


def _exif_in_text(text: object) -> bytes | None:
    """Return EXIF from a text chunk of a PNG file: three lines before it, then hexadecimal digits."""
    if not isinstance(text, str):
        return None
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return None


def _exif_in_tags(image: Image.Image, tags: Collection[int]) -> bytes | None:
    if not tags:
        return None
    exif = image.getexif()
    for tag in set(exif) - set(tags):
        del exif[tag]
    try:
        return exif.tobytes()
    except Exception:  # a value of another kind than the tag's; Pillow fails in many ways then
        return None


def _xmp(image: Image.Image) -> bytes | None:
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        return xmp.encode()
    return xmp if isinstance(xmp, bytes) else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution, if it is one: where it is unknown, files say 0, and Pillow says 1 of TIFF files."""
    try:
        across, down = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and 1 < value < 2**32 / 1000 for value in (across, down)):
        return None
    return across, down
