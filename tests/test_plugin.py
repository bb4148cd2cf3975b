import copy
import io
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from locations import ROOT
from PIL import Image, ImageFile, UnidentifiedImageError

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.format.codecs import PaletteCodec, Uint8Codec


@pytest.fixture(autouse=True)
def small_model(tiny_pipeline: Path) -> Iterator[None]:
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu", denoise_steps=1):
        yield


def picture(width: int = 40, height: int = 24, mode: str = "RGB") -> Image.Image:
    samples = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(samples).convert(mode)


def with_alpha(image: Image.Image) -> Image.Image:
    """Give modes that have alpha some of every kind."""
    if image.mode.endswith("A"):
        y, x = np.mgrid[: image.height, : image.width]
        image.putalpha(Image.fromarray((np.clip(9 * x - 5 * y, 0, 255)).astype(np.uint8)))
    return image


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "SDC", **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def file_bytes(tiny_pipeline: Path) -> bytes:
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu"):
        return saved(picture())


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize("codec", ["uint8", "palette", "context"])
def test_save_by_extension_and_open(tmp_path: Path, mode: str, codec: str) -> None:
    path = tmp_path / "photo.sdc"
    picture(mode=mode).save(path, codec=codec)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("SDC", mode, (40, 24))
        assert image.get_format_mimetype() == "image/x-sdc"
        image.load()
        assert image.info["sdc"]["codec"] == codec


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (7, 9), (8, 8), (65, 3)])
@pytest.mark.parametrize("codec", ["uint8", "palette", "context"])
def test_pictures_of_any_size_keep_it(size: tuple[int, int], codec: str) -> None:
    assert Image.open(io.BytesIO(saved(picture(*size), codec=codec))).copy().size == size


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize(("wanted", "scale"), [((12, 7), 8), ((0, 0), 8), ((13, 7), 4), ((25, 15), 4)])
def test_a_draft_of_an_eighth_or_a_quarter_comes_from_the_latents(
    mode: str, wanted: tuple[int, int], scale: int
) -> None:
    data = saved(with_alpha(picture(100, 60, mode)))
    image = Image.open(io.BytesIO(data))
    assert image.draft(None, (26, 15)) is None
    assert image.draft(None, None) is None
    assert image.draft("L", wanted) == (mode, (0, 0, 100 / scale, 60 / scale))
    assert image.draft(None, (1, 1)) is None
    assert image.size == (-(-100 // scale), -(-60 // scale))
    image.load()
    if scale == 8:
        np.testing.assert_array_equal(np.asarray(image), np.asarray(pillow_sdc.read_preview(data)))
    if mode.endswith("A"):
        expected = with_alpha(picture(100, 60, mode)).getchannel("A").reduce(scale)
        np.testing.assert_array_equal(np.asarray(image.getchannel("A")), np.asarray(expected))
    assert image.info["sdc"]["model"] == "preview"
    assert image.draft(None, (1, 1)) is None


@pytest.mark.parametrize(
    ("box", "scale", "fitting"),
    [((6, 6), 8, (6, 4)), ((12, 12), 4, (12, 7)), ((50, 7), 4, (12, 7)), ((13, 13), 1, (13, 8))],
)
def test_a_thumbnail_needs_a_draft_of_the_size_that_fits_into_the_box(
    box: tuple[int, int], scale: int, fitting: tuple[int, int]
) -> None:
    data = saved(picture(100, 60))
    image = Image.open(io.BytesIO(data))
    image.thumbnail(box)
    assert image.size == fitting
    drafted = Image.open(io.BytesIO(data))
    drafted.draft(None, (100 // scale, 60 // scale))
    part = (0, 0, 100 / scale, 60 / scale)
    expected = drafted.resize(fitting, Image.Resampling.BICUBIC, part, reducing_gap=2.0)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))
    assert (image.info["sdc"]["model"] == "preview") == (scale > 1)


def test_a_picture_that_is_loaded_is_not_drafted(file_bytes: bytes) -> None:
    image = Image.open(io.BytesIO(file_bytes))
    image.load()
    assert image.draft(None, (2, 2)) is None
    image.thumbnail((1, 1))
    assert image.size == (1, 1)
    image.load()


def test_a_small_thumbnail_needs_no_model() -> None:
    script = """
import sys
import pillow_sdc
from PIL import Image
with Image.open(sys.argv[1]) as image:
    assert image.size == (512, 512)
    image.thumbnail((64, 64))
    assert image.size == (64, 64), image.size
    assert image.info["sdc"]["model"] == "preview"
assert not {"torch", "diffusers", "faiss"} & set(sys.modules)
"""
    path = Path(__file__).parent / "golden" / "uint8-rgb-stored.sdc"
    subprocess.run([sys.executable, "-c", script, path], check=True, timeout=60)


def test_info_names_what_decoded_the_picture(tiny_pipeline: Path, file_bytes: bytes) -> None:
    image = Image.open(io.BytesIO(file_bytes))
    assert image.info["sdc"] == {"codec": "palette", "latent_space": "sd-v1", "keeps_payload": True}
    image.load()
    report = image.info["sdc"]
    assert report["model"] == str(tiny_pipeline)
    assert report["device"] == "cpu"
    assert report["noise_variance"] > 0


def test_denoising_is_done_where_there_is_noise(tiny_pipeline: Path) -> None:
    # Unit-variance latents, as Stable Diffusion's autoencoder gives them; the small random one's are nearly zero.
    latents = np.random.default_rng(0).standard_normal((4, 20, 20)).astype(np.float32)
    noisy, clean = (
        container.write(container.Header(160, 160, "RGB", codec.name), codec.encode(latents))
        for codec in (PaletteCodec(palette_size=16), Uint8Codec())
    )
    for data, steps, denoiser in ((noisy, 1, str(tiny_pipeline)), (clean, 0, None)):
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.info["sdc"]["denoise_steps"] == steps
        assert image.info["sdc"]["denoiser"] == denoiser
    with pillow_sdc.configure(denoise_steps=0):
        plain = np.asarray(Image.open(io.BytesIO(noisy)))
    assert np.any(plain != np.asarray(Image.open(io.BytesIO(noisy))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"codec": "jpeg"}, "codec is 'jpeg'; it must be one of uint8, palette"),
        ({"palette_size": 1}, "palette_size is 1; it must be a whole number from 2 to 256"),
        ({"dither": 2}, "dither is 2; it must be a number from 0 to 1"),
        ({"codec": "uint8", "dither": 0.5}, "dither is an option of the codec palette, not of uint8"),
        ({"dtype": "int8"}, "dtype is 'int8'"),
        ({"device": "abacus"}, "abacus"),
    ],
)
def test_bad_options_are_refused_and_leave_no_file(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "photo.sdc"
    with pytest.raises(ValueError, match=message):
        picture().save(path, **options)
    assert not path.exists()


def test_options_of_other_formats_are_ignored() -> None:
    assert saved(picture(), progressive=True, subsampling=0) == saved(picture())


def test_options_of_save_win_over_settings(tiny_pipeline: Path) -> None:
    with pillow_sdc.configure(model="no/such-model"):
        assert saved(picture(), model=tiny_pipeline) == saved(picture(), model=str(tiny_pipeline))


@pytest.mark.parametrize(
    ("mode", "stored"),
    [
        ("1", "L"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("La", "LA"),
        ("RGBa", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("LAB", "RGB"),
        ("HSV", "RGB"),
    ],
)
def test_modes_that_the_format_lacks_are_converted(mode: str, stored: str) -> None:
    image = Image.new(mode, (24, 16))
    before = image.copy()
    image.info["note"] = "stays"
    assert saved(image) == saved(image.convert(stored), icc_profile=None)  # Pillow gives what was LAB one
    assert Image.open(io.BytesIO(saved(image))).mode == stored
    assert image.mode == mode
    assert image.tobytes() == before.tobytes()
    assert image.info == {"note": "stays"}


@pytest.mark.parametrize(
    ("mode", "transparency"),
    [
        ("RGB", b"\0\x80"),
        ("RGB", (1, 2)),
        ("L", (1, 2, 3)),
        ("1", b""),
        ("CMYK", 0),
        ("YCbCr", (1, 2, 3)),
        ("RGB", None),
    ],
)
def test_a_transparency_that_makes_no_sense_is_ignored(mode: str, transparency: Any) -> None:
    image = Image.new(mode, (16, 16))
    image.info["transparency"] = transparency
    assert saved(image) == saved(Image.new(mode, (16, 16)))


@pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
def test_empty_pictures_are_refused_and_leave_no_file(tmp_path: Path, size: tuple[int, int]) -> None:
    with pytest.raises(pillow_sdc.OptionError, match="is outside the format's range of 1 to 65535"):
        Image.new("RGB", size).save(tmp_path / "photo.sdc")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("codec", ["uint8", "palette", "context"])
def test_alpha_comes_back_without_loss(mode: str, codec: str) -> None:
    image = with_alpha(picture(100, 60, mode))
    decoded = Image.open(io.BytesIO(saved(image, codec=codec)))
    assert decoded.mode == mode
    assert decoded.getchannel("A").tobytes() == image.getchannel("A").tobytes()


@pytest.mark.parametrize(
    ("mode", "transparency", "stored"),
    [("1", 255, "LA"), ("L", 7, "LA"), ("RGB", (1, 2, 3), "RGBA"), ("P", 0, "RGBA"), ("P", b"\x10\xff", "RGBA")],
)
def test_transparency_of_a_colour_or_a_palette_is_kept(mode: str, transparency: Any, stored: str) -> None:
    image = Image.new(mode, (16, 16))
    image.paste(1 if mode in ("1", "L", "P") else (1, 2, 3), (0, 0, 8, 16))
    image.info["transparency"] = transparency
    decoded = Image.open(io.BytesIO(saved(image)))
    assert decoded.mode == stored
    assert decoded.getchannel("A").tobytes() == image.convert(stored).getchannel("A").tobytes()
    assert image.mode == mode


def test_colours_that_nobody_sees_change_nothing() -> None:
    image = with_alpha(picture(100, 60, "RGBA"))
    other = np.array(image)
    other[other[..., 3] == 0] = 0
    assert saved(Image.fromarray(other)) == saved(image)


def test_an_opaque_or_a_rectangular_alpha_costs_few_bytes() -> None:
    image = picture(100, 60, "RGBA")
    plain = len(saved(image.convert("RGB")))
    assert len(saved(image)) <= plain + 8
    image.putalpha(Image.new("L", (100, 60), 3))
    image.paste(255, (20, 10, 90, 40), Image.new("L", (70, 30), 0))
    assert len(saved(image)) <= plain + 8
    alpha = Image.new("L", (100, 60), 255)
    alpha.paste(254, (20, 10, 90, 40))
    image.putalpha(alpha)
    assert len(saved(image)) <= plain + 17


def test_target_size_counts_alpha() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    image = picture(64, 64)
    image.putalpha(Image.fromarray(noise))
    assert 4096 < len(saved(image, target_size=5000)) <= 5000
    with pytest.raises(pillow_sdc.OptionError, match="target_size of 4000 bytes cannot be met"):
        saved(image, target_size=4000)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_modes_that_would_lose_precision_are_refused_and_leave_no_file(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "photo.sdc"
    with pytest.raises(OSError, match=f"cannot write mode {mode} as SDC"):
        Image.new(mode, (8, 8)).save(path)
    assert not path.exists()


def test_a_model_that_is_missing_gives_one_clear_error_and_no_file(tmp_path: Path) -> None:
    path, missing = tmp_path / "photo.sdc", tmp_path / "no-model"
    with pytest.raises(pillow_sdc.ModelUnavailableError, match="no-model"):
        picture().save(path, model=missing)
    assert not path.exists()


def test_a_target_that_fails_midway_raises_its_own_error() -> None:
    class FullDisk(io.RawIOBase):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        picture().save(FullDisk(), "SDC")  # type: ignore[arg-type]


def test_a_target_needs_nothing_but_write(file_bytes: bytes) -> None:
    class Sink:
        def __init__(self) -> None:
            self.pieces: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.pieces.append(data)

    sink = Sink()
    picture().save(sink, "SDC")  # type: ignore[arg-type]
    assert sink.pieces == [file_bytes]


def test_metadata_come_back() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image = Image.open(io.BytesIO(saved(picture(), exif=exif, icc_profile=b"profile", xmp=b"<x:xmpmeta/>")))
    assert image.getexif()[0x010E] == "a description"
    assert image.info["icc_profile"] == b"profile"
    assert image.info["xmp"] == b"<x:xmpmeta/>"
    again = Image.open(io.BytesIO(saved(image)))
    assert again.info["icc_profile"] == b"profile"
    assert "exif" not in again.info
    assert "xmp" not in again.info
    assert "icc_profile" not in Image.open(io.BytesIO(saved(image, icc_profile=None))).info


@pytest.mark.parametrize("dpi", [(72, 72), (72.009, 300), [96, 96]])
def test_the_resolution_comes_back(dpi: Any) -> None:
    image = Image.open(io.BytesIO(saved(picture(), dpi=dpi)))
    assert image.info["dpi"] == tuple(dpi)
    assert "dpi" not in Image.open(io.BytesIO(saved(image))).info


@pytest.mark.parametrize("dpi", [72, (72,), (72, "72"), (0, 72), (-1, -1), (float("nan"), 72), (72, 1e10)])
def test_resolutions_that_are_none_are_refused(dpi: Any) -> None:
    with pytest.raises(pillow_sdc.OptionError, match="dpi"):
        saved(picture(), dpi=dpi)


@pytest.mark.parametrize(
    ("mode", "kept"), [("RGB", True), ("RGBA", True), ("P", True), ("CMYK", False), ("LAB", False)]
)
def test_a_colour_profile_goes_where_its_colours_go(mode: str, kept: bool) -> None:
    image = Image.new(mode, (16, 16))
    image.info["icc_profile"] = b"profile"
    assert ("icc_profile" in Image.open(io.BytesIO(saved(image))).info) == kept
    assert Image.open(io.BytesIO(saved(image, icc_profile=b"given"))).info["icc_profile"] == b"given"


def test_one_frame_can_be_saved_as_all() -> None:
    assert saved(picture(), save_all=True, append_images=[]) == saved(picture())


def test_several_frames_are_refused() -> None:
    gif = io.BytesIO()
    picture().save(gif, "GIF", save_all=True, append_images=[picture(mode="L")])
    for image, options in (
        (Image.open(gif), {"save_all": True}),
        (picture(), {"save_all": True, "append_images": [picture()]}),
    ):
        with pytest.raises(OSError, match="cannot write 2 frames as SDC: a file holds one picture"):
            saved(image, **options)


@pytest.mark.parametrize(
    "options", [{"exif": "text"}, {"exif": 5}, {"xmp": "<x/>"}, {"xmp": 5}, {"icc_profile": True}, {"xmp": np.zeros(3)}]
)
def test_metadata_that_are_no_bytes_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(pillow_sdc.OptionError, match=f"{next(iter(options))} is a .*; it must be bytes"):
        saved(picture(), **options)


def test_metadata_may_be_anything_like_bytes() -> None:
    image = Image.open(io.BytesIO(saved(picture(), exif=memoryview(b"Exif\0\0abc"), xmp=bytearray(b"x"))))
    assert (image.info["exif"], image.info["xmp"]) == (b"Exif\0\0abc", b"x")


def test_exif_goes_on_to_other_formats() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image = Image.open(io.BytesIO(saved(picture(), exif=exif)))
    for file_format in ("JPEG", "PNG", "WEBP", "SDC"):
        buffer = io.BytesIO()
        image.save(buffer, file_format, exif=image.info["exif"])
        assert Image.open(buffer).getexif()[0x010E] == "a description"


def test_a_colour_profile_that_is_none_is_left_out() -> None:
    image = picture()
    image.info["icc_profile"] = 3_000_000_000  # as a TIFF's tag of the wrong type makes it
    assert saved(image) == saved(picture())


def test_pictures_that_cannot_be_stored_are_refused_before_the_model_runs() -> None:
    with pillow_sdc.configure(model="no/such-model"):
        with pytest.raises(ValueError, match="metadata of 17825792 bytes exceeds"):
            saved(picture(), exif=bytes(17 << 20))
        with pytest.raises(ValueError, match="width 70000"):
            saved(Image.new("L", (70_000, 8)))


def test_open_reads_the_header_alone(file_bytes: bytes) -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.total += len(data)
            return data

    layout = container.read_layout(io.BytesIO(file_bytes))
    large = layout.header._replace(width=9000, height=9000)
    fp = Counting(container.write(large, bytes(1_000_000)))
    assert Image.open(fp).size == (9000, 9000)
    assert fp.total <= 4096


def test_open_and_verify_import_nothing_heavy(tmp_path: Path, file_bytes: bytes) -> None:
    path = tmp_path / "photo.sdc"
    path.write_bytes(file_bytes)
    script = f"""
import sys
import pillow_sdc
from PIL import Image
assert "numpy" not in sys.modules
image = Image.open({str(path)!r})
assert "numpy" not in sys.modules
image.verify()
heavy = {{name.partition(".")[0] for name in sys.modules}} & {{"torch", "diffusers", "transformers", "faiss"}}
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_verify_accepts_a_good_file_and_closes_it(tmp_path: Path, file_bytes: bytes) -> None:
    path = tmp_path / "photo.sdc"
    path.write_bytes(file_bytes)
    image = Image.open(path)
    image.verify()
    assert image.fp is None  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="directly after open"):
        image.verify()


def test_verify_finds_every_flipped_bit(file_bytes: bytes) -> None:
    for position in range(8 * len(file_bytes)):
        damaged = bytearray(file_bytes)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises((OSError, UnidentifiedImageError)):
            Image.open(io.BytesIO(damaged)).verify()


def test_every_truncation_is_noticed(file_bytes: bytes) -> None:
    for length in range(len(file_bytes)):
        with pytest.raises(OSError):  # noqa: PT011 - UnidentifiedImageError is one too
            Image.open(io.BytesIO(file_bytes[:length])).load()


def test_a_damaged_file_stays_damaged_when_loaded_again(file_bytes: bytes) -> None:
    damaged = bytearray(file_bytes)
    damaged[-9] ^= 4
    image = Image.open(io.BytesIO(damaged))
    for _ in range(2):
        with pytest.raises(OSError, match="checksum"):
            image.load()


def test_damage_is_reported_even_where_no_model_is(file_bytes: bytes) -> None:
    damaged = file_bytes[:-1] + bytes([file_bytes[-1] ^ 1])
    with pillow_sdc.configure(model="no/such-model"), pytest.raises(pillow_sdc.CorruptFileError, match="checksum"):
        Image.open(io.BytesIO(damaged)).load()


@pytest.mark.parametrize("content", [b"", b"\x89SDC", b"\x89SDC\r\n", b"\x89PNG\r\n\x1a\n" + bytes(60)])
def test_files_of_other_kinds_are_not_identified(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "renamed.sdc"
    path.write_bytes(content)
    with pytest.raises(UnidentifiedImageError):
        Image.open(path)


def test_a_png_renamed_to_sdc_opens_as_the_png_it_is(tmp_path: Path) -> None:
    path = tmp_path / "renamed.sdc"
    picture().save(path, "PNG")
    with Image.open(path) as image:
        assert image.format == "PNG"
    with pytest.raises(UnidentifiedImageError):
        Image.open(path, formats=["SDC"])


def test_the_decompression_bomb_check_comes_before_any_decoding() -> None:
    header = container.Header(65535, 65535, "RGB", "palette")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(container.write(header, b"x")))


def test_a_parser_fed_in_pieces_gives_the_picture(file_bytes: bytes) -> None:
    parser = ImageFile.Parser()
    for start in range(0, len(file_bytes), 100):
        parser.feed(file_bytes[start : start + 100])
    np.testing.assert_array_equal(np.asarray(parser.close()), np.asarray(Image.open(io.BytesIO(file_bytes))))


@pytest.mark.parametrize("loaded", [False, True])
def test_a_picture_is_one_frame(file_bytes: bytes, loaded: bool) -> None:
    image: Any = Image.open(io.BytesIO(file_bytes))
    if loaded:
        image = pickle.loads(pickle.dumps(image))
        with pytest.raises(RuntimeError, match="directly after open"):
            image.verify()
    assert (image.n_frames, image.is_animated) == (1, False)


@pytest.mark.parametrize("loaded", [False, True])
def test_images_can_be_pickled_and_copied(file_bytes: bytes, loaded: bool) -> None:
    image = Image.open(io.BytesIO(file_bytes))
    if loaded:
        image.load()
    for other in (pickle.loads(pickle.dumps(image)), copy.deepcopy(image), image.copy()):
        np.testing.assert_array_equal(np.asarray(other), np.asarray(image))
        assert other.info["sdc"]["codec"] == "palette"


def test_register_twice_changes_nothing() -> None:
    before = Image.ID.count("SDC")
    pillow_sdc.register()
    assert Image.ID.count("SDC") == before == 1


def test_registering_is_for_the_pillow_that_is_imported_now(file_bytes: bytes) -> None:
    script = """
import io, sys
import pillow_sdc
from PIL import Image as before

data = sys.stdin.buffer.read()
pillow_sdc.configure(model=sys.argv[1], device="cpu", denoise_steps=0)


def try_all():
    from PIL import Image

    opened = Image.open(io.BytesIO(data))
    exif = Image.Exif()
    exif[0x0112] = 6
    opened.save(saved := io.BytesIO(), "SDC", exif=exif)
    batch = pillow_sdc.encode_batch([opened, Image.new("L", (8, 8))], exif=exif)
    assert saved.getvalue() == pillow_sdc.encode(opened, exif=exif) == batch[0]
    made = [opened, Image.open(saved), pillow_sdc.decode(data), pillow_sdc.read_preview(data)]
    made += [*pillow_sdc.decode_batch([data]), pillow_sdc.decode_latents(pillow_sdc.read_latents(data))]
    for image in made:
        image.load()
        assert isinstance(image, Image.Image)
    return Image


assert try_all() is before
old = before.open(io.BytesIO(data))
for name in [name for name in sys.modules if name.partition(".")[0] == "PIL"]:
    del sys.modules[name]
pillow_sdc.register()
assert try_all() is not before

# And what the program holds of the Pillow from before goes on, too.
old.load()
for image in (old, before.open(io.BytesIO(data))):
    assert isinstance(image, before.Image)
    image.save(saved := io.BytesIO(), "SDC")
    assert saved.getvalue() == pillow_sdc.encode(image) == pillow_sdc.encode_batch([image])[0]
"""
    model = pillow_sdc.settings().model
    command = [sys.executable, "-c", script, model]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PILLOW_SDC_AUTOLOAD": "0"}
    done = subprocess.run(command, input=file_bytes, env=environment, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr.decode()


def test_arrays_and_images_encode_alike() -> None:
    image = picture()
    assert pillow_sdc.encode(image) == pillow_sdc.encode(np.asarray(image)) == saved(image)
    for mode in ("L", "LA", "RGBA"):
        shaded = with_alpha(picture(mode=mode))
        assert pillow_sdc.encode(np.asarray(shaded)) == saved(shaded)


def test_decode_takes_bytes_paths_and_files(tmp_path: Path, file_bytes: bytes) -> None:
    path = tmp_path / "photo.sdc"
    path.write_bytes(file_bytes)
    expected = np.asarray(Image.open(io.BytesIO(file_bytes)))
    for source in (file_bytes, path, str(path), io.BytesIO(file_bytes)):
        np.testing.assert_array_equal(np.asarray(pillow_sdc.decode(source)), expected)


def test_files_are_read_from_their_start_wherever_they_are(file_bytes: bytes) -> None:
    file = io.BytesIO(file_bytes)
    for function in (pillow_sdc.info, pillow_sdc.read_latents, pillow_sdc.decode) * 2:
        file.seek(0, io.SEEK_END)
        function(file)


@pytest.fixture(params=[1, 3, 16])
def trickle(request: pytest.FixtureRequest) -> type[io.BytesIO]:
    """A file that returns fewer bytes than it is asked for, though more are there."""

    class Trickle(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(request.param if size is None or size < 0 else min(size, request.param))

    return Trickle


def test_files_may_come_in_small_pieces(trickle: type[io.BytesIO], file_bytes: bytes) -> None:
    assert pillow_sdc.info(trickle(file_bytes)) == pillow_sdc.info(file_bytes)
    assert pillow_sdc.decode(trickle(file_bytes)).size == (40, 24)
    with Image.open(trickle(file_bytes)) as image:
        image.verify()
    (decoded,) = pillow_sdc.decode_batch([trickle(file_bytes)])
    assert decoded.size == (40, 24)


@pytest.mark.parametrize("allowed", [False, True])
def test_what_comes_in_small_pieces_is_not_truncated(
    trickle: type[io.BytesIO], allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = with_alpha(picture(mode="RGBA"))
    data = saved(image, exif=b"MM" + bytes(200), icc_profile=bytes(300), xmp=b"<x/>", dpi=(72, 72))
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", allowed)
    opened = Image.open(trickle(data))
    assert opened.info["exif"] == b"Exif\0\0MM" + bytes(200)
    stored = opened.read_stored()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(stored.quantised.latents, pillow_sdc.read_latents(data))
    np.testing.assert_array_equal(stored.alpha, np.asarray(image.getchannel("A")))


def test_streams_are_read_to_their_end(file_bytes: bytes) -> None:
    class Stream(io.BytesIO):
        def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
            raise io.UnsupportedOperation("seek")

    class Reader:
        def __init__(self, data: bytes) -> None:
            self.read = io.BytesIO(data).read

    for kind in (Stream, Reader):
        assert pillow_sdc.info(kind(file_bytes)) == pillow_sdc.info(file_bytes)  # type: ignore[arg-type]
        assert pillow_sdc.decode(kind(file_bytes)).size == (40, 24)  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [None, 5, [b"GIF89a"], Image.new("L", (1, 1)), np.zeros(3, np.uint8)])
def test_what_is_not_a_file_is_refused_by_its_kind(source: Any) -> None:
    for function in (pillow_sdc.decode, pillow_sdc.info, pillow_sdc.read_latents, pillow_sdc.read_preview):
        with pytest.raises(TypeError, match=f"type {type(source).__name__} is not a file; give a path, the bytes of"):
            function(source)


def files_of(data: bytes, path: Path) -> Iterator[Any]:
    """Give a file in all the ways in which one can be given."""
    path.write_bytes(data)
    yield from (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data))
    with path.open("rb") as file:
        yield file
        assert not file.closed


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "TIFF", "SDC"])
def test_files_of_any_format_are_encoded_as_the_pictures_they_hold(tmp_path: Path, file_format: str) -> None:
    buffer = io.BytesIO()
    picture().save(buffer, file_format)
    with Image.open(buffer) as image:
        expected = saved(image, codec="uint8")
        latents = pillow_sdc.encode_latents(image)
    for source in files_of(buffer.getvalue(), tmp_path / "photo"):
        assert pillow_sdc.encode(source, codec="uint8") == expected
        np.testing.assert_array_equal(pillow_sdc.encode_latents(source), latents)


@pytest.mark.parametrize("image", [None, 5, [[1, 2], [3, 4]], [Image.new("L", (1, 1))], object()])
def test_what_is_not_a_picture_is_refused_by_its_kind(image: Any) -> None:
    for function in (pillow_sdc.encode, pillow_sdc.encode_latents):
        with pytest.raises(
            TypeError, match=f"type {type(image).__name__} is not a picture; give a picture of Pillow's, a"
        ):
            function(image)


def test_files_that_are_not_pictures_are_refused_as_by_pillow(tmp_path: Path) -> None:
    for source in files_of(b"text", tmp_path / "photo.png"):
        for function in (pillow_sdc.encode, pillow_sdc.encode_latents):
            with pytest.raises(UnidentifiedImageError):
                function(source)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        pillow_sdc.encode("missing.png")


@pytest.mark.parametrize(
    "array", [np.zeros(3, np.uint8), np.zeros((4, 4, 1), np.uint8), np.zeros((4, 4)), np.ones((4, 4), bool)]
)
def test_arrays_that_are_no_pictures_are_refused(array: Any) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        pillow_sdc.encode(array)


def test_tensors_that_are_pictures_are_arrays() -> None:
    import torch

    samples = torch.from_numpy(np.array(picture()))
    assert pillow_sdc.encode(samples, codec="uint8") == saved(picture(), codec="uint8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"shape \(3, 24, 40\) and type uint8; expected uint8 \(H, W\["):
        pillow_sdc.encode(samples.permute(2, 0, 1))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected uint8"):
        pillow_sdc.encode(samples.bfloat16())  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["P", "HSV", "RGBa", "1", "CMYK"])
def test_latents_are_made_of_what_save_stores(mode: str) -> None:
    image = picture(mode="RGBA" if mode == "RGBa" else "RGB").convert(mode)
    stored = Image.open(io.BytesIO(saved(image)))
    expected = pillow_sdc.encode_latents(image.convert(stored.mode))
    np.testing.assert_array_equal(pillow_sdc.encode_latents(image), expected)


@pytest.mark.parametrize("mode", ["F", "I", "I;16"])
def test_latents_are_not_made_of_modes_that_would_lose_precision(mode: str) -> None:
    with pytest.raises(OSError, match=f"cannot write mode {mode} as SDC"):
        pillow_sdc.encode_latents(Image.new(mode, (8, 8)))


def test_decode_refuses_other_formats() -> None:
    png = io.BytesIO()
    picture().save(png, "PNG")
    with pytest.raises(UnidentifiedImageError):
        pillow_sdc.decode(png.getvalue())


def test_read_latents_gives_a_training_sample(file_bytes: bytes) -> None:
    latents = pillow_sdc.read_latents(file_bytes)
    assert latents.shape == (4, 3, 5)
    assert latents.dtype == np.float32
    assert np.isfinite(latents).all()


def test_latents_become_the_picture_that_their_file_is() -> None:
    data = saved(picture(), codec="uint8")
    latents = pillow_sdc.read_latents(data)
    decoded = pillow_sdc.decode_latents(latents, size=(40, 24), noise_variance=9.2e-5)
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(pillow_sdc.decode(data)))
    assert pillow_sdc.decode_latents(latents).size == (40, 24)
    assert pillow_sdc.decode_latents(latents, size=(33, 17)).size == (33, 17)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_latents_may_be_a_tensor(dtype: str) -> None:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    latents = torch.tensor(np.random.default_rng(0).standard_normal((4, 3, 5)), dtype=getattr(torch, dtype))
    expected = pillow_sdc.decode_latents(latents.float().numpy(), noise_variance=0.03).tobytes()
    given = latents.to(device).requires_grad_()
    assert pillow_sdc.decode_latents(given, noise_variance=torch.tensor(0.03)).tobytes() == expected  # type: ignore[arg-type]
    assert pillow_sdc.decode_latents(given.mT.contiguous().mT, noise_variance=0.03).tobytes() == expected
    with pytest.raises(ValueError, match=r"latents of shape \(1, 4, 3, 5\); expected \(4, h, w\)"):
        pillow_sdc.decode_latents(given[None])


@pytest.mark.parametrize(
    ("latents", "size", "message"),
    [
        (np.full((4, 2, 2), 1e300), None, "not finite"),
        (np.zeros((4, 2)), None, r"expected \(4, h, w\)"),
        (np.full((4, 2, 2), np.nan), None, "not finite"),
        (np.zeros((4, 2, 2)), (8, 16), "size 8×16 is not covered by 2×2 latents"),
        (np.zeros((4, 2, 2)), (17, 16), "size 17×16 is not covered by 2×2 latents"),
    ],
)
def test_latents_that_are_none_are_refused(latents: Any, size: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pillow_sdc.decode_latents(latents, size=size)


def test_an_empty_exif_costs_nothing() -> None:
    assert saved(picture(), exif=Image.Exif()) == saved(picture())


def test_read_latents_and_info_refuse_other_files() -> None:
    for function in (pillow_sdc.read_latents, pillow_sdc.info):
        with pytest.raises(pillow_sdc.NotSdcError):
            function(b"GIF89a")


def test_info_tells_what_the_file_holds(file_bytes: bytes) -> None:
    info = pillow_sdc.info(file_bytes)
    assert (info.width, info.height, info.mode, info.codec, info.latent_space) == (40, 24, "RGB", "palette", "sd-v1")
    assert info.file_bytes == len(file_bytes)
    assert info.chunks == (("P", info.payload_bytes),)
    assert info.bits_per_pixel == 8 * len(file_bytes) / (40 * 24)
