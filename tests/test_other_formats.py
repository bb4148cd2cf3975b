"""A decoded picture as a file of another format: what is in it, what is left out, and what is refused."""

import io
from typing import Any

import pytest
from PIL import ExifTags, Image, features

from pillow_sdc.jobs.pictures import metadata
from pillow_sdc.jobs.pictures.saving import PictureFile, picture_file

PLACE = b"a place that nobody should know"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><p tiff:Orientation="6" note="' + PLACE + b'"/></x:xmpmeta>'
PROFILE = b"a profile, " + PLACE
NO_AVIF = not features.check("avif")
HOLDING_ALL = ["JPEG", "MPO", "PNG", "TIFF"]
HOLDING_ALL_BUT_DPI = ["WEBP", pytest.param("AVIF", marks=pytest.mark.skipif(NO_AVIF, reason="no AVIF here"))]


def exif(length: int = len(PLACE)) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.ImageDescription] = (PLACE * (length // len(PLACE) + 1))[:length].decode()
    return tags.tobytes()


def picture(
    mode: str = "RGB", alpha: tuple[int, ...] = (255,), size: tuple[int, int] = (24, 16), **info: Any
) -> Image.Image:
    """Return a picture in which each of the values of alpha occurs."""
    image = Image.linear_gradient("L").resize(size).convert(mode.removesuffix("A"))
    if mode.removesuffix("A") == "RGB":
        image.paste("orange", (0, 0, size[0] // 2, size[1]))
    if mode.endswith("A"):
        plane = Image.new("L", size)
        plane.putdata([alpha[pixel % len(alpha)] for pixel in range(size[0] * size[1])])
        image.putalpha(plane)
    image.info.update(info)
    return image


def everything() -> dict[str, Any]:
    return {"exif": exif(), "xmp": XMP, "icc_profile": PROFILE, "dpi": (300, 300)}


def kept(image: Image.Image, file_format: str) -> PictureFile:
    return picture_file(image, file_format, keep_metadata=True)


def opened(file: PictureFile) -> Image.Image:
    return Image.open(io.BytesIO(file.data))


def found(file: PictureFile) -> dict[str, Any]:
    image = opened(file)
    return metadata.read(image, metadata.exif_tags(image))


@pytest.mark.parametrize("file_format", [*HOLDING_ALL, *HOLDING_ALL_BUT_DPI, "GIF", "BMP", "JPEG2000", "PDF", "TGA"])
def test_stripping_leaves_nothing(file_format: str) -> None:
    info = {**everything(), "comment": PLACE, "photoshop": {1028: PLACE}, "Raw profile type exif": PLACE.decode()}
    file = picture_file(picture(**info), file_format, keep_metadata=False)
    assert PLACE not in file.data
    assert file.remark is None
    if file_format == "BMP":
        assert found(file)["dpi"] == pytest.approx((96, 96), abs=0.1)  # Pillow's own
    elif file_format != "PDF":
        assert found(file) == {}
        assert opened(file).info.get("comment") != PLACE


@pytest.mark.parametrize("file_format", HOLDING_ALL)
def test_all_is_kept_where_the_format_holds_it(file_format: str) -> None:
    file = kept(picture(**everything()), file_format)
    assert file.remark is None
    assert found(file).keys() == everything().keys()
    assert opened(file).getexif()[ExifTags.Base.ImageDescription] == PLACE.decode()
    assert (found(file)["xmp"], found(file)["icc_profile"]) == (XMP, PROFILE)


@pytest.mark.parametrize("file_format", HOLDING_ALL_BUT_DPI)
def test_that_a_format_has_no_place_for_the_resolution_goes_without_saying(file_format: str) -> None:
    file = kept(picture(**everything()), file_format)
    assert file.remark is None
    assert found(file).keys() == {"exif", "icc_profile", "xmp"}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_orientation_that_stands_in_xmp_becomes_no_exif(file_format: str) -> None:
    file = kept(picture(xmp=XMP), file_format)
    assert found(file) == {"xmp": XMP}


@pytest.mark.parametrize("file_format", ["GIF", "BMP", "TGA", "PDF"])
def test_that_a_format_has_no_place_for_metadata_is_said(file_format: str) -> None:
    sizes = f"EXIF ({len(exif()) - 6} bytes), colour profile ({len(PROFILE)} bytes), XMP ({len(XMP)} bytes)"
    assert kept(picture(**everything()), file_format).remark == f"left out of the {file_format} file: {sizes}"


@pytest.mark.parametrize("file_format", ["JPEG", "MPO"])
def test_exif_that_is_too_long_is_left_out_and_all_else_kept(file_format: str) -> None:
    long = exif(70_000)
    file = kept(picture(**{**everything(), "exif": long}), file_format)
    assert file.remark == f"left out of the {file_format} file: EXIF ({len(long) - 6:,} bytes)"
    assert found(file).keys() == {"icc_profile", "xmp", "dpi"}
    opened(file).load()


def test_all_that_is_too_long_is_left_out() -> None:
    file = kept(picture(exif=exif(70_000), xmp=bytes(70_000), icc_profile=PROFILE), "JPEG")
    assert file.remark == f"left out of the JPEG file: EXIF ({len(exif(70_000)) - 6:,} bytes), XMP (70,000 bytes)"
    assert found(file) == {"icc_profile": PROFILE}


def test_a_profile_with_which_pillow_could_not_read_the_file_is_left_out() -> None:
    file = kept(picture(icc_profile=bytes(2_000_000)), "PNG")
    assert file.remark == "left out of the PNG file: colour profile (2,000,000 bytes)"
    assert opened(file).size == (24, 16)


@pytest.mark.parametrize("file_format", ["TIFF", *HOLDING_ALL_BUT_DPI[1:]])
def test_damaged_exif_that_a_plugin_refuses_is_left_out(file_format: str) -> None:
    file = kept(picture(exif=b"Exif\0\0MM", xmp=XMP), file_format)
    assert file.remark == f"left out of the {file_format} file: EXIF (2 bytes)"
    assert found(file) == {"xmp": XMP}


def test_a_resolution_beyond_what_a_format_can_say_is_left_out_and_that_is_said() -> None:
    file = kept(picture(dpi=(100_000, 100_000)), "JPEG")
    assert file.remark == "left out of the JPEG file: resolution"
    assert found(file) == {}


@pytest.mark.parametrize(
    ("mode", "file_format", "stored"),
    [("RGBA", "JPEG", "RGB"), ("LA", "JPEG", "L"), ("RGBA", "PPM", "RGB"), ("LA", "PPM", "L"), ("LA", "BMP", "L")],
)
def test_alpha_that_hides_nothing_is_left_out_and_that_is_said(mode: str, file_format: str, stored: str) -> None:
    file = kept(picture(mode), file_format)
    assert file.remark == f"left out of the {file_format} file: alpha that hides nothing"
    assert opened(file).mode == stored


@pytest.mark.parametrize("file_format", ["JPEG", "BMP", "EPS", "PCX", "PPM"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("alpha", [(0, 255), (128, 255)], ids=["none", "some"])
def test_alpha_that_hides_something_is_refused_where_it_would_be_lost(
    mode: str, file_format: str, alpha: tuple[int, ...]
) -> None:
    message = rf"^{file_format} cannot hold a picture of mode {mode} and 24×16 pixels: .*; PNG can$"
    with pytest.raises(OSError, match=message):
        kept(picture(mode, alpha, **everything()), file_format)


def test_a_gif_keeps_alpha_that_is_all_or_nothing_and_no_other() -> None:
    transparent = opened(kept(picture("RGBA", (0, 255)), "GIF")).convert("RGBA").getchannel("A")
    assert transparent.tobytes() == picture("RGBA", (0, 255)).getchannel("A").tobytes()
    with pytest.raises(OSError, match=r"^GIF cannot hold a picture of mode RGBA"):
        kept(picture("RGBA", (0, 100, 255)), "GIF")


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "TGA", "ICO"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_where_the_format_has_it(mode: str, file_format: str) -> None:
    original = picture(mode, (0, 100, 255))
    file = kept(original, file_format)
    assert file.remark is None
    assert opened(file).convert("RGBA").tobytes() == original.convert("RGBA").tobytes()


@pytest.mark.parametrize(("mode", "file_format"), [("L", "QOI"), ("LA", "QOI"), ("LA", "SGI")])
def test_grey_is_written_as_colour_where_the_format_has_no_grey(mode: str, file_format: str) -> None:
    if file_format not in Image.SAVE:
        pytest.skip("this Pillow does not write the format")
    original = picture(mode, (0, 100, 255))
    assert opened(kept(original, file_format)).convert("RGBA").tobytes() == original.convert("RGBA").tobytes()


def test_colours_are_refused_where_they_would_be_lost() -> None:
    with pytest.raises(OSError, match=r"^SPIDER cannot hold a picture of mode RGB .*the file would have no colours"):
        kept(picture(), "SPIDER")
    assert opened(kept(picture("L"), "SPIDER")).convert("L").tobytes() == picture("L").tobytes()


@pytest.mark.parametrize(
    ("size", "file_format", "limit"),
    [
        ((16_384, 1), "WEBP", "it takes 16,383×16,383 pixels at most"),
        ((1, 65_501), "JPEG", "it takes 65,500×65,500 pixels at most"),
        ((65_535, 1), "MPO", "it takes 65,500×65,500 pixels at most"),
        ((257, 3), "ICO", "it takes 256×256 pixels at most"),
        ((40, 30), "ICNS", "the file would have 1,024×1,024 pixels"),
    ],
)
def test_a_picture_that_is_too_large_is_refused(size: tuple[int, int], file_format: str, limit: str) -> None:
    what = f"{file_format} cannot hold a picture of mode RGB and {size[0]:,}×{size[1]:,} pixels"
    with pytest.raises(OSError, match=rf"^{what}: {limit}; PNG can$"):
        kept(picture(size=size, **everything()), file_format)


@pytest.mark.parametrize(("size", "file_format"), [((16_383, 1), "WEBP"), ((1, 65_500), "JPEG"), ((65_535, 1), "PNG")])
def test_the_largest_pictures_are_written(size: tuple[int, int], file_format: str) -> None:
    assert opened(kept(picture(size=size), file_format)).size == size


@pytest.mark.parametrize("size", [(1, 1), (40, 30), (256, 200)])
def test_an_icon_holds_the_picture_as_it_is(size: tuple[int, int]) -> None:
    original = picture(size=size)
    image = opened(kept(original, "ICO"))
    assert image.size == size
    assert image.convert("RGB").tobytes() == original.tobytes()


@pytest.mark.parametrize("file_format", ["TIFF", "JPEG", "PNG"])
def test_an_orientation_turns_no_pixel(file_format: str) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    file = kept(picture(exif=tags.tobytes()), file_format)
    assert file.remark is None
    assert sorted(opened(file).size) == [16, 24]


def test_what_a_plugin_writes_but_pillow_cannot_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Image.SAVE, "PNG", lambda image, file, name: file.write(b"no picture"))
    with pytest.raises(OSError, match="Pillow could not read the file"):
        kept(picture(), "PNG")


def test_that_memory_is_short_is_no_fault_of_the_format(monkeypatch: pytest.MonkeyPatch) -> None:
    def save(*arguments: Any) -> None:
        raise MemoryError

    monkeypatch.setitem(Image.SAVE, "PNG", save)
    with pytest.raises(MemoryError):
        kept(picture(**everything()), "PNG")


def test_the_picture_itself_is_not_changed() -> None:
    image = picture("RGBA", **everything())
    before = image.tobytes()
    kept(image, "JPEG")
    picture_file(image, "PNG", keep_metadata=False)
    assert (image.mode, image.tobytes(), image.info) == ("RGBA", before, everything())
