"""What of a file of another format goes into an SDC file: its first picture, and its metadata, or none of these."""

import importlib.util
import io
import struct
from collections.abc import Callable
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, features

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.jobs.pictures import metadata
from pillow_sdc.jobs.pictures.opening import OpenedPicture, open_picture

PLACE = "a place that nobody should know"
XMP = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><p note="{PLACE}"/></x:xmpmeta>'.encode()
TURNED_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><p tiff:Orientation="6"/></x:xmpmeta>'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
NO_HEIF = importlib.util.find_spec("pillow_heif") is None
ORIENTATION, DESCRIPTION, GPS = ExifTags.Base.Orientation, ExifTags.Base.ImageDescription, ExifTags.IFD.GPSInfo


@pytest.fixture(autouse=True)
def embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")


@pytest.fixture(autouse=True)
def heif(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have Pillow know HEIC files for the length of a test, if their plugin is installed."""
    if NO_HEIF:
        return
    import pillow_heif

    Image.init()
    for name in ("ID", "OPEN", "MIME", "SAVE", "SAVE_ALL", "EXTENSION"):
        monkeypatch.setattr(Image, name, getattr(Image, name).copy())
    pillow_heif.register_heif_opener()


def picture(colour: str = "orange") -> Image.Image:
    return Image.new("RGB", (24, 16), colour)


def saved(file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture().save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> bytes:
    tags = Image.Exif()
    tags[DESCRIPTION] = PLACE
    tags[ORIENTATION] = orientation
    tags[GPS] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (51.0, 28.0, 38.0)}
    return tags.tobytes()


def without_jfif(jpeg: bytes) -> bytes:
    """Return a JPEG as cameras write it: what follows the start of the image is EXIF."""
    assert jpeg[2:4] == b"\xff\xe0"
    return jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6]) :]


def jpeg() -> bytes:
    return saved("JPEG", exif=exif(), xmp=XMP, icc_profile=PROFILE, comment=PLACE)


def jpeg_of_a_camera() -> bytes:
    return without_jfif(jpeg())


def jpeg_with_a_resolution() -> bytes:
    return saved("JPEG", exif=exif(), dpi=(300, 300))


def mpo() -> bytes:
    return saved("MPO", save_all=True, append_images=[picture("blue")], exif=exif())


def png() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    text.add_text("Comment", PLACE)
    return saved("PNG", exif=exif(), dpi=(300, 300), icc_profile=PROFILE, pnginfo=text)


def png_with_exif_in_text(compressed: bool = False) -> bytes:
    digits, text = exif().hex(), PngImagePlugin.PngInfo()
    lines = [digits[start : start + 72] for start in range(0, len(digits), 72)]
    text.add_text("Raw profile type exif", "\n".join(["", "exif", f"{len(digits) // 2:8}", *lines, ""]), compressed)
    return saved("PNG", pnginfo=text)


def png_with_exif_in_compressed_text() -> bytes:
    return png_with_exif_in_text(compressed=True)


def tiff(orientation: int | None = 1, xmp: bytes = XMP, **options: Any) -> bytes:
    tags = Image.Exif()
    if orientation is not None:
        tags.load(exif(orientation))
    tags[metadata._XMP_TAG] = xmp
    return saved("TIFF", exif=tags, **options)


def tiff_with_a_resolution() -> bytes:
    return tiff(dpi=(300, 300), icc_profile=PROFILE)


def compressed_tiff() -> bytes:
    tags = Image.Exif()
    tags[DESCRIPTION] = PLACE
    return saved("TIFF", exif=tags, compression="tiff_lzw")


def webp() -> bytes:
    return saved("WEBP", exif=exif(), xmp=XMP, icc_profile=PROFILE)


def avif() -> bytes:
    return saved("AVIF", exif=exif(), xmp=XMP, icc_profile=PROFILE)


def heic() -> bytes:
    return saved("HEIF", exif=exif(), xmp=XMP, icc_profile=PROFILE)


def gif() -> bytes:
    return saved("GIF", comment=PLACE)


def jpeg_2000() -> bytes:
    return saved("JPEG2000", comment=PLACE)


def bmp() -> bytes:
    return saved("BMP", dpi=(300, 300))


WITH_EXIF = [
    jpeg,
    jpeg_of_a_camera,
    jpeg_with_a_resolution,
    mpo,
    png,
    png_with_exif_in_text,
    png_with_exif_in_compressed_text,
    tiff,
    tiff_with_a_resolution,
    compressed_tiff,
    webp,
    pytest.param(avif, marks=pytest.mark.skipif(not features.check("avif"), reason="no AVIF here")),
    pytest.param(heic, marks=pytest.mark.skipif(NO_HEIF, reason="no HEIC here")),
]

each_source_with_exif = pytest.mark.parametrize("source", WITH_EXIF)


def opened(data: bytes, keep_metadata: bool = True) -> OpenedPicture:
    return open_picture(io.BytesIO(data), keep_metadata=keep_metadata)


def encoded(data: bytes, keep_metadata: bool = True) -> Image.Image:
    """Encode a file and open the SDC file that it becomes."""
    source = opened(data, keep_metadata)
    return Image.open(io.BytesIO(pillow_sdc.encode(source.image, **source.options)))


@pytest.mark.parametrize("source", [*WITH_EXIF, gif, jpeg_2000, bmp])
def test_stripping_leaves_no_metadata(source: Callable[[], bytes]) -> None:
    stripped = opened(source(), keep_metadata=False)
    data = pillow_sdc.encode(stripped.image, **stripped.options)
    assert [letter for letter, _ in pillow_sdc.info(data).chunks] == ["P"]
    assert PLACE.encode() not in data
    assert stripped.remark is None


@pytest.mark.parametrize("key", container.METADATA)
def test_stripping_names_every_kind_of_metadata_that_the_format_has(key: str) -> None:
    assert opened(jpeg(), keep_metadata=False).options[key] is None


@each_source_with_exif
def test_exif_is_kept_wherever_it_stands(source: Callable[[], bytes]) -> None:
    kept = Image.Exif()
    kept.load(encoded(source()).info["exif"])
    assert kept[DESCRIPTION] == PLACE
    if source is not compressed_tiff:
        assert kept.get_ifd(GPS)[ExifTags.GPS.GPSLatitude] == (51.0, 28.0, 38.0)


@pytest.mark.parametrize("source", [jpeg, jpeg_of_a_camera, png, tiff, webp])
def test_xmp_is_kept(source: Callable[[], bytes]) -> None:
    assert encoded(source()).info["xmp"] == XMP


def xmp_alone(file_format: str) -> bytes:
    if file_format == "PNG":
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", TURNED_XMP.decode())
        return saved("PNG", pnginfo=text)
    if file_format == "TIFF":
        return tiff(None, TURNED_XMP.replace(b'"6"', b'"1"'))
    return saved(file_format, xmp=TURNED_XMP)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_orientation_that_stands_in_xmp_becomes_no_exif(file_format: str) -> None:
    image = encoded(xmp_alone(file_format))
    assert b"tiff:Orientation" in image.info["xmp"]
    assert "exif" not in image.info


def test_an_orientation_that_stands_in_xmp_is_not_added_to_the_tags_of_a_tiff() -> None:
    tags = Image.Exif()
    tags[DESCRIPTION], tags[metadata._XMP_TAG] = PLACE, TURNED_XMP.replace(b'"6"', b'"1"')
    kept = Image.Exif()
    kept.load(encoded(saved("TIFF", exif=tags)).info["exif"])
    assert dict(kept) == {DESCRIPTION: PLACE}


def test_an_orientation_that_stands_in_the_tags_of_a_tiff_is_kept_beside_another_in_xmp() -> None:
    source = tiff(1, TURNED_XMP)
    image = encoded(source)
    with Image.open(io.BytesIO(source)) as original:
        original.load()
        assert (image.size, image.getexif()[ORIENTATION]) == (original.size, 1)


def test_exif_that_cannot_be_a_text_of_hexadecimal_digits_is_none() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Raw profile type exif", "\nexif\n 4\nno digits\n")
    assert "exif" not in opened(saved("PNG", pnginfo=text)).options


def test_metadata_beyond_what_the_format_holds_are_left_out_and_that_is_said() -> None:
    source = opened(tiff(xmp=bytes(container.MAX_METADATA_BYTES)))
    assert source.remark == "left out of the SDC file: XMP (16,777,216 bytes)"
    data = pillow_sdc.encode(source.image, **source.options)
    assert [letter for letter, _ in pillow_sdc.info(data).chunks] == ["f", "P"]


def test_a_profile_beyond_what_the_format_holds_is_left_out_and_that_is_said() -> None:
    source = opened(saved("TIFF", icc_profile=bytes(container.MAX_METADATA_BYTES + 1)))
    assert source.remark == "left out of the SDC file: colour profile (16,777,217 bytes)"
    assert [letter for letter, _ in pillow_sdc.info(pillow_sdc.encode(source.image, **source.options)).chunks] == ["P"]


@pytest.mark.filterwarnings("ignore:Metadata Warning")
def test_tags_that_are_damaged_are_left_out_and_that_is_said() -> None:
    data = bytearray(tiff())
    directory = struct.unpack_from("<I", data, 4)[0]
    entries = range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12)
    (description,) = (entry for entry in entries if struct.unpack_from("<H", data, entry) == (DESCRIPTION,))
    struct.pack_into("<H", data, description + 2, 12)  # floating-point numbers
    source = opened(bytes(data))
    assert source.remark == "left out of the SDC file: EXIF that is damaged"
    assert source.image.getpixel((0, 0)) == picture().getpixel((0, 0))
    assert source.options["xmp"] == XMP


SEVERAL = "has several frames, of which the first is taken"


def frames(file_format: str) -> bytes:
    return saved(file_format, save_all=True, append_images=[picture("blue"), picture("green")])


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_of_several_frames_the_first_is_taken_and_that_is_said(file_format: str) -> None:
    source = opened(frames(file_format))
    assert source.remark == SEVERAL
    red, green, blue = source.image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    assert red > green > blue


@pytest.mark.parametrize("source", [mpo, jpeg, gif])
def test_a_single_picture_needs_no_remark(source: Callable[[], bytes]) -> None:
    assert opened(source()).remark is None


def test_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A TIFF of very many pages takes long, and so does a GIF."""
    from PIL import GifImagePlugin, TiffImagePlugin

    for plugin in (GifImagePlugin.GifImageFile, TiffImagePlugin.TiffImageFile):
        monkeypatch.setattr(plugin, "n_frames", property(lambda image: pytest.fail("the frames are counted")))
    assert opened(frames("GIF")).remark == opened(frames("TIFF")).remark == SEVERAL


@pytest.mark.parametrize("place", [3, 8, 2**31 - 1])
def test_the_first_frame_of_a_tiff_is_read_if_the_next_directory_is_damaged(place: int) -> None:
    data = bytearray(frames("TIFF"))
    directory = struct.unpack_from("<I", data, 4)[0]
    link = directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0]
    struct.pack_into("<I", data, link, place)
    source = opened(bytes(data))
    assert source.image.getpixel((0, 0)) == picture().getpixel((0, 0))
    assert source.remark in (None, SEVERAL)


def test_the_first_frame_of_a_gif_is_read_if_the_next_is_damaged() -> None:
    whole = frames("GIF")
    damaged = [data for data in (whole[:length] for length in range(len(whole))) if second_frame_raises(data)]
    assert damaged
    for data in damaged:
        source = opened(data)
        assert source.remark == SEVERAL
        assert source.image.convert("RGB").getpixel((0, 0)) == picture().getpixel((0, 0))


def second_frame_raises(data: bytes) -> bool:
    """Tell whether a GIF can be loaded, but not asked for more frames."""
    try:
        Image.open(io.BytesIO(data)).load()
    except Exception:
        return False
    try:
        Image.open(io.BytesIO(data)).is_animated  # type: ignore[attr-defined]  # noqa: B018
    except Exception:
        return True
    return False
