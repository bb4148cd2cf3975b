"""Reading the photographs of an evaluation, and cropping them."""

import io
import os
from dataclasses import dataclass
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from ..jobs.pictures.plugins import open_image
from ..saving import converted
from .metrics import Samples

CROP = 512
"""Side of the article's pictures, in pixels."""


@dataclass(frozen=True)
class Photograph:
    """An original.

    Attributes:
        name: The file's name, for people to read.
        samples: 8-bit sRGB ``(H, W, 3)``.
    """

    name: str
    samples: Samples


def read_photograph(file: IO[bytes], name: str) -> Photograph:
    """Read a picture as people see it: upright, in sRGB, transparency on white.

    Args:
        file: The picture's file.
        name: Name for people; bytes that are not valid text are replaced.

    Raises:
        OSError: The file is not a picture or is damaged, or SDC refuses its mode for having more than 8 bits.
    """
    with open_image(file) as opened:
        upright = ImageOps.exif_transpose(opened)
    profile = upright.info.get("icc_profile") if upright.mode in ("RGB", "RGBA") else None
    picture = converted(upright)
    if picture.mode in ("LA", "RGBA"):
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return Photograph(_readable(name), np.asarray(_to_srgb(picture.convert("RGB"), profile)))


def crop_centre(photograph: Photograph, side: int) -> Photograph:
    """Return the middle of a photograph, a square like the article's, or smaller if the photograph is."""
    return Photograph(photograph.name, middle(photograph.samples, side))


def middle(samples: Samples, side: int) -> Samples:
    """Return the middle ``(h, w, 3)`` of samples, at most ``side`` pixels wide and high."""
    height, width = samples.shape[:2]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    return np.ascontiguousarray(samples[top : top + side, left : left + side])


def _to_srgb(rgb: Image.Image, profile: object) -> Image.Image:
    if not isinstance(profile, bytes):
        return rgb
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        in_srgb = ImageCms.profileToProfile(rgb, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):  # a profile of something else, or damaged: colours as they are
        return rgb
    return rgb if in_srgb is None else in_srgb


def _readable(name: str) -> str:
    """Return a file's name with bytes that are not valid text replaced, so that it can be written anywhere."""
    return os.fsencode(name).decode("utf-8", "replace")
