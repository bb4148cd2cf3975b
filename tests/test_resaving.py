"""Opened files that are saved again: unmodified they keep their payload or are quantised from their own latents.

Where no model is to be used, none can be: the settings name a folder without one.
"""

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile, ImageOps

import pillow_sdc
from pillow_sdc.errors import (
    CorruptFileError,
    InsufficientMemoryError,
    ModelUnavailableError,
    OptionError,
    TruncatedFileError,
)
from pillow_sdc.format import container
from pillow_sdc.format.codecs import ContextCodec, LatentCodec, PaletteCodec, Uint8Codec

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.sdc"))
MODES = ["RGB", "L", "RGBA", "LA"]
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"

EVERY_CODECS_OPTIONS: list[dict[str, Any]] = [
    {},
    {"codec": "palette"},
    {"palette_size": 7},
    {"dither": 0.5},
    {"palette_size": 2, "dither": 0},
    {"codec": "uint8"},
    {"codec": "context"},
    {"quality": 1},
    {"quality": 40},
    {"quality": 100},
    {"target_size": 400},
]


@pytest.fixture(autouse=True)
def small_model(tiny_pipeline: Path) -> Iterator[None]:
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu", denoise_steps=1):
        yield


@pytest.fixture
def no_model(tmp_path: Path) -> Callable[[], Any]:
    """Gives the settings with which whatever needs a model fails."""
    folder = tmp_path / "no-model"
    folder.mkdir()
    return lambda: pillow_sdc.configure(model=folder)


def picture(mode: str = "RGB", width: int = 100, height: int = 60) -> Image.Image:
    samples = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    image = Image.fromarray(samples).resize((width, height)).convert(mode)
    if mode.endswith("A"):
        y, x = np.mgrid[:height, :width]
        image.putalpha(Image.fromarray((np.clip(9 * x - 5 * y, 0, 255)).astype(np.uint8)))
    return image


def saved(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "SDC", **options)
    return buffer.getvalue()


def file_of(codec: LatentCodec, mode: str = "RGB", spread: float = 1.0) -> bytes:
    """Return a file of random latents of unit variance, as the autoencoder of Stable Diffusion gives them."""
    latents = np.random.default_rng(0).normal(0, spread, (4, 8, 13)).astype(np.float32)
    header = container.Header(100, 60, mode, codec.name)
    return container.write(header, codec.encode(latents))


def loaded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def content_of(data: bytes) -> container.Content:
    fp = io.BytesIO(data)
    return container.read_content(fp, container.read_layout(fp))


def keeps_payload(image: Image.Image) -> bool:
    return bool(image.info["sdc"]["keeps_payload"])


class TestUnmodifiedPictures:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("codec", ["palette", "context", "uint8"])
    def test_keep_their_file(self, no_model: Callable[[], Any], mode: str, codec: str) -> None:
        data = saved(picture(mode), codec=codec)
        image = loaded(data)
        with no_model():
            assert saved(image) == data
            assert saved(image) == data
        assert keeps_payload(image)

    def test_keep_it_for_ten_rounds(self) -> None:
        data = first = saved(picture(), quality=80)
        for _ in range(10):
            data = saved(loaded(data))
        assert data == first

    @pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
    def test_keep_it_whoever_wrote_it(self, no_model: Callable[[], Any], path: Path) -> None:
        data = path.read_bytes()
        with no_model(), Image.open(path) as image:
            assert content_of(pillow_sdc.encode(image, xmp=b"x")) == content_of(data)

    def test_metadata_follow_the_usual_rules(self) -> None:
        data = saved(picture(), exif=EXIF, icc_profile=b"profile", xmp=b"x", dpi=(72, 72))
        image = loaded(data)
        for again, expected in (
            (saved(image), {"icc_profile": b"profile"}),
            (saved(image, icc_profile=None), {}),
            (saved(image, xmp=b"y", icc_profile=b"other"), {"xmp": b"y", "icc_profile": b"other"}),
        ):
            fp = io.BytesIO(again)
            assert container.read_metadata(fp, container.read_layout(fp)) == expected
            assert content_of(again) == content_of(data)
        assert saved(image, exif=image.getexif(), xmp=b"x", dpi=image.info["dpi"]) == data

    def test_are_those_of_parsers_and_batches_too(self, no_model: Callable[[], Any]) -> None:
        data = saved(picture())
        parser = ImageFile.Parser()
        parser.feed(data)
        images = [parser.close(), pillow_sdc.decode(data), *pillow_sdc.decode_batch([data, data])]
        with no_model():
            assert [saved(image) for image in images] == [data] * 4
            assert pillow_sdc.encode_batch(images) == [data] * 4

    def test_may_replace_their_own_file(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.sdc"
        picture().save(path)
        data = path.read_bytes()
        with Image.open(path) as image:
            image.save(path)
        assert path.read_bytes() == data

    def test_are_saved_whole_as_the_only_frame(self) -> None:
        data = saved(picture())
        assert saved(loaded(data), save_all=True) == data
        for save in (saved, pillow_sdc.encode):
            with pytest.raises(OSError, match="2 frames"):
                save(Image.open(io.BytesIO(data)), save_all=True, append_images=[picture()])

    def test_need_their_file_no_longer_once_they_are_loaded(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.sdc"
        picture().save(path)
        data = path.read_bytes()
        with Image.open(path) as image:
            image.load()
        path.write_bytes(b"something else")
        assert saved(image) == data

    def test_that_were_changed_back_are_unmodified(self) -> None:
        data = saved(picture())
        image = loaded(data)
        before: Any = image.getpixel((3, 2))
        image.putpixel((3, 2), (before[0] ^ 1, *before[1:]))
        assert not keeps_payload(image)
        assert saved(image) != data
        image.putpixel((3, 2), before)
        assert keeps_payload(image)
        assert saved(image) == data

    def test_are_saved_by_several_threads(self) -> None:
        data = saved(picture())
        image = loaded(data)
        with ThreadPoolExecutor(8) as threads:
            assert set(threads.map(lambda _: saved(image), range(64))) == {data}

    def test_that_threads_load_at_once_have_the_payload_of_their_pixels(self) -> None:
        files = [saved(picture(), quality=quality) for quality in (20, 60)]
        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(lambda data: saved(loaded(data)), files * 32)) == files * 32


def draw(image: Image.Image) -> None:
    ImageDraw.Draw(image).line((0, 0, 30, 20))


def write_pixels(image: Image.Image) -> None:
    pixels: Any = image.load()
    for x in range(20):
        pixels[x, 5] = (x, 2, 3)


def write_bytes(image: Image.Image) -> None:
    image.frombytes(image.tobytes()[::-1])


def exchange(image: Image.Image) -> None:
    image.im = picture().transpose(Image.Transpose.ROTATE_180).im


def turn(image: Image.Image) -> None:
    image.getexif()[0x0112] = 3
    ImageOps.exif_transpose(image, in_place=True)


CHANGES: list[Callable[[Image.Image], Any]] = [
    draw,
    write_pixels,
    write_bytes,
    exchange,
    turn,
    lambda image: image.putpixel((99, 59), (1, 2, 3)),
    lambda image: image.paste((1, 2, 3), (0, 0, 2, 2)),
    lambda image: image.putdata([(1, 2, 3)] * 50),
    lambda image: image.putalpha(255),
    lambda image: image.thumbnail((50, 50)),
    lambda image: image.thumbnail((12, 12)),
    lambda image: image.info.update(transparency=(1, 2, 3)),
]


class TestModifiedPictures:
    @pytest.mark.parametrize("change", CHANGES)
    def test_are_encoded(self, change: Callable[[Image.Image], Any]) -> None:
        data = saved(picture())
        image = loaded(data)
        change(image)
        again = saved(image)
        assert content_of(again) != content_of(data)
        assert again == saved(image.copy()) == pillow_sdc.encode(image) == pillow_sdc.encode_batch([image])[0]

    @pytest.mark.parametrize("change", CHANGES)
    def test_say_so(self, change: Callable[[Image.Image], Any]) -> None:
        image = loaded(saved(picture()))
        assert keeps_payload(image)
        change(image)
        assert not keeps_payload(image)
        assert not image.info.get("sdc", {})["keeps_payload"]

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_of_alpha_are_encoded_with_the_alpha_that_they_have(self, mode: str) -> None:
        image = loaded(saved(picture(mode)))
        image.putalpha(7)
        assert set(pillow_sdc.decode(saved(image)).getchannel("A").tobytes()) == {7}

    def test_are_drafts_too(self) -> None:
        data = saved(picture())
        image = Image.open(io.BytesIO(data))
        image.draft(None, (12, 7))
        for is_loaded in (False, True):
            assert not keeps_payload(image)
            assert Image.open(io.BytesIO(pillow_sdc.encode(image))).size == (13, 8)
            assert bool(image.tile) is not is_loaded or image.load()

    def test_that_need_a_model_say_so_where_there_is_none(self, no_model: Callable[[], Any]) -> None:
        image = loaded(saved(picture()))
        image.putpixel((0, 0), (1, 2, 3))
        with no_model(), pytest.raises(ModelUnavailableError):
            saved(image)


class TestOtherPictures:
    @pytest.mark.parametrize(
        "made",
        [
            Image.Image.copy,
            copy.copy,
            copy.deepcopy,
            lambda image: pickle.loads(pickle.dumps(image)),
            lambda image: image.crop((0, 0, 100, 60)),
            lambda image: image.convert("RGB"),
            lambda image: image.resize((100, 60)),
            lambda image: ImageOps.exif_transpose(image),
        ],
    )
    def test_with_the_same_pixels_are_encoded(self, made: Callable[[Image.Image], Image.Image]) -> None:
        image = loaded(saved(picture(), quality=80))
        other = made(image)
        assert other.tobytes() == image.tobytes()
        assert not keeps_payload(other)
        assert keeps_payload(image)
        assert saved(other) == saved(Image.fromarray(np.asarray(image)))

    def test_info_is_plain_in_copies_and_may_outlive_the_picture(self) -> None:
        image = loaded(saved(picture()))
        info = image.info
        assert type(pickle.loads(pickle.dumps(info))) is type(copy.deepcopy(info)) is type(image.copy().info) is dict
        assert info.get("nothing", 7) == 7
        with pytest.raises(KeyError):
            info["nothing"]
        del image
        assert info["sdc"]["keeps_payload"] is False

    def test_a_closed_picture_has_a_report(self) -> None:
        data = saved(picture())
        for image in (loaded(data), Image.open(io.BytesIO(data))):
            assert keeps_payload(image)
            image.close()
            assert not keeps_payload(image)
            assert image.info["sdc"]["codec"] == "palette"


class TestOptions:
    @pytest.mark.parametrize("options", EVERY_CODECS_OPTIONS)
    def test_with_its_own_a_file_is_itself(self, no_model: Callable[[], Any], options: dict[str, Any]) -> None:
        data = saved(picture(), **options)
        image = loaded(data)
        with no_model():
            assert saved(image, **options) == data
            assert pillow_sdc.encode(data, **options) == data

    @pytest.mark.parametrize("options", EVERY_CODECS_OPTIONS)
    @pytest.mark.parametrize(
        "codec", [PaletteCodec(), PaletteCodec(palette_size=40, dither=0), ContextCodec(60), Uint8Codec()]
    )
    def test_from_the_second_save_on_nothing_changes(
        self, no_model: Callable[[], Any], codec: LatentCodec, options: dict[str, Any]
    ) -> None:
        with no_model():
            first = pillow_sdc.encode(file_of(codec), **options)
            again = first
            for _ in range(3):
                again = pillow_sdc.encode(again, **options)
        assert again == first
        assert saved(loaded(first), **options) == first

    @pytest.mark.parametrize(
        ("options", "codec"),
        [
            ({"quality": 30}, ContextCodec(30)),
            ({"codec": "context", "quality": 59}, ContextCodec(59)),
            ({"codec": "palette"}, PaletteCodec()),
            ({"palette_size": 9, "dither": 0.25}, PaletteCodec(9, 0.25)),
            ({"codec": "uint8"}, Uint8Codec()),
        ],
    )
    def test_quantise_the_files_latents(
        self, no_model: Callable[[], Any], options: dict[str, Any], codec: LatentCodec
    ) -> None:
        data = file_of(ContextCodec(60))
        image = loaded(data)
        expected = codec.encode(pillow_sdc.read_latents(data))
        with no_model():
            for again in (saved(image, **options), pillow_sdc.encode(data, **options)):
                assert content_of(again) == (container.Header(100, 60, "RGB", codec.name), expected, b"")

    def test_alpha_and_metadata_go_along(self) -> None:
        data = saved(picture("RGBA"))
        again = pillow_sdc.encode(data, quality=20, xmp=b"x")
        assert content_of(again).alpha == content_of(data).alpha
        assert Image.open(io.BytesIO(again)).info["xmp"] == b"x"

    def test_what_is_finer_than_the_file_changes_nothing(self) -> None:
        data = file_of(ContextCodec(30))
        assert pillow_sdc.encode(data, quality=90) == data
        assert pillow_sdc.encode(data, codec="context") == data
        assert pillow_sdc.encode(data, target_size=len(data)) == data
        data = file_of(PaletteCodec(palette_size=20, dither=0.5))
        assert pillow_sdc.encode(data, palette_size=30, dither=1) == data

    def test_a_target_size_is_kept_with_metadata_and_alpha_counted(self) -> None:
        data = saved(picture("RGBA"), quality=90)
        for size in (len(data) - 1, len(data) - 60):
            smaller = pillow_sdc.encode(data, target_size=size)
            assert len(smaller) <= size
            assert pillow_sdc.encode(smaller, target_size=size) == smaller
        assert len(pillow_sdc.encode(data, target_size=len(data), xmp=bytes(range(20)))) <= len(data)
        with pytest.raises(OptionError, match="cannot be met"):
            pillow_sdc.encode(data, target_size=30)

    def test_models_do_not_matter_but_must_make_sense(self, no_model: Callable[[], Any]) -> None:
        data = saved(picture())
        with no_model():
            assert saved_by_nothing(data, model="no/such-model", device="cpu", dtype="float16") == data
        for image in (loaded(data), Image.open(io.BytesIO(data))):
            for options in ({"dtype": "int8"}, {"quality": 101}, {"quality": 5, "target_size": 9}, {"codec": "jpeg"}):
                with pytest.raises(OptionError):
                    pillow_sdc.encode(image, **options)


def saved_by_nothing(data: bytes, **options: Any) -> bytes:
    """Return what is saved of a file that is not loaded, with options that would fail if they were needed."""
    (batch,) = pillow_sdc.encode_batch([data], **{name: options[name] for name in options if name != "model"})
    assert batch == data
    return pillow_sdc.encode(data, **options)


class TestPicturesThatAreNotLoaded:
    @pytest.mark.parametrize("options", [{}, {"quality": 30}, {"codec": "uint8"}])
    @pytest.mark.parametrize("kind", ["path", "bytes", "file", "picture"])
    def test_need_no_model(
        self, no_model: Callable[[], Any], tmp_path: Path, kind: str, options: dict[str, Any]
    ) -> None:
        data = file_of(ContextCodec(60))
        path = tmp_path / "photo.sdc"
        path.write_bytes(data)
        sources: dict[str, Callable[[], Any]] = {
            "path": lambda: path,
            "bytes": lambda: data,
            "file": lambda: io.BytesIO(data),
            "picture": lambda: Image.open(path),
        }
        expected = saved(loaded(data), **options)
        with no_model():
            assert pillow_sdc.encode(sources[kind](), **options) == expected
            assert pillow_sdc.encode_batch([sources[kind](), sources[kind]()], **options) == [expected] * 2

    def test_stay_so_and_can_be_loaded(self) -> None:
        data = saved(picture())
        image = Image.open(io.BytesIO(data))
        assert keeps_payload(image)
        assert pillow_sdc.encode(image) == data
        assert image.tile
        assert image.tobytes() == pillow_sdc.decode(data).tobytes()

    def test_are_saved_by_several_threads(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.sdc"
        picture().save(path)
        data = path.read_bytes()
        with ThreadPoolExecutor(8) as threads:
            for image in [Image.open(path) for _ in range(20)]:
                assert set(threads.map(pillow_sdc.encode, [image] * 16)) == {data}
                assert saved(image) == data

    def test_go_through_a_batch_with_others(self) -> None:
        data = saved(picture())
        other = picture(width=30)
        mixed = [data, other, Image.open(io.BytesIO(data)), loaded(data), other, loaded(data).copy()]
        expected = [data, saved(other), data, data, saved(other), saved(loaded(data).copy())]
        for batch_size in (1, 2, 8):
            assert pillow_sdc.encode_batch(mixed, batch_size=batch_size) == expected

    def test_are_encoded_where_a_colour_is_transparent(self) -> None:
        image = Image.open(io.BytesIO(saved(picture())))
        image.info["transparency"] = (1, 2, 3)
        assert Image.open(io.BytesIO(pillow_sdc.encode(image))).mode == "RGBA"


class TestDamage:
    @pytest.fixture
    def half(self) -> bytes:
        """A file of which the second half of the payload has not arrived."""
        data = file_of(ContextCodec(60))
        return data[: -(len(content_of(data).payload) // 2)]

    def test_truncated_files_are_refused(self, half: bytes, no_model: Callable[[], Any]) -> None:
        image = Image.open(io.BytesIO(half))
        assert not keeps_payload(image)
        with no_model():
            for source in (half, image):
                with pytest.raises(TruncatedFileError, match="too early"):
                    pillow_sdc.encode(source, quality=20)
                with pytest.raises(pillow_sdc.BatchError, match="too early"):
                    pillow_sdc.encode_batch([source])

    def test_where_they_are_allowed_their_pixels_are_encoded(
        self, half: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        image = loaded(half)
        assert not keeps_payload(image)
        expected = saved(image.copy())
        assert saved(image) == pillow_sdc.encode(image) == pillow_sdc.encode(half) == expected
        assert pillow_sdc.encode_batch([half, image]) == [expected] * 2
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", False)
        assert saved(image) == expected

    def test_where_they_are_allowed_whole_ones_are_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        data = saved(picture("RGBA"))
        assert saved(loaded(data)) == pillow_sdc.encode(data) == data

    def test_a_file_that_changes_before_it_is_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.sdc"
        picture().save(path)
        with Image.open(path) as image:
            data = bytearray(path.read_bytes())
            data[-9] ^= 1
            path.write_bytes(data)
            assert not keeps_payload(image)
            with pytest.raises(CorruptFileError, match="checksum"):
                pillow_sdc.encode(image)

    @pytest.mark.parametrize("options", [{}, {"quality": 30}])
    @pytest.mark.parametrize("where", ["payload", "alpha"])
    def test_what_cannot_be_decoded_is_not_passed_on(self, where: str, options: dict[str, Any]) -> None:
        header, payload, alpha = content_of(saved(picture("RGBA")))
        broken = {"payload": payload, "alpha": alpha}
        broken[where] += b"more"  # the checksums will match
        data = container.write(header, broken["payload"], {}, broken["alpha"])
        for encode in (pillow_sdc.encode, lambda data, **options: pillow_sdc.encode_batch([data], **options)):
            with pytest.raises((CorruptFileError, pillow_sdc.BatchError), match=r"\d bytes"):
                encode(data, **options)

    @pytest.mark.parametrize("options", EVERY_CODECS_OPTIONS)
    @pytest.mark.parametrize("codec", ["palette", "context", "uint8"])
    def test_nor_is_a_payload_that_is_empty(self, codec: str, options: dict[str, Any]) -> None:
        data = container.write(container.Header(100, 60, "RGB", codec), b"")
        with pytest.raises(CorruptFileError):
            pillow_sdc.encode(data, **options)

    def test_memory_that_runs_out_is_an_oserror(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(codec: Uint8Codec, latents: Any, *rest: object) -> bytes:
            raise MemoryError

        monkeypatch.setattr(Uint8Codec, "encode", exhausted)
        with pytest.raises(InsufficientMemoryError, match="100×60"):
            pillow_sdc.encode(file_of(PaletteCodec()), codec="uint8")

    def test_a_closed_picture_is_not_saved(self) -> None:
        data = saved(picture())
        for image in (loaded(data), Image.open(io.BytesIO(data))):
            image.close()
            for save in (saved, pillow_sdc.encode):
                with pytest.raises((ValueError, OSError, AssertionError)):
                    save(image)
