"""Metadata that go with a picture from one format to another."""

import math
from typing import Any

from PIL import ExifTags, Image

_KEYS = ("exif", "icc_profile", "xmp", "dpi", "XML:com.adobe.xmp")

_XMP_TAG = 700
_EXIF_PREFIX = b"Exif\0\0"
_LAYOUT_TAGS = {
    *(254, 255, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 288, 289, 292, 293, 301, 317, 320, 321, 322),
    *(323, 324, 325, 330, 332, 338, 339, 347, 512, 513, 514, 519, 520, 521, 529, 530, 531, 532, _XMP_TAG, 33723),
    *(34377, 34675),
}
"""Tags of TIFF that say how the file stores its pixels, or that hold other metadata, and are no EXIF elsewhere."""


def strip(image: Image.Image) -> None:
    """Take all metadata from a picture, so that ``save`` finds none."""
    for key in _KEYS:
        image.info.pop(key, None)


def save_options(image: Image.Image) -> dict[str, Any]:
    """Return what ``save`` must be given so that EXIF, XMP and the resolution are kept.

    The colour profile is not among them: plugins take it from the picture, unless what they store is of other colours.
    """
    options = {"exif": _exif(image), "xmp": _xmp(image), "dpi": _dpi(image)}
    return {key: value for key, value in options.items() if value}


def save_options_for(image: Image.Image, file_format: str) -> dict[str, Any]:
    """Return the same in the way that a format's plugin wants it."""
    options = save_options(image)
    if "exif" in options:  # JPEG's plugin wants these bytes before it, and the others pass them by
        options["exif"] = _EXIF_PREFIX + options["exif"].removeprefix(_EXIF_PREFIX)
    if "icc_profile" in image.info:
        options["icc_profile"] = image.info["icc_profile"]
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


def _exif(image: Image.Image) -> bytes | None:
    stored = image.info.get("exif")
    if isinstance(stored, bytes):
        return stored
    exif = image.getexif()
    for tag in _LAYOUT_TAGS & set(exif):
        del exif[tag]
    if not any(tag not in (ExifTags.Base.XResolution, ExifTags.Base.YResolution, 296) for tag in exif):
        return None  # the resolution is kept as such
    return exif.tobytes()


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
