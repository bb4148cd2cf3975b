"""``sdc encode`` and ``sdc decode``, called in this process with the embedded model."""

import io
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from locations import GOLDEN
from PIL import Image, PngImagePlugin, TiffImagePlugin
from sdc_command import names, sdc

import pillow_sdc
from pillow_sdc import api
from pillow_sdc.cli import arguments
from pillow_sdc.options import DTYPES
from pillow_sdc.pipeline.encoding import EncodedFile

XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


@pytest.fixture(autouse=True)
def embedded_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")


def picture(width: int = 48, height: int = 40, mode: str = "RGB") -> Image.Image:
    samples = random.Random(width + height).randbytes(6 * 5 * 3)
    return Image.frombytes("RGB", (6, 5), samples).resize((width, height), Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    picture().save(path)
    return path


def test_encoding_writes_beside_the_source(photo: Path) -> None:
    result = sdc("encode", photo)
    assert result.exit_code == 0
    assert names(photo.parent) == ["photo.png", "photo.sdc"]
    with Image.open(photo.with_suffix(".sdc")) as image:
        assert (image.format, image.size, image.info["sdc"]["codec"]) == ("SDC", (48, 40), "palette")


def test_decoding_writes_a_png_beside_the_source(photo: Path) -> None:
    sdc("encode", photo, "-o", photo.with_name("other.sdc"))
    result = sdc("decode", photo.with_name("other.sdc"))
    assert result.exit_code == 0
    with Image.open(photo.with_name("other.png")) as image:
        assert (image.format, image.size, image.mode) == ("PNG", (48, 40), "RGB")


def test_the_targets_suffix_says_the_format(photo: Path) -> None:
    sdc("encode", photo)
    assert sdc("decode", photo.with_suffix(".sdc"), "-o", photo.with_suffix(".webp")).exit_code == 0
    with Image.open(photo.with_suffix(".webp")) as image:
        assert image.format == "WEBP"


def test_the_summary_counts_files_and_bytes(photo: Path) -> None:
    result = sdc("encode", photo)
    before, after = photo.stat().st_size, photo.with_suffix(".sdc").stat().st_size
    assert result.stdout == ""
    assert result.stderr.startswith(f"{photo.with_suffix('.sdc')}: {before:,} bytes in, {after:,} bytes out (")
    assert len(result.stderr.splitlines()) == 1


def test_the_summary_names_what_was_written(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "deep" / "other.png"
    other.parent.mkdir()
    picture(16, 16).save(other)

    def said(*arguments: str | os.PathLike[str]) -> str:
        return sdc(*arguments).stderr.splitlines()[-1].partition(" bytes in")[0].rpartition(": ")[0]

    assert said("encode", photo, "-o", tmp_path / "new.sdc") == f"{tmp_path / 'new.sdc'}"
    assert said("encode", photo, "-o", "-") == "standard output"
    assert said("encode", photo, other) == f"2 files in {tmp_path}{os.sep}"
    assert said("encode", photo, other, "-o", f"{tmp_path / 'out'}/") == f"2 files in {tmp_path / 'out'}{os.sep}"
    assert said("encode", photo, tmp_path / "gone.png", "-f") == f"{photo.with_suffix('.sdc')}, 1 failed"
    assert said("encode", photo) == "0 files, 1 failed"  # for it is there
    monkeypatch.chdir(tmp_path)
    assert said("encode", "photo.png", "deep/other.png", "-f") == f"2 files in .{os.sep}"
    assert said("encode", "photo.png", other, "-f") == "2 files"  # relative and absolute: no folder is common


def test_the_summary_gives_no_share_of_more_than_all(photo: Path) -> None:
    assert "%" in sdc("encode", photo).stderr
    decoded = sdc("decode", photo.with_suffix(".sdc"), "-o", photo.with_suffix(".bmp")).stderr
    assert "bytes out, " in decoded
    assert "%" not in decoded


@pytest.mark.parametrize(
    ("command", "option", "values", "allowed"),
    [
        ("encode", "--quality", ["75.5", "0", "101", "high", ""], "a whole number from 1 to 100"),
        ("batch", "--quality", ["75.5"], "a whole number from 1 to 100"),
        ("compare", "--quality", ["75.5"], "a whole number from 1 to 100"),
        ("encode", "--palette-size", ["1", "257", "2.5"], "a whole number from 2 to 256"),
        ("encode", "--dither", ["-1", "1.5", "nan", "much"], "a number from 0 to 1"),
        ("decode", "--denoise-steps", ["-1", "1001", "2.5"], "a whole number from 0 to 1000"),
        ("batch", "--workers", ["0", "1.5"], "a whole number of 1 or more"),
        ("batch", "--shard-size", ["0", "many"], "a whole number of 1 or more"),
        ("batch", "--gpus-per-worker", ["-1", "inf", "half"], "a number of 0 or more"),
    ],
)
def test_a_number_outside_its_range_is_refused_with_what_is_allowed(
    command: str, option: str, values: list[str], allowed: str
) -> None:
    for value in values:
        result = sdc(command, "a", "b", f"{option}={value}")
        assert result.exit_code == 2
        message = " ".join(result.stderr.replace("│", " ").split())
        assert f"Invalid value for '{option}': {value!r} is not {allowed}" in message


def test_numbers_within_their_ranges_are_taken(photo: Path) -> None:
    for options in (
        ["--quality", "1"],
        ["--quality=100"],
        ["--palette-size", "2", "--dither", "0"],
        ["--dither", "1.0"],
    ):
        assert sdc("encode", photo, "-f", *options).exit_code == 0


def test_settings_choose_the_codec_where_no_option_does(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(*options: str) -> str:
        assert sdc("encode", photo, "-f", *options).exit_code == 0
        return pillow_sdc.info(photo.with_suffix(".sdc")).codec

    assert codec() == "palette"
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "20")
    assert codec() == "context"
    size = photo.with_suffix(".sdc").stat().st_size
    assert codec("--quality", "20") == "context"
    assert photo.with_suffix(".sdc").stat().st_size == size
    assert codec("--dither", "0.5") == "palette"
    assert codec("--codec", "uint8") == "uint8"


@pytest.mark.parametrize("command", ["encode", "decode"])
@pytest.mark.parametrize(("name", "value"), [("QUALITY", "75.5"), ("CODEC", "jpeg"), ("DENOISE_STEPS", "few")])
def test_a_variable_outside_its_range_is_named_in_one_line(
    photo: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str, value: str
) -> None:
    monkeypatch.setenv(f"PILLOW_SDC_{name}", value)
    result = sdc(command, photo)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sdc: PILLOW_SDC_{name} is '{value}'; it must be ")
    assert len(result.stderr.splitlines()) == 1


def test_quiet_prints_errors_alone(photo: Path) -> None:
    assert sdc("encode", "--quiet", photo).output == ""
    assert (
        sdc("encode", "--quiet", photo).stderr
        == f"sdc: {photo}: {photo.with_suffix('.sdc')} exists already; --force overwrites it\n"
    )


@pytest.mark.parametrize(
    ("options", "codec"),
    [
        (["--quality", "10"], "context"),
        (["--target-size", "1k"], "context"),
        (["--codec", "uint8"], "uint8"),
        (["--codec", "context"], "context"),
        (["--palette-size", "16", "--dither", "0.5"], "palette"),
    ],
)
def test_options_choose_the_codec(photo: Path, options: list[str], codec: str) -> None:
    assert sdc("encode", photo, *options).exit_code == 0
    assert pillow_sdc.info(photo.with_suffix(".sdc")).codec == codec


def test_options_reach_the_codec(photo: Path) -> None:
    sdc("encode", photo, "--quality", "90", "-o", photo.with_name("fine.sdc"))
    sdc("encode", photo, "--quality", "1", "-o", photo.with_name("coarse.sdc"))
    sdc("encode", photo, "--target-size", "75", "-o", photo.with_name("fits.sdc"))
    fine, coarse, fits = (photo.with_name(f"{name}.sdc").stat().st_size for name in ("fine", "coarse", "fits"))
    assert coarse < fits <= 75 < fine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--quality", "40", "--codec", "palette"], "--quality is an option of the codec context, not of palette"),
        (["--dither", "1", "--quality", "40"], "--quality is an option of the codec context, not of palette"),
        (["--quality", "40", "--target-size", "2k"], "--quality and --target-size exclude each other"),
        (["-o", "small.png"], "small.png does not end in .sdc"),
    ],
)
def test_options_that_exclude_each_other_are_refused_before_anything_is_done(
    photo: Path, options: list[str], message: str
) -> None:
    result = sdc("encode", photo, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert names(photo.parent) == ["photo.png"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("2000", 2000),
        ("2k", 2000),
        ("5kB", 5000),
        ("1.5K", 1500),
        ("2KiB", 2048),
        ("1MB", 1000000),
        ("7b", 7),
        (" 3 kb", 3000),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert arguments.bytes_of(text) == number


@pytest.mark.parametrize("text", ["", "k", "-1", "0", "2x", "two", "1e3", "0.1"])
def test_what_is_no_size_is_refused(photo: Path, text: str) -> None:
    assert sdc("encode", photo, f"--target-size={text}").exit_code == 2


def test_choices_are_those_of_the_package() -> None:
    assert [dtype.value for dtype in arguments.Dtype] == list(DTYPES)


def test_a_folder_keeps_its_sub_folders(tmp_path: Path) -> None:
    for name in ("a.png", "deep/er/b.jpg", "deep/c.gif"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(16, 16).save(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    assert sdc("encode", tmp_path / "in", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.sdc", "deep/c.sdc", "deep/er/b.sdc"]
    assert sdc("decode", tmp_path / "out", "-o", tmp_path / "back", "--format", ".BMP").exit_code == 0
    assert names(tmp_path / "back") == ["a.bmp", "deep/c.bmp", "deep/er/b.bmp"]


def test_a_quoted_pattern_keeps_what_lies_below_its_fixed_part(tmp_path: Path) -> None:
    for name in ("a.png", "deep/b.png", "deep/c.bmp"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(16, 16).save(tmp_path / "in" / name)
    assert sdc("encode", tmp_path / "in" / "**" / "*.png", "-o", tmp_path / "out").exit_code == 0
    assert names(tmp_path / "out") == ["a.sdc", "deep/b.sdc"]


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    picture(16, 16).save(tmp_path / "a[1].png")
    assert sdc("encode", tmp_path / "a[1].png").exit_code == 0
    assert (tmp_path / "a[1].sdc").exists()


def test_a_file_named_twice_is_done_once(photo: Path) -> None:
    result = sdc("encode", photo, photo, photo.parent)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"{photo.with_suffix('.sdc')}: ")


def test_a_folder_to_be_made_is_named_with_a_slash(photo: Path) -> None:
    assert sdc("encode", photo, "-o", f"{photo.parent / 'new'}/").exit_code == 0
    assert names(photo.parent) == ["new/photo.sdc", "photo.png"]


def test_two_sources_with_one_target_are_refused_before_anything_is_done(photo: Path) -> None:
    picture().save(photo.with_suffix(".jpg"))
    other = photo.with_name("another.png")
    picture().save(other)
    result = sdc("encode", other, photo, photo.with_suffix(".jpg"))
    assert result.exit_code == 2
    assert f"would both become {photo.with_suffix('.sdc')}" in result.stderr
    assert names(photo.parent) == ["another.png", "photo.jpg", "photo.png"]


def test_several_sources_need_a_folder(photo: Path, tmp_path: Path) -> None:
    picture().save(photo.with_name("b.png"))
    photo.with_name("there.sdc").write_bytes(b"something")
    result = sdc("encode", photo, photo.with_name("b.png"), "-o", photo.with_name("there.sdc"))
    assert result.exit_code == 2
    assert photo.with_name("there.sdc").read_bytes() == b"something"


def test_nothing_is_overwritten_without_force(photo: Path) -> None:
    target = photo.with_suffix(".sdc")
    target.write_bytes(b"precious")
    result = sdc("encode", photo)
    assert result.exit_code == 1
    assert f"sdc: {photo}: {target} exists already; --force overwrites it" in result.stderr
    assert target.read_bytes() == b"precious"


def test_what_appears_while_a_picture_is_encoded_is_not_overwritten(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, encode_file = photo.with_suffix(".sdc"), api.encode_file

    def encode_beside_another(*arguments: Any, **options: Any) -> EncodedFile:
        target.write_bytes(b"precious")
        return encode_file(*arguments, **options)

    monkeypatch.setattr(api, "encode_file", encode_beside_another)
    result = sdc("encode", photo, "-q")
    assert (result.exit_code, result.stderr) == (1, f"sdc: {photo}: {target} exists already; --force overwrites it\n")
    assert target.read_bytes() == b"precious"
    assert names(photo.parent) == ["photo.png", "photo.sdc"]


def test_what_is_there_is_refused_before_work_is_done_for_nothing(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo.with_suffix(".sdc").write_bytes(b"precious")
    monkeypatch.setattr(api, "encode_file", None)
    assert "exists already" in sdc("encode", photo).stderr


def test_force_overwrites_and_keeps_permissions(photo: Path) -> None:
    target = photo.with_suffix(".sdc")
    target.write_bytes(b"old")
    target.chmod(0o640)
    assert sdc("encode", photo, "--force").exit_code == 0
    assert pillow_sdc.info(target).width == 48
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_link_stays_and_what_it_points_to_is_overwritten(photo: Path) -> None:
    real = photo.with_name("real.sdc")
    real.write_bytes(b"old")
    link = photo.with_name("link.sdc")
    link.symlink_to(real)
    assert sdc("encode", photo, "-o", link, "--force").exit_code == 0
    assert link.is_symlink()
    assert pillow_sdc.info(real).width == 48


def test_what_is_no_regular_file_is_never_replaced(photo: Path) -> None:
    pipe = photo.with_name("pipe.sdc")
    os.mkfifo(pipe)
    result = sdc("encode", photo, "-o", pipe, "--force")
    assert result.exit_code == 1
    assert "is no regular file" in result.stderr
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_new_files_have_the_permissions_that_the_user_wants(photo: Path) -> None:
    before = os.umask(0o027)
    try:
        sdc("encode", photo)
    finally:
        os.umask(before)
    assert stat.S_IMODE(photo.with_suffix(".sdc").stat().st_mode) == 0o640


def test_a_file_that_fails_does_not_stop_the_others(photo: Path) -> None:
    text = photo.with_name("broken.png")
    text.write_bytes(b"no picture at all")
    missing = photo.with_name("missing.png")
    result = sdc("encode", text, missing, photo)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[:2] == [
        f"sdc: {text}: not a picture that Pillow can read",
        f"sdc: {missing}: No such file or directory",
    ]
    assert result.stderr.splitlines()[2].startswith(f"{photo.with_suffix('.sdc')}, 2 failed: ")
    assert names(photo.parent) == ["broken.png", "photo.png", "photo.sdc"]


def test_a_damaged_file_is_told_in_one_line(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sdc"
    data = bytearray((GOLDEN / "palette-rgb-200x150.sdc").read_bytes())
    data[-20] ^= 1
    damaged.write_bytes(data)
    result = sdc("decode", damaged, "-q")
    assert result.exit_code == 1
    assert result.stderr == f"sdc: {damaged}: checksum of chunk 'P' does not match: the file is damaged\n"
    assert names(tmp_path) == ["damaged.sdc"]


def test_a_file_of_another_format_is_not_decoded(photo: Path) -> None:
    result = sdc("decode", photo, "-o", photo.with_name("new.png"), "-q")
    assert result.stderr == f"sdc: {photo}: not an SDC file, but a PNG\n"


def test_debug_prints_the_traceback_as_well(photo: Path) -> None:
    result = sdc("decode", photo, "-o", photo.with_name("new.png"), "--debug")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "NotSdcError" in result.stderr


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = sdc("encode", tmp_path / "empty", "-q")
    assert result.exit_code == 1
    assert result.stderr == f"sdc: {tmp_path / 'empty'}: there is nothing of the kind in this folder\n"


def test_a_target_that_cannot_be_written_is_named(photo: Path) -> None:
    target = photo / "below-a-file" / "a.sdc"
    result = sdc("encode", photo, "-o", target, "-q")
    assert result.exit_code == 1
    assert result.stderr == f"sdc: {photo}: cannot write {target}: Not a directory\n"


def test_a_model_that_is_not_there_is_told_once_for_all_files(photo: Path, tmp_path: Path) -> None:
    picture(16, 16).save(tmp_path / "other.png")
    result = sdc("encode", tmp_path, "--model", tmp_path / "nothing", "-q")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"sdc: model '{tmp_path / 'nothing'}' is not available: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "options", [(), ("--quality", "30"), ("--target-size", "110"), ("--codec", "uint8"), ("--strip",)]
)
def test_sdc_files_are_encoded_without_a_model(photo: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    source, target = tmp_path / "a.sdc", tmp_path / "b.sdc"
    with Image.open(photo) as image:
        image.save(source, quality=80, xmp=XMP)
    (tmp_path / "no-model").mkdir()
    result = sdc("encode", source, "-o", target, "--model", tmp_path / "no-model", *options)
    assert result.exit_code == 0, result.stderr
    assert (target.read_bytes() == source.read_bytes()) is (not options)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.size == before.size
        assert after.info.get("xmp") == (None if options == ("--strip",) else XMP)
    assert sdc("encode", "-", stdin=source.read_bytes()).stdout_bytes == source.read_bytes()


def test_a_damaged_sdc_file_is_not_encoded(tmp_path: Path) -> None:
    source = tmp_path / "a.sdc"
    source.write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes()[:-5])
    result = sdc("encode", source, "-o", tmp_path / "b.sdc")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"sdc: {source}: the file ends 5 bytes too early\n")
    assert names(tmp_path) == ["a.sdc"]


def test_the_named_model_encodes_and_decodes(photo: Path, tiny_pipeline: Path) -> None:
    assert sdc("encode", photo, "--model", tiny_pipeline).exit_code == 0
    options = ["--model", tiny_pipeline, "--device", "cpu", "--dtype", "float32", "--denoise-steps", "1"]
    target = photo.with_name("decoded.png")
    assert sdc("decode", photo.with_suffix(".sdc"), "-o", target, *options).exit_code == 0
    with pillow_sdc.configure(model=tiny_pipeline, denoise_steps=1):
        assert Image.open(target).tobytes() == pillow_sdc.decode(photo.with_suffix(".sdc")).tobytes()


@pytest.mark.parametrize("name", ["frobnicate", "sdc", "psd"])
def test_formats_that_pillow_does_not_write_are_refused(photo: Path, name: str) -> None:
    result = sdc("decode", photo, "--format", name)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"sdc: '{name}' is no format that Pillow writes")


def test_standard_input_and_output_are_named_by_a_hyphen(photo: Path) -> None:
    encoded = sdc("encode", "-", "-q", stdin=photo.read_bytes())
    assert encoded.exit_code == 0
    assert pillow_sdc.info(encoded.stdout_bytes).width == 48
    decoded = sdc("decode", "-", "-q", "--format", "webp", stdin=encoded.stdout_bytes)
    assert Image.open(io.BytesIO(decoded.stdout_bytes)).format == "WEBP"


def test_standard_input_goes_to_a_named_file(photo: Path) -> None:
    target = photo.with_name("from-input.sdc")
    assert sdc("encode", "-", "-o", target, stdin=photo.read_bytes()).exit_code == 0
    assert pillow_sdc.info(target).width == 48


@pytest.mark.parametrize("arguments", [["-", "photo.png"], ["-", "-o", "."], ["photo.png", "photo.jpg", "-o", "-"]])
def test_standard_streams_take_one_picture_and_have_no_name(arguments: list[str]) -> None:
    assert sdc("encode", *arguments, stdin=b"").exit_code == 2


def with_metadata() -> dict[str, object]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    return {"exif": exif.tobytes(), "icc_profile": b"profile", "dpi": (300, 300)}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tiff", ".webp"])
def test_metadata_survive_both_ways_and_the_orientation_turns_nothing(tmp_path: Path, suffix: str) -> None:
    options = with_metadata()
    if suffix == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())  # type: ignore[attr-defined]
    elif suffix == ".tiff":
        exif = Image.Exif()
        exif.load(options.pop("exif"))  # type: ignore[arg-type]
        exif[700] = XMP
        options["exif"] = exif
    else:
        options["xmp"] = XMP
    source = tmp_path / f"photo{suffix}"
    picture(48, 40).save(source, **options)  # type: ignore[arg-type]
    encoded, decoded = source.with_suffix(".sdc"), tmp_path / f"decoded{suffix}"
    assert sdc("encode", source).exit_code == 0
    assert sdc("decode", encoded, "-o", decoded).exit_code == 0
    with Image.open(source) as image:
        image.load()
        size, orientation = image.size, image.getexif().get(0x0112)  # Pillow turns TIFF files itself
    for path in (encoded, decoded):
        with Image.open(path) as image:
            image.load()
            assert image.size == size
            assert image.getexif().get(0x0112) == orientation
            assert image.getexif()[0x010E] == "a description"
            assert image.info["icc_profile"] == b"profile"
            assert image.info["xmp"] == XMP
            if suffix != ".webp":  # which has no place for it
                assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_tags_that_lay_out_a_tiff_are_no_metadata(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.tiff")
    sdc("encode", tmp_path / "photo.tiff")
    assert [letter for letter, _ in pillow_sdc.info(tmp_path / "photo.sdc").chunks] == ["P"]
    exif = Image.Exif()
    exif[0x010E] = "a description"
    picture().save(tmp_path / "described.tiff", exif=exif)
    sdc("encode", tmp_path / "described.tiff")
    with Image.open(tmp_path / "described.sdc") as image:
        kept = set(image.getexif())
    assert 0x010E in kept
    assert not kept & {TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.IMAGEWIDTH, TiffImagePlugin.COMPRESSION}


def test_strip_drops_all_metadata_but_no_transparency(tmp_path: Path) -> None:
    source = tmp_path / "photo.png"
    picture(mode="P").save(source, transparency=0, **with_metadata())  # type: ignore[arg-type]
    assert sdc("encode", source, "--strip").exit_code == 0
    with Image.open(source.with_suffix(".sdc")) as image:
        assert set(image.info) == {"sdc"}
        assert image.mode == "RGBA"


def test_strip_drops_metadata_when_decoding(tmp_path: Path) -> None:
    picture().save(tmp_path / "photo.sdc", **with_metadata())  # type: ignore[arg-type]
    assert sdc("decode", tmp_path / "photo.sdc", "--strip").exit_code == 0
    with Image.open(tmp_path / "photo.png") as image:
        assert image.info == {}


@pytest.mark.parametrize("dpi", [(0, 0), (72, 0), (1, 1)])
def test_a_resolution_that_is_none_is_dropped(tmp_path: Path, dpi: tuple[int, int]) -> None:
    picture().save(tmp_path / "photo.png", dpi=dpi)
    assert sdc("encode", tmp_path / "photo.png").exit_code == 0
    with Image.open(tmp_path / "photo.sdc") as image:
        assert "dpi" not in image.info


def test_of_several_frames_the_first_is_taken_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "moving.gif"
    picture().save(path, save_all=True, append_images=[picture(mode="L")])
    result = sdc("encode", path)
    assert result.exit_code == 0
    assert f"sdc: {path}: has several frames, of which the first is taken" in result.stderr


def test_strip_drops_exif_and_where_the_photograph_was_taken(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = "where it was"
    exif[0x8825] = {1: "N", 2: (51.0, 28.0, 38.0)}
    buffer = io.BytesIO()
    picture().save(buffer, "JPEG", exif=exif)
    jpeg = buffer.getvalue()
    (tmp_path / "photo.jpg").write_bytes(jpeg[:2] + jpeg[4 + int.from_bytes(jpeg[4:6]) :])  # as cameras write it
    assert sdc("encode", tmp_path / "photo.jpg", "--strip").exit_code == 0
    assert [letter for letter, _ in pillow_sdc.info(tmp_path / "photo.sdc").chunks] == ["P"]


def test_metadata_that_a_format_cannot_hold_are_left_out_and_that_is_said(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010E] = 70_000 * "long "
    picture().save(tmp_path / "photo.sdc", exif=exif, dpi=(300, 300))
    result = sdc("decode", tmp_path / "photo.sdc", "--format", "jpg", "-q")
    assert result.exit_code == 0
    assert (
        result.stderr
        == f"sdc: {tmp_path}/photo.sdc: left out of the JPEG file: EXIF ({len(exif.tobytes()) - 6:,} bytes)\n"
    )
    with Image.open(tmp_path / "photo.jpg") as image:
        image.load()
        assert (image.size, image.info["dpi"]) == ((48, 40), (300, 300))


def test_alpha_that_hides_nothing_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    picture(mode="RGBA").save(tmp_path / "photo.sdc")
    result = sdc("decode", tmp_path / "photo.sdc", "--format", "jpg", "-q")
    assert result.exit_code == 0
    assert result.stderr == f"sdc: {tmp_path}/photo.sdc: left out of the JPEG file: alpha that hides nothing\n"
    with Image.open(tmp_path / "photo.jpg") as image:
        assert image.mode == "RGB"


def test_alpha_that_hides_something_is_not_dropped(tmp_path: Path) -> None:
    image = picture(mode="RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "photo.sdc")
    result = sdc("decode", tmp_path / "photo.sdc", "-o", tmp_path / "photo.jpg", "-q")
    assert result.exit_code == 1
    assert "JPEG cannot hold a picture of mode RGBA and 48×40 pixels: " in result.stderr
    assert result.stderr.endswith("; PNG can\n")
    assert not (tmp_path / "photo.jpg").exists()
