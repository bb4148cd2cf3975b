"""A decoded picture as a file of another format, and what of the picture such a file cannot hold.

What each format holds of modes and metadata is not listed here. Every file is opened again, and lacks what Pillow does
not find in it: so the answer is right for each version of Pillow and for other people's plugins.
"""

import io
from collections.abc import Iterator, Mapping, Set
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from ...errors import summary_of
from . import metadata

_MODES_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}
_MODES_WITHOUT_COLOUR = {"1", "I", "I;16", "F"}
"""What a picture in colour must not become. L is not among them: as a GIF, RGB that is all grey is opened as L."""

_LONGEST_SIDE = {"ICO": 256, "JPEG": 65500, "MPO": 65500, "WEBP": 16383}
"""Largest sides, by format, where the plugin's own error does not say that a picture is too large."""


class PictureFile(NamedTuple):
    """A picture in a file of another format.

    Attributes:
        data: The file.
        remark: What of the picture was left out, in one line for the user; ``None`` if nothing was.
    """

    data: bytes
    remark: str | None


class _Written(NamedTuple):
    """A file that holds a picture, whether alpha is in it, and the metadata that are not."""

    data: bytes
    has_alpha: bool
    lacking: Set[str]


class _RefusedError(Exception):
    """A format cannot hold a picture or its metadata, or would change them."""


def picture_file(image: Image.Image, file_format: str, *, keep_metadata: bool) -> PictureFile:
    """Return a decoded picture as a file of another format.

    Metadata that the format cannot hold are left out, and so is alpha that hides nothing.

    Args:
        image: A picture of mode L, LA, RGB or RGBA, loaded.
        file_format: Pillow's name of a format that it writes.
        keep_metadata: Whether EXIF, colour profile, XMP and resolution go along. Without it, nothing of the picture's
            ``info`` reaches the file.

    Raises:
        OSError: The format cannot hold a picture of this size, or its colours, or alpha that hides something.
    """
    found = metadata.read(image) if keep_metadata else {}
    refusal: _RefusedError | None = None
    for picture in _alike(image):
        try:
            written = _write_with_what_fits(picture, file_format, found)
        except _RefusedError as error:
            refusal = refusal or error
        else:
            left_out = [metadata.described(key, found[key]) for key in found if key in written.lacking]
            if image.mode.endswith("A") and not written.has_alpha:
                left_out.append("alpha that hides nothing")
            return PictureFile(written.data, metadata.left_out(left_out, file_format) if left_out else None)
    what = f"a picture of mode {image.mode} and {image.width:,}×{image.height:,} pixels"
    raise OSError(f"{file_format} cannot hold {what}: {refusal}; PNG can") from refusal


def _alike(image: Image.Image) -> Iterator[Image.Image]:
    """Yield a picture without its ``info``, then, for formats that lack its mode, the same in other modes."""
    bare = Image.Image()._new(image.im)
    yield bare
    without_alpha = bare.mode.removesuffix("A")
    opaque = bare.mode != without_alpha and _alpha_values(bare) == {255}
    if opaque:
        yield bare.convert(without_alpha)
    if without_alpha == "L":
        yield bare.convert(bare.mode.replace("L", "RGB"))
        if opaque:
            yield bare.convert("RGB")


def _alpha_values(picture: Image.Image) -> set[int]:
    return {value for value, count in enumerate(picture.getchannel("A").histogram()) if count}


def _write_with_what_fits(picture: Image.Image, file_format: str, found: Mapping[str, Any]) -> _Written:
    """Return a file that holds a picture, with as much of its metadata as the format takes.

    Raises:
        _RefusedError: The format does not take the picture.
    """
    try:
        return _write(picture, file_format, found)
    except _RefusedError:
        if not found:
            raise
    written = _write(picture, file_format, {})  # which is refused again, if the picture is the reason
    fitting: dict[str, Any] = {}
    for key, value in found.items():
        try:
            written = _write(picture, file_format, {**fitting, key: value})
        except _RefusedError:
            continue
        fitting[key] = value
    return written._replace(lacking=written.lacking | (found.keys() - fitting.keys()))


def _write(picture: Image.Image, file_format: str, given: Mapping[str, Any]) -> _Written:
    """Return a file that holds a picture, and what it lacks of the given metadata.

    Raises:
        _RefusedError: The format does not take the picture, or does not take the metadata.
    """
    limit = _LONGEST_SIDE.get(file_format)
    if limit is not None and max(picture.size) > limit:
        raise _RefusedError(f"it takes {limit:,}×{limit:,} pixels at most")
    buffer = io.BytesIO()
    try:
        picture.save(buffer, file_format, **_options(picture, file_format, given))
        has_alpha, kept = _content(buffer.getvalue(), file_format, picture)
        _check_resolution(kept.get("dpi"), given.get("dpi"))
    except MemoryError:
        raise
    except Exception as error:  # plugins raise what they like
        raise _RefusedError(summary_of(error)) from error
    # Most photographs have a resolution that means nothing: that a format has no place for it goes without saying.
    return _Written(buffer.getvalue(), has_alpha, given.keys() - kept.keys() - {"dpi"})


def _options(picture: Image.Image, file_format: str, given: Mapping[str, Any]) -> dict[str, Any]:
    options = metadata.options_for(given, file_format)
    if file_format == "ICO":  # which otherwise holds the usual sizes of icons, and seldom the picture's own
        options["sizes"] = [picture.size]
    return options


def _content(data: bytes, file_format: str, picture: Image.Image) -> tuple[bool, Mapping[str, Any]]:
    """Return whether a file of a picture has alpha, and the metadata in it.

    Raises:
        ValueError: The file does not hold the picture.
    """
    try:
        written = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        if file_format in Image.OPEN:
            raise ValueError("Pillow could not read the file") from error
        return picture.mode.endswith("A"), {}  # a PDF, of which the plugin writes alpha and no metadata
    with written:
        _check(written, picture)
        return _has_alpha(written), metadata.read(written, metadata.exif_tags(written))


def _check(written: Image.Image, picture: Image.Image) -> None:
    """Refuse a file that does not hold the picture.

    Raises:
        ValueError: Its size is another, or it has lost its colours, or alpha that hides something.
    """
    sizes = [written.size, *(size[:2] for size in written.info.get("sizes", ()))]  # which files of icons have
    if sorted(picture.size) not in map(sorted, sizes):  # TIFF and HEIF are opened turned, where EXIF says so
        raise ValueError(f"the file would have {written.width:,}×{written.height:,} pixels")
    if picture.mode.startswith("RGB") and written.mode in _MODES_WITHOUT_COLOUR:
        raise ValueError("the file would have no colours")
    hiding = _alpha_values(picture) - {255} if picture.mode.endswith("A") else set()
    if hiding and not _has_alpha(written):
        raise ValueError("the file would have no alpha")
    if hiding - {0} and written.mode not in _MODES_WITH_ALPHA:
        raise ValueError("the file would have no alpha between all and nothing")


def _has_alpha(written: Image.Image) -> bool:
    return written.mode in _MODES_WITH_ALPHA or "transparency" in written.info


def _check_resolution(kept: tuple[float, float] | None, given: tuple[float, float] | None) -> None:
    """Refuse a file that says another resolution; formats round to whole numbers, and 16 bits of one may be kept.

    Raises:
        ValueError: It does.
    """
    if kept and given and any(abs(one - other) > 1 for one, other in zip(kept, given, strict=True)):
        raise ValueError("the resolution is beyond what the format can say")
