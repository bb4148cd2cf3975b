"""Pictures of more than 8 bits, which Pillow cuts to 8 when it opens them, and one kind that it opens wrongly."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_BITS_PER_SAMPLE, _COMPRESSION, _PLANAR_CONFIGURATION = 258, 259, 284
_UNCOMPRESSED, _SEPARATE_PLANES = 1, 2


def is_cut(image: "Image.Image") -> bool:
    """Tell whether a picture, opened and not yet loaded, has more than 8 bits a sample that its mode has no room for.

    Known of PNG, TIFF, Netpbm, and of HEIC by pillow-heif; of AVIF and JPEG 2000 Pillow does not tell.
    """
    if image.mode.startswith(("I", "F")):
        return False  # all bits are there
    raw_modes = [part for _, _, _, args in getattr(image, "tile", ()) for part in _parts(args)]
    deep = any(isinstance(part, str) and ";16" in part for part in raw_modes)
    deep |= image.format == "PPM" and any(isinstance(part, int) and part > 255 for part in raw_modes[1:])
    return deep or _tiff_bits(image) > 8 or image.info.get("bit_depth", 8) > 8


def check_planes(image: "Image.Image") -> None:
    """Refuse a TIFF that Pillow (as of 13.0) opens as another picture: it takes the bytes of its planes for samples.

    Raises:
        OSError: The picture is such a file.
    """
    tags = getattr(image, "tag_v2", {})
    separate = tags.get(_PLANAR_CONFIGURATION) == _SEPARATE_PLANES
    if separate and tags.get(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED and _tiff_bits(image) > 8:
        raise OSError(
            "Pillow reads uncompressed TIFF files of more than 8 bits wrongly if their planes are stored one after"
            " another; write the file again, interleaved or compressed"
        )


def _tiff_bits(image: "Image.Image") -> int:
    bits = getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)
    return max((part for part in _parts(bits) if isinstance(part, int)), default=8)


def _parts(value: object) -> Iterable[object]:
    return value if isinstance(value, tuple | list) else (value,)
