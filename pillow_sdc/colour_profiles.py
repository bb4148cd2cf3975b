"""Which colour profiles say no more than a picture without one does: that its colours are those of sRGB.

A profile is judged by what it does to colours, not by its name: profiles of sRGB come from many makers, as tables and
as formulas, and others are called sRGB without being it.
"""

import io
import itertools
from functools import lru_cache

from PIL import Image, ImageChops, ImageCms, features

TOLERANCE = 2
"""Levels of 255 by which a colour may differ. The sRGB profiles in use differ by 0 or 1; the nearest others, those with
a gamma of 2.2 or of a grey that is even in lightness, by 9."""

LARGEST = 1 << 18
"""Bytes; larger profiles are not judged. Those of sRGB have 400 to 61,000."""

_INTENTS = ImageCms.Intent.PERCEPTUAL, ImageCms.Intent.RELATIVE_COLORIMETRIC
"""What viewers convert with. The absolute intent is none of these: it shows the white of the paper."""

_COLOUR_SPACE = slice(16, 20)
_MODES = {b"RGB ": "RGB", b"GRAY": "L"}
"""By the colour space that a profile's header names."""

_PRIMARIES = (1, 0, 0), (0, 1, 0), (0, 0, 1)


def describes_srgb(profile: bytes) -> bool:
    """Tell whether a profile, of RGB or of grey, means sRGB: then a picture that is saved does not need it.

    Profiles that are damaged or of other colours do not, and none does where Pillow was built without littlecms.
    """
    return len(profile) <= LARGEST and bool(features.check("littlecms2")) and _agrees_with_srgb(profile)


@lru_cache(maxsize=16)
def _agrees_with_srgb(profile: bytes) -> bool:
    mode = _MODES.get(profile[_COLOUR_SPACE])
    if mode is None:
        return False
    try:
        judged = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return all(_largest_change(judged, mode, intent) <= TOLERANCE for intent in _INTENTS)
    except (OSError, ImageCms.PyCMSError):
        return False  # littlecms cannot read it


def _largest_change(profile: ImageCms.ImageCmsProfile, mode: str, intent: ImageCms.Intent) -> int:
    """Return how far, in levels, any colour lies from the same numbers in sRGB."""
    colours = _colours().convert(mode)
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", intent)
    converted = ImageCms.applyTransform(colours, transform)
    assert converted is not None  # noqa: S101 - it is, unless the picture is changed in place
    difference = ImageChops.difference(converted, colours.convert("RGB"))
    return max(difference.tobytes())


@lru_cache(maxsize=1)
def _colours() -> Image.Image:
    """Return a picture, one pixel high, of every grey, every level of each primary, and an even grid of all colours."""
    levels = range(256)
    greys = [(level, level, level) for level in levels]
    primaries = [(level * red, level * green, level * blue) for red, green, blue in _PRIMARIES for level in levels]
    grid = itertools.product(range(0, 256, 15), repeat=3)
    samples = bytes(itertools.chain(*greys, *primaries, *grid))
    return Image.frombytes("RGB", (len(samples) // 3, 1), samples)
