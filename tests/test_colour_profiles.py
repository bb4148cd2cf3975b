"""Which colour profiles are left out of files, for they say no more than a file without one does."""

import io
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageCms, features
from typer.testing import CliRunner

import pillow_sdc
from pillow_sdc import colour_profiles
from pillow_sdc.cli import app

Primaries = tuple[tuple[float, float, float], ...]

SRGB = (0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410)
DISPLAY_P3 = (0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407)
ADOBE_RGB = (0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)
"""XYZ of red, green and blue, adapted to D50."""


def srgb_curve(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def rec_709_curve(value: float) -> float:
    return value / 4.5 if value < 0.081 else ((value + 0.099) / 1.099) ** (1 / 0.45)


def table(curve: Callable[[float], float], entries: int = 1024) -> bytes:
    values = (round(65535 * curve(i / (entries - 1))) for i in range(entries))
    return b"curv" + bytes(4) + struct.pack(f">I{entries}H", entries, *values)


def gamma(exponent: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(256 * exponent))


LINEAR = b"curv" + bytes(8)
BLACK_LUT = (
    b"mft2"
    + bytes(4)
    + struct.pack(">BBBB9i", 3, 3, 2, 0, *(65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    + struct.pack(">2H", 2, 2)
    + 3 * struct.pack(">2H", 0, 65535)
    + bytes(2 * 3 * 2**3)
    + 3 * struct.pack(">2H", 0, 65535)
)
"""A table from colours to XYZ that makes everything black."""


def xyz(values: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * value) for value in values))


def profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile of version 2 that calls itself sRGB, whatever it is."""
    name = b"sRGB IEC61966-2.1\0"
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78), **tags}
    entries, data, position = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        entries += tag + struct.pack(">II", position + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    size = position + len(data)
    d50 = struct.pack(">3i", 63190, 65536, 54061)
    head = struct.pack(">I4sI4s4s4s12s4s28s", size, b"", 0x02400000, b"mntr", space, b"XYZ ", b"", b"acsp", b"")
    return head + d50 + bytes(48) + struct.pack(">I", len(tags)) + entries + data


def rgb(primaries: Primaries, curve: bytes, **more: bytes) -> bytes:
    colours = {b"rgb"[i : i + 1] + b"XYZ": xyz(primaries[i]) for i in range(3)}
    curves = {b"rgb"[i : i + 1] + b"TRC": curve for i in range(3)}
    extra = {name.encode(): data for name, data in more.items()}
    return profile(b"RGB ", {b"wtpt": xyz((0.9642, 1, 0.8249)), **colours, **curves, **extra})


def grey(curve: bytes) -> bytes:
    return profile(b"GRAY", {b"wtpt": xyz((0.9642, 1, 0.8249)), b"kTRC": curve})


def of_littlecms() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


SRGB_TABLE = rgb(SRGB, table(srgb_curve))

DESCRIBE_SRGB = {
    "littlecms": of_littlecms(),
    "table": SRGB_TABLE,
    "coarse-table": rgb(SRGB, table(srgb_curve, 26)),
    "grey": grey(table(srgb_curve)),
}
DO_NOT = {
    "display-p3": rgb(DISPLAY_P3, table(srgb_curve)),
    "adobe-rgb": rgb(ADOBE_RGB, gamma(2.2)),
    "linear": rgb(SRGB, LINEAR),
    "gamma-2.2": rgb(SRGB, gamma(2.2)),
    "rec-709": rgb(SRGB, table(rec_709_curve)),
    "red-and-blue-swapped": rgb(SRGB[::-1], table(srgb_curve)),
    "black-lut": rgb(SRGB, table(srgb_curve), A2B0=BLACK_LUT),
    "grey-gamma-2.2": grey(gamma(2.2)),
    "grey-linear": grey(LINEAR),
    "cmyk": SRGB_TABLE[:16] + b"CMYK" + SRGB_TABLE[20:],
    "truncated": SRGB_TABLE[:300],
    "no-profile": b"profile",
    "header-alone": SRGB_TABLE[:128],
    "large": SRGB_TABLE + bytes(1 << 18),
}


@pytest.fixture(autouse=True)
def small_model(tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", str(tiny_pipeline))
    monkeypatch.setenv("PILLOW_SDC_DEVICE", "cpu")
    monkeypatch.setenv("PILLOW_SDC_DENOISE_STEPS", "0")


def picture(mode: str = "RGB", own: bytes | None = None) -> Image.Image:
    image = Image.linear_gradient("L").resize((40, 24)).convert(mode)
    if own is not None:
        image.info["icc_profile"] = own
    return image


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "SDC", **options)
    return buffer.getvalue()


def stored(file: bytes) -> bytes | None:
    with Image.open(io.BytesIO(file)) as image:
        return image.info.get("icc_profile")


@pytest.mark.parametrize("name", DESCRIBE_SRGB)
def test_profiles_that_do_as_srgb_does_describe_it(name: str) -> None:
    assert colour_profiles.describes_srgb(DESCRIBE_SRGB[name])


@pytest.mark.parametrize("name", DO_NOT)
def test_profiles_of_other_colours_and_damaged_ones_do_not(name: str) -> None:
    assert not colour_profiles.describes_srgb(DO_NOT[name])


def test_the_profile_that_most_pictures_carry_describes_srgb() -> None:
    skimage = pytest.importorskip("skimage")
    with Image.open(Path(skimage.__file__).parent / "data" / "astronaut.png") as image:
        own = image.info["icc_profile"]
        assert len(own) == 3144
        assert colour_profiles.describes_srgb(own)
        small = image.convert("RGB").resize((40, 24))
    assert small.info["icc_profile"] == own
    assert saved(small) == saved(small, icc_profile=None)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA"])
def test_a_picture_in_srgb_takes_no_byte_for_its_profile(mode: str) -> None:
    assert saved(picture(mode, SRGB_TABLE)) == saved(picture(mode))


def test_a_grey_profile_with_the_curve_of_srgb_is_left_out_too() -> None:
    assert saved(picture("L", DESCRIBE_SRGB["grey"])) == saved(picture("L"))
    assert stored(saved(picture("L", DO_NOT["grey-gamma-2.2"]))) == DO_NOT["grey-gamma-2.2"]


@pytest.mark.parametrize("name", DO_NOT)
def test_other_profiles_come_back_as_they_are(name: str) -> None:
    assert stored(saved(picture(own=DO_NOT[name]))) == DO_NOT[name]


def test_a_profile_from_elsewhere_is_stored_whatever_it_describes() -> None:
    assert stored(saved(picture(), icc_profile=SRGB_TABLE)) == SRGB_TABLE
    assert stored(saved(picture(own=DO_NOT["display-p3"]), icc_profile=SRGB_TABLE)) == SRGB_TABLE


def test_the_pictures_own_profile_is_left_out_also_where_it_is_passed_on() -> None:
    image = picture(own=SRGB_TABLE)
    for given in (SRGB_TABLE, bytearray(SRGB_TABLE), memoryview(SRGB_TABLE)):
        assert saved(image, icc_profile=given) == saved(image, icc_profile=None)
    assert image.info["icc_profile"] == SRGB_TABLE


def test_many_pictures_are_saved_as_one_is() -> None:
    image = picture(own=SRGB_TABLE)
    assert pillow_sdc.encode_batch([image, image]) == [saved(image)] * 2


def test_the_command_line_leaves_it_out(tmp_path: Path) -> None:
    picture().save(tmp_path / "a.png", icc_profile=SRGB_TABLE)
    picture().save(tmp_path / "b.png", icc_profile=DO_NOT["display-p3"])
    assert CliRunner().invoke(app, ["encode", str(tmp_path / "a.png"), str(tmp_path / "b.png")]).exit_code == 0
    assert stored((tmp_path / "a.sdc").read_bytes()) is None
    assert stored((tmp_path / "b.sdc").read_bytes()) == DO_NOT["display-p3"]


def test_where_pillow_lacks_littlecms_every_profile_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda feature: feature != "littlecms2")
    assert stored(saved(picture(own=SRGB_TABLE))) == SRGB_TABLE


def test_a_profile_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    build = ImageCms.buildTransform
    monkeypatch.setattr(ImageCms, "buildTransform", lambda *args: built.append(args) or build(*args))
    own = rgb(SRGB, table(srgb_curve, 333))
    for _ in range(3):
        saved(picture(own=bytes(bytearray(own))))
    assert len(built) == 2


def test_littlecms_is_imported_only_where_a_picture_has_a_profile() -> None:
    script = """
import io, sys
import pillow_sdc
from PIL import Image
file = io.BytesIO()
Image.new("L", (8, 8)).save(file, "SDC")
Image.open(file).load()
assert not {"PIL.ImageCms", "pillow_sdc.colour_profiles"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
