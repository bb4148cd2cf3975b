"""What ``save`` is given, a picture of Pillow's and options, made ready for the pipeline: each is checked, and once.

This module imports no numpy before there is something to save.
"""

from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import options
from .errors import OptionError
from .format import container
from .format.codecs import CODECS, TARGET_SIZE
from .pipeline.resaving import Unmodified
from .progress import ProgressCallback
from .registration import is_of_pillow, is_opened_sdc

if TYPE_CHECKING:
    from .pipeline.encoding import EncodeOptions, SourceImage

EXIF_PREFIX = b"Exif\0\0"
"""What EXIF begins with in JPEG files, and in ``Image.info``, but not in SDC files."""

_CONVERTED = {"1": "L", "La": "LA", **dict.fromkeys(("P", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"), "RGB")}
_CONVERTED |= {"PA": "RGBA", "RGBa": "RGBA"}
"""What modes that the format lacks are stored as, unless they would lose precision."""

_CONVERSIONS = {
    "I": ", which holds 8 bits a sample; convert the picture to mode L first, one of 16 bits with"
    " image.convert('I').point(lambda value: value / 256).convert('L')",
    "F": ", which holds 8 bits a sample; convert the picture to mode L first, one of values from 0 to 1 with"
    " image.point(lambda value: value * 255).convert('L')",
}
"""What to do with modes that would lose precision, by their first letter."""


def source_image(im: Image.Image, given: Mapping[str, Any]) -> "SourceImage":
    """Return a picture with the options that ``save`` was given, all checked, for the pipeline to encode.

    Raises:
        OptionError: An option or the size is outside its range.
        CorruptFileError: The picture is that of an SDC file, not loaded, and the file is damaged.
        OSError: The mode would lose precision.
    """
    import numpy as np

    from .pipeline.encoding import SourceImage

    if not is_opened_sdc(im):  # whose pixels may not be needed, and come last
        im.load()  # so that metadata are known that come after the pixels
    options, mode = save_options(im, given), stored_mode(im)
    envelope = container.Envelope.of(container.Header(*im.size, mode, options.codec.name), options.metadata)
    content = unmodified(im, mode)
    return SourceImage(options, envelope, np.asarray(_in_mode(im, mode)) if content is None else content)


def unmodified(im: Image.Image, mode: str) -> Unmodified | None:
    """Return what a picture's own SDC file holds, if the picture to be stored is what loading that file gives.

    Raises:
        CorruptFileError: The picture is not loaded, and its file is damaged.
    """
    sdc: Any = im
    return sdc.unmodified() if is_opened_sdc(im) and im.mode == mode else None


def converted(im: Image.Image) -> Image.Image:
    """Return a picture, loaded, in the mode that it is stored in.

    Raises:
        OSError: The mode would lose precision.
    """
    return _in_mode(im, stored_mode(im))


def _in_mode(im: Image.Image, mode: str) -> Image.Image:
    im.load()
    return im if im.mode == mode else im.convert(mode)


def stored_mode(im: Image.Image) -> str:
    """Return the mode that a picture is stored in; transparency of any kind becomes alpha.

    Raises:
        OSError: The mode would lose precision.
    """
    mode = _CONVERTED.get(im.mode, im.mode)
    if mode not in container.MODES.values():
        raise OSError(f"cannot write mode {im.mode} as SDC{_CONVERSIONS.get(im.mode[:1], '')}")
    return f"{mode}A" if _has_transparency(im) and not mode.endswith("A") else mode


def _has_transparency(im: Image.Image) -> bool:
    """Tell whether a colour or a palette is transparent; what other modes have in their info says nothing of them."""
    transparency = im.info.get("transparency")
    if im.mode in ("1", "L"):
        return isinstance(transparency, int)
    if im.mode == "RGB":
        return isinstance(transparency, tuple) and len(transparency) == len(im.mode)
    return im.mode == "P" and im.has_transparency_data


def save_options(im: Image.Image, given: Mapping[str, Any]) -> "EncodeOptions":
    """Return the options that ``save`` was given for a picture, and what settings and the picture itself add to them.

    Raises:
        OptionError: An option is outside its range.
    """
    from .pipeline.encoding import EncodeOptions

    settings = save_settings(given)
    names = {*CODECS.options, TARGET_SIZE}
    asked = frozenset(given.keys() & {"codec", *names})
    if not asked:  # what save was given of a codec holds as a whole
        given = {**given, **settings.codec_options}
    codec = CODECS.choose(given)
    codec_options = {name: given[name] for name in names if name in given}
    target_size = _checked_target_size(codec_options.pop(TARGET_SIZE)) if TARGET_SIZE in codec_options else None
    return EncodeOptions(codec(**codec_options), asked, target_size, settings, _metadata(im, given))


def save_settings(given: Mapping[str, Any]) -> options.Settings:
    """Return the settings that hold for a picture: those in force, changed by what ``save`` was given.

    Raises:
        OptionError: One that it was given is outside its range.
    """
    changes: Any = {name: given[name] for name in ("model", "vae", "device", "dtype") if name in given}
    return options.override(options.settings(), changes)


def _checked_target_size(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise OptionError(f"{TARGET_SIZE} is {value!r}; it must be a positive number of bytes")
    return int(value)


def _metadata(im: Image.Image, options: Mapping[str, Any]) -> dict[str, bytes]:
    """Collect what ``save`` was given; a colour profile also from the picture itself, as AVIF's plugin does.

    The picture's own profile is left out where it describes sRGB, which a file without a profile means anyway.
    """
    given = {key: options[key] for key in container.METADATA if options.get(key) is not None}
    if "dpi" in given:
        given["dpi"] = _dpi(given["dpi"])
    if "exif" in given:
        given["exif"] = exif_bytes(given["exif"])
    for key, value in given.items():
        if not isinstance(value, bytes | bytearray | memoryview):
            raise OptionError(f"{key} is a {type(value).__name__}; it must be bytes")
    # The profile of ink or of Lab does not describe the colours that these become.
    own_profile = im.info.get("icc_profile") if im.mode not in ("CMYK", "LAB") else None
    if isinstance(own_profile, bytes):  # a TIFF can make it anything
        if "icc_profile" not in options:
            given["icc_profile"] = own_profile
        if given.get("icc_profile") == own_profile and _describes_srgb(own_profile):
            del given["icc_profile"]
    metadata = {key: bytes(given[key]) for key in container.METADATA if given.get(key)}  # in one order, whoever gave it
    if "exif" in metadata:
        metadata["exif"] = metadata["exif"].removeprefix(EXIF_PREFIX)
    return metadata


def _describes_srgb(profile: bytes) -> bool:
    from .colour_profiles import describes_srgb  # not before there is a profile: it imports littlecms

    return describes_srgb(profile)


def exif_bytes(exif: Any) -> Any:
    """Return an ``Image.Exif`` as bytes, none if it is empty; anything else as it is."""
    if not is_of_pillow(exif, "Exif"):
        return exif
    data = exif.tobytes()
    return b"" if data == Image.Exif().tobytes() else data


def _dpi(dpi: Any) -> bytes:
    if not isinstance(dpi, tuple | list) or len(dpi) != 2 or not all(isinstance(value, Real) for value in dpi):
        raise OptionError(f"dpi is {dpi!r}; it must be a pair of numbers")
    if not any(dpi):
        return b""  # as Pillow reads it from a BMP whose resolution is unknown
    try:
        return container.pack_dpi((float(dpi[0]), float(dpi[1])))
    except ValueError as error:
        raise OptionError(str(error)) from None


def check_one_frame(im: Image.Image, given: Mapping[str, Any]) -> None:
    """Refuse to write several frames.

    Raises:
        OSError: There are several.
    """
    frames = getattr(im, "n_frames", 1) + sum(
        getattr(other, "n_frames", 1) for other in given.get("append_images") or ()
    )
    if frames > 1:
        raise OSError(f"cannot write {frames} frames as SDC: a file holds one picture")


def checked_progress(given: Any) -> ProgressCallback | None:
    """Return a callback for progress, or ``None``.

    Raises:
        OptionError: It is neither.
    """
    if given is not None and not callable(given):
        raise OptionError(f"progress is {given!r}; it must be a function of two numbers, or None")
    callback: ProgressCallback | None = given
    return callback
