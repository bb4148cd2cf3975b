"""What Pillow's own plugins do, and its test suite asserts of them, holds for ``.sdc``.

Tests that are not about SDC alone run with PNG as well, so that they assert Pillow's behaviour and not our idea of it.
"""

import copy
import errno
import gc
import io
import multiprocessing
import os
import pickle
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from PIL import (
    ContainerIO,
    Image,
    ImageChops,
    ImageDraw,
    ImageFile,
    ImageOps,
    ImageSequence,
    TarIO,
    UnidentifiedImageError,
    features,
)

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.format.codecs import PaletteCodec

ORIENTATION = 0x0112
OPEN_FILES = Path("/proc/self/fd")
LARGER_THAN_ANY_BUFFER = 1 << 20
SEVERAL_FRAMES = r"(?i)\b(one|single|several|frames?)\b"

lists_open_files = pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="this system does not list open files")


@pytest.fixture(autouse=True)
def small_model(tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Choose the model by environment variables, which hold in other threads and processes too."""
    monkeypatch.setenv("PILLOW_SDC_MODEL", str(tiny_pipeline))
    monkeypatch.setenv("PILLOW_SDC_DEVICE", "cpu")
    monkeypatch.setenv("PILLOW_SDC_DENOISE_STEPS", "1")


def picture(width: int = 40, height: int = 24, mode: str = "RGB", seed: int = 0) -> Image.Image:
    samples = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(samples).convert(mode)


def saved(image: Image.Image, kind: str = "SDC", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: Any) -> NDArray[np.uint8]:
    with Image.open(source) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def files(tiny_pipeline: Path) -> dict[str, bytes]:
    """Small files by their format."""
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu"):
        return {kind: saved(picture(), kind) for kind in ("SDC", "PNG", "WEBP")}


@pytest.fixture
def sdc(files: dict[str, bytes]) -> bytes:
    return files["SDC"]


@pytest.fixture(params=["SDC", "PNG"])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of the format."""
    return str(request.param)


@pytest.fixture
def data(kind: str, files: dict[str, bytes]) -> bytes:
    """The bytes of a file of the format."""
    return files[kind]


@pytest.fixture
def path(kind: str, data: bytes, tmp_path: Path) -> Path:
    """A file of the format."""
    file = tmp_path / f"photo.{kind.lower()}"
    file.write_bytes(data)
    return file


def is_open(file: Path) -> bool:
    """Tell whether this process has a file open; no collection of garbage has to close it."""
    for descriptor in OPEN_FILES.iterdir():
        try:
            if descriptor.readlink() == file:
                return True
        except FileNotFoundError:
            continue  # the one with which the folder was listed
    return False


def test_the_pillow_that_was_asked_for_runs() -> None:
    wanted = os.environ.get("PILLOW_SDC_TEST_PILLOW", PIL.__version__)
    assert PIL.__version__ == wanted


class TestRegistration:
    def test_the_extension_and_the_mime_type_are_known(self) -> None:
        assert Image.registered_extensions()[".sdc"] == "SDC"
        assert Image.MIME["SDC"] == "image/x-sdc"

    def test_pillows_own_report_lists_the_format(self) -> None:
        report = io.StringIO()
        features.pilinfo(report, supported_formats=True)
        (section,) = (part for part in report.getvalue().split("-" * 68) if part.startswith("\nSDC"))
        assert section.split("\n")[1:3] == ["SDC image/x-sdc", "Extensions: .sdc"]
        assert "Features: open, save" in section

    @pytest.mark.parametrize("name", ["SDC", "sdc", "Sdc"])
    def test_names_of_formats_may_have_any_case(self, sdc: bytes, name: str) -> None:
        assert saved(picture(), name) == sdc
        assert Image.open(io.BytesIO(sdc), formats=[name]).format == "SDC"

    def test_formats_that_are_asked_for_exclude_others(self, path: Path, kind: str) -> None:
        assert Image.open(io.BytesIO(path.read_bytes()), formats=("GIF", kind)).format == kind
        with pytest.raises(UnidentifiedImageError):
            Image.open(path, formats=["GIF", "PNG" if kind == "SDC" else "SDC"])


class TestSources:
    @pytest.mark.parametrize("form", [str, Path, os.fsencode])
    def test_a_path_may_have_any_form(self, path: Path, form: Callable[[Path], Any]) -> None:
        with Image.open(form(path)) as image:
            assert image.filename == os.fspath(form(path))
            np.testing.assert_array_equal(np.asarray(image), pixels(io.BytesIO(path.read_bytes())))

    def test_a_file_may_be_open_already(self, path: Path) -> None:
        with path.open("rb") as file, path.open("rb", buffering=0) as unbuffered:
            file.seek(5)
            np.testing.assert_array_equal(pixels(file), pixels(unbuffered))
        assert Image.open(io.BytesIO(path.read_bytes())).filename == ""

    def test_a_pipe_is_read_to_its_end_and_left_open(self, data: bytes) -> None:
        reader, writer = os.pipe()
        with open(writer, "wb") as target:  # noqa: PTH123 - a descriptor has no path
            target.write(data)
        with open(reader, "rb") as source:  # noqa: PTH123
            np.testing.assert_array_equal(pixels(source), pixels(io.BytesIO(data)))
            assert not source.closed

    def test_a_source_needs_nothing_but_read(self, data: bytes) -> None:
        class Stream:
            def read(self, size: int = -1) -> bytes:
                assert size < 0
                return data

        np.testing.assert_array_equal(pixels(Stream()), pixels(io.BytesIO(data)))

    def test_a_part_of_a_larger_file_may_be_a_picture(self, data: bytes, tmp_path: Path) -> None:
        expected = pixels(io.BytesIO(data))
        part = ContainerIO.ContainerIO(io.BytesIO(b"before" + data + b"after"), len(b"before"), len(data))
        np.testing.assert_array_equal(pixels(part), expected)
        with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
            member = tarfile.TarInfo("photo")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        with TarIO.TarIO(str(tmp_path / "pictures.tar"), "photo") as tar_member:
            np.testing.assert_array_equal(pixels(tar_member), expected)
        with zipfile.ZipFile(tmp_path / "pictures.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("photo", data)
        with zipfile.ZipFile(tmp_path / "pictures.zip") as packed, packed.open("photo") as zip_member:
            np.testing.assert_array_equal(pixels(zip_member), expected)

    def test_what_follows_the_picture_is_ignored(self, data: bytes) -> None:
        np.testing.assert_array_equal(pixels(io.BytesIO(data + b"trailing bytes")), pixels(io.BytesIO(data)))

    def test_a_folder_is_no_picture(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder.sdc"
        folder.mkdir()
        with pytest.raises((IsADirectoryError, PermissionError)):
            Image.open(folder)

    def test_a_file_that_is_open_twice_is_two_pictures(self, path: Path) -> None:
        with Image.open(path) as one, Image.open(path) as other:
            one.info["note"] = "mine"
            one.load()
            assert "note" not in other.info
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))

    @pytest.mark.skipif(os.name == "nt", reason="Windows keeps files that are open")
    def test_a_file_that_is_deleted_while_open_can_still_be_loaded(self, path: Path) -> None:
        expected = pixels(path)
        with Image.open(path) as image:
            path.unlink()
            np.testing.assert_array_equal(np.asarray(image), expected)

    def test_a_file_that_shrinks_while_open_is_an_error(self, path: Path) -> None:
        with path.open("rb", buffering=0) as file, Image.open(file) as image:
            os.truncate(path, path.stat().st_size // 2)
            with pytest.raises(OSError, match=r"truncated|ends .* too early"):
                image.load()


class TestParser:
    @pytest.mark.parametrize("step", [1, 1000])
    def test_pieces_may_have_any_size(self, data: bytes, step: int) -> None:
        with ImageFile.Parser() as parser:
            for start in range(0, len(data), step):
                parser.feed(data[start : start + step])
            assert parser.image is not None
            assert parser.image.size == (40, 24)
        np.testing.assert_array_equal(np.asarray(parser.image), pixels(io.BytesIO(data)))

    @pytest.mark.parametrize("share", [0, 0.01, 0.2, 0.5, 0.9])
    def test_closing_too_early_is_an_error(self, data: bytes, share: float) -> None:
        parser = ImageFile.Parser()
        parser.feed(data[: int(share * len(data))])
        with pytest.raises(OSError, match=r"cannot parse|truncated|incomplete|too early"):
            parser.close()


class TestTruncatedFiles:
    @pytest.fixture
    def half(self, kind: str) -> bytes:
        """Bytes of the format that end within a picture of 128×128."""
        if kind != "SDC":
            data = saved(picture(128, 128), kind)
            return data[: len(data) // 2]
        # Unit-variance latents, as Stable Diffusion's autoencoder gives them; the small random one's are nearly zero.
        latents = np.random.default_rng(0).standard_normal((4, 16, 16)).astype(np.float32)
        payload = PaletteCodec(palette_size=16).encode(latents)
        return container.write(container.Header(128, 128, "RGB", PaletteCodec.name), payload)[: -len(payload) // 3]

    def test_they_are_refused(self, half: bytes) -> None:
        image = Image.open(io.BytesIO(half))
        for _ in range(2):
            with pytest.raises(OSError, match=r"truncated|too early"):
                image.load()

    def test_they_are_loaded_where_that_is_allowed(self, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert pixels(io.BytesIO(half)).shape == (128, 128, 3)
        parser = ImageFile.Parser()
        parser.feed(half)
        assert parser.close().size == (128, 128)

    @pytest.mark.parametrize("kind", ["SDC"])
    def test_it_may_be_allowed_after_they_were_refused(self, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
        image = Image.open(io.BytesIO(half))
        with pytest.raises(OSError, match="too early"):
            image.load()
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        image.load()


@lists_open_files
class TestOpenFiles:
    def test_open_keeps_the_file_and_load_closes_it(self, path: Path) -> None:
        image = Image.open(path)
        assert is_open(path)
        image.load()
        assert not is_open(path)

    @pytest.mark.parametrize("method", ["tell", "load", "copy", "tobytes"])
    def test_with_closes_it(self, path: Path, method: str) -> None:
        with Image.open(path) as image:
            getattr(image, method)()
        assert not is_open(path)

    @pytest.mark.parametrize("method", ["close", "verify"])
    def test_close_and_verify_close_it(self, path: Path, method: str) -> None:
        getattr(Image.open(path), method)()
        assert not is_open(path)

    @pytest.mark.parametrize("where", [8, 17, 40, -1])
    def test_damage_leaves_nothing_open(self, sdc: bytes, tmp_path: Path, where: int) -> None:
        damaged = bytearray(sdc)
        damaged[where] ^= 1
        file = tmp_path / "damaged.sdc"
        file.write_bytes(damaged)
        for method in ("load", "verify"):
            with pytest.raises(pillow_sdc.SdcError), Image.open(file) as image:
                getattr(image, method)()
            assert not is_open(file)
        with pytest.raises(pillow_sdc.SdcError):
            Image.open(file).verify()
        assert not is_open(file)

    def test_a_decompression_bomb_is_not_left_open(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(path)
        assert not is_open(path)

    def test_saving_leaves_nothing_open(self, kind: str, tmp_path: Path) -> None:
        file = tmp_path / f"photo.{kind.lower()}"
        picture().save(file)
        assert not is_open(file)
        with pytest.raises(OSError, match=f"cannot write mode F as {kind}"):
            Image.new("F", (8, 8)).save(file)
        assert not is_open(file)

    @pytest.mark.parametrize("method", ["load", "verify", "copy", "__exit__"])
    def test_the_callers_own_file_stays_open(self, path: Path, method: str) -> None:
        with path.open("rb") as file:
            getattr(Image.open(file), method)()
            assert not file.closed
            file.seek(0)

    def test_the_callers_own_file_stays_open_if_it_is_no_picture(self, sdc: bytes) -> None:
        for length in (0, 5, 15, 20):
            file = io.BytesIO(sdc[:length])
            with pytest.raises(OSError, match=r"cannot identify|ends"):
                Image.open(file)
            assert not file.closed


class TestLoading:
    def test_a_second_load_does_nothing(self, path: Path) -> None:
        image = Image.open(path)
        first = image.load()
        path.unlink()
        second = image.load()
        assert first is not None
        assert second is not None
        first[3, 2] = 1, 2, 3
        assert second[3, 2] == image.getpixel((3, 2)) == (1, 2, 3)

    @pytest.mark.parametrize("loaded", [False, True])
    def test_a_closed_picture_cannot_be_loaded(self, path: Path, loaded: bool) -> None:
        image = Image.open(path)
        if loaded:
            image.load()
        image.close()
        image.close()
        with pytest.raises(ValueError, match="Operation on closed image"):
            image.load()

    def test_a_load_that_was_interrupted_can_be_repeated(self, sdc: bytes) -> None:
        class Interrupted(io.BytesIO):
            interrupts = 0

            def read(self, size: int | None = -1) -> bytes:
                if self.interrupts:
                    self.interrupts -= 1
                    raise KeyboardInterrupt
                return super().read(size)

        file = Interrupted(sdc)
        image = Image.open(file)
        file.interrupts = 1
        with pytest.raises(KeyboardInterrupt):
            image.load()
        np.testing.assert_array_equal(np.asarray(image), pixels(io.BytesIO(sdc)))

    @pytest.mark.parametrize(
        "use",
        [
            lambda image: image.convert("L"),
            lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE),
            lambda image: image.crop((3, 2, 30, 20)),
            lambda image: image.resize((9, 7), Image.Resampling.LANCZOS, reducing_gap=2),
            lambda image: image.resize((90, 70), box=(1.5, 2, 20, 20)),
            lambda image: image.reduce(3),
            lambda image: image.rotate(30, expand=True),
            lambda image: image.transpose(Image.Transpose.ROTATE_90),
            lambda image: image.point(lambda value: 255 - value),
            lambda image: image.getchannel("G"),
            lambda image: image.split()[2],
            lambda image: image.quantize(4),
            lambda image: ImageOps.fit(image, (10, 10)),
            lambda image: ImageChops.offset(image, 5),
            lambda image: Image.blend(image, image.copy(), 0.5),
        ],
    )
    def test_pictures_load_themselves(self, data: bytes, use: Callable[[Image.Image], Image.Image]) -> None:
        loaded = Image.open(io.BytesIO(data))
        loaded.load()
        assert use(Image.open(io.BytesIO(data))).tobytes() == use(loaded).tobytes()

    @pytest.mark.parametrize("size", [(1, 1), (5, 3), (10, 10), (16, 5), (39, 39), (40, 24), (400, 400)])
    @pytest.mark.parametrize("gap", [None, 1.0, 2.0, 3.0])
    def test_thumbnails_have_the_size_of_any_pictures_thumbnails(
        self, data: bytes, size: tuple[int, int], gap: float | None
    ) -> None:
        image, expected = Image.open(io.BytesIO(data)), picture()
        image.thumbnail(size, reducing_gap=gap)
        expected.thumbnail(size)
        assert image.size == expected.size
        image.load()
        assert image.tobytes() != bytes(len(image.tobytes()))

    def test_pictures_can_be_drawn_on(self, path: Path) -> None:
        image = Image.open(path)
        ImageDraw.Draw(image).point((3, 2), (9, 8, 7))
        image.paste((1, 2, 3), (0, 0, 2, 2))
        assert image.getpixel((3, 2)) == (9, 8, 7)
        assert image.getpixel((0, 0)) == (1, 2, 3)

    def test_notebooks_can_show_pictures(self, data: bytes) -> None:
        shown = Image.open(io.BytesIO(data))._repr_png_()
        assert shown is not None
        np.testing.assert_array_equal(pixels(io.BytesIO(shown)), pixels(io.BytesIO(data)))


class TestCopies:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize("loaded", [False, True])
    def test_a_pickled_picture_equals_its_original(self, path: Path, protocol: int, loaded: bool) -> None:
        image = Image.open(path)
        if loaded:
            image.load()
        dumped = pickle.dumps(image, protocol)
        path.unlink()
        other = pickle.loads(dumped)
        assert other == image
        assert other is not image
        assert (other.format, other.size, other.info) == (image.format, (40, 24), image.info)
        if "__getstate__" in vars(ImageFile.ImageFile):  # older versions of Pillow forget the name
            assert other.filename == os.fspath(path)

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, Image.Image.copy])
    @pytest.mark.parametrize("loaded", [False, True])
    def test_a_copy_is_independent(
        self, path: Path, copied: Callable[[Image.Image], Image.Image], loaded: bool
    ) -> None:
        image = Image.open(path)
        if loaded:
            image.load()
        other = copied(image)
        assert other.tobytes() == image.tobytes()
        other.putpixel((0, 0), (1, 2, 3))
        other.info["note"] = "mine"
        assert other.tobytes() != image.tobytes()
        assert "note" not in image.info

    def test_info_can_be_pickled(self, sdc: bytes) -> None:
        image = Image.open(io.BytesIO(saved(picture(), exif=b"II*\0\x08\0\0\0\0\0", icc_profile=b"i", xmp=b"x")))
        assert pickle.loads(pickle.dumps(image.info)) == image.info
        image.load()
        assert pickle.loads(pickle.dumps(image.info)) == image.info


class TestFrames:
    def test_a_picture_has_one(self, data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        assert image.tell() == 0
        image.seek(0)
        for frame in (1, -1):
            with pytest.raises(EOFError):
                image.seek(frame)
        assert image.tell() == 0
        image.load()

    def test_sequences_have_one_item(self, data: bytes) -> None:
        image = Image.open(io.BytesIO(data))
        assert [frame.size for frame in ImageSequence.Iterator(image)] == [(40, 24)]
        assert ImageSequence.Iterator(image)[0] is image
        with pytest.raises(IndexError):
            ImageSequence.Iterator(image)[1]
        (frame,) = ImageSequence.all_frames(image)
        assert frame.tobytes() == image.tobytes()

    @pytest.mark.parametrize("options", [{}, {"append_images": []}])
    def test_save_all_saves_the_one_there_is(self, sdc: bytes, options: dict[str, Any]) -> None:
        assert saved(picture(), save_all=True, **options) == sdc

    @pytest.mark.parametrize("animated", [False, True])
    def test_save_all_refuses_several_and_leaves_no_file(self, tmp_path: Path, animated: bool) -> None:
        others = [picture(seed=1), picture(seed=2)]
        image = picture()
        if animated:
            gif = saved(image, "GIF", save_all=True, append_images=others)
            image, others = Image.open(io.BytesIO(gif)), []
        file = tmp_path / "photo.sdc"
        with pytest.raises(OSError, match=SEVERAL_FRAMES):
            image.save(file, save_all=True, append_images=others)
        assert not file.exists()

    def test_append_images_without_save_all_count_as_they_do_for_gif(self, sdc: bytes) -> None:
        options: dict[str, Any] = {"append_images": [picture(seed=1)]}
        frames: Any = Image.open(io.BytesIO(saved(picture(), "GIF", **options)))
        if frames.n_frames == 1:  # older versions of Pillow ignore them
            assert saved(picture(), **options) == sdc
        else:
            with pytest.raises(OSError, match=SEVERAL_FRAMES):
                saved(picture(), **options)

    def test_without_save_all_the_present_frame_is_saved(self) -> None:
        gif = Image.open(io.BytesIO(saved(picture(), "GIF", save_all=True, append_images=[picture(seed=1)])))
        first = saved(gif.convert("RGB"))
        gif.seek(1)
        assert saved(gif, save_all=False) == saved(gif) == saved(gif.convert("RGB")) != first
        assert gif.tell() == 1


class TestSizes:
    @pytest.mark.parametrize("size", [(0, 0), (0, 5), (5, 0)])
    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
    def test_empty_pictures_are_refused_and_leave_no_file(
        self, tmp_path: Path, size: tuple[int, int], mode: str
    ) -> None:
        file = tmp_path / "photo.sdc"
        with pytest.raises(ValueError, match=r"[Ss]ize|width|height"):
            Image.new(mode, size).save(file)
        assert not file.exists()

    @pytest.mark.parametrize("size", [(65535, 1), (1, 65535)])
    def test_strips_may_be_as_long_as_the_format_allows(self, size: tuple[int, int]) -> None:
        image = Image.open(io.BytesIO(saved(Image.new("L", size, 99))))
        assert image.size == size
        image.load()

    @pytest.mark.parametrize("size", [(65536, 1), (1, 65536)])
    def test_longer_ones_are_refused_and_leave_no_file(self, tmp_path: Path, size: tuple[int, int]) -> None:
        file = tmp_path / "photo.sdc"
        with pytest.raises(ValueError, match="65536 is outside the format's range of 1 to 65535"):
            Image.new("L", size).save(file)
        assert not file.exists()


class TestArrays:
    @pytest.mark.parametrize(
        ("mode", "shape"), [("L", (24, 40)), ("LA", (24, 40, 2)), ("RGB", (24, 40, 3)), ("RGBA", (24, 40, 4))]
    )
    def test_numpy_sees_the_samples(self, kind: str, mode: str, shape: tuple[int, ...]) -> None:
        image = Image.open(io.BytesIO(saved(picture(mode=mode), kind)))
        interface: dict[str, Any] = image.__array_interface__
        assert (interface["shape"], interface["typestr"], interface["version"]) == (shape, "|u1", 3)
        assert interface["data"] == image.tobytes()
        array = np.array(image)
        assert array.dtype == np.uint8
        assert array.tobytes() == image.tobytes()
        assert Image.fromarray(array).tobytes() == image.tobytes()

    def test_arrays_need_not_be_contiguous(self) -> None:
        array = np.asarray(picture())[::2, ::-1]
        assert not array.flags.c_contiguous
        assert saved(Image.fromarray(array)) == saved(Image.fromarray(array.copy()))


class TestParallel:
    def test_threads_open_and_load_many_files(self, tmp_path: Path) -> None:
        contents = [saved(picture(seed=seed)) for seed in range(4)]
        expected = [pixels(io.BytesIO(content)) for content in contents]
        paths = [tmp_path / f"{number}.sdc" for number in range(200)]
        for number, file in enumerate(paths):
            file.write_bytes(contents[number % 4])
        with ThreadPoolExecutor(16) as threads:
            for number, samples in enumerate(threads.map(pixels, paths)):
                np.testing.assert_array_equal(samples, expected[number % 4])

    def test_threads_save_pictures(self) -> None:
        pictures = [picture(seed=number % 4) for number in range(64)]
        with ThreadPoolExecutor(16) as threads:
            data = list(threads.map(saved, pictures))
        assert data == 16 * [saved(image) for image in pictures[:4]]

    def test_spawned_processes_open_and_load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")  # what a new process loads in the least time
        file = tmp_path / "photo.sdc"
        picture().save(file)
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            for samples in pool.map(pixels, [file] * 4, chunksize=1):
                np.testing.assert_allclose(samples.astype(int), pixels(file).astype(int), atol=1)


class TestTargets:
    @pytest.mark.parametrize("name", ["photo.sdc", "PHOTO.SDC", "a photo.of.mine.Sdc"])
    @pytest.mark.parametrize("form", [str, Path, os.fsencode])
    def test_a_path_may_have_any_form(self, sdc: bytes, tmp_path: Path, name: str, form: Callable[[Path], Any]) -> None:
        picture().save(form(tmp_path / name))
        assert (tmp_path / name).read_bytes() == sdc

    def test_a_file_tells_the_format_by_its_name(self, sdc: bytes, tmp_path: Path) -> None:
        with (tmp_path / "photo.sdc").open("wb") as file:
            picture().save(file)
            assert not file.closed
        assert (tmp_path / "photo.sdc").read_bytes() == sdc

    def test_a_target_need_not_seek(self, data: bytes, kind: str) -> None:
        reader, writer = os.pipe()
        with open(writer, "wb") as target:  # noqa: PTH123 - a descriptor has no path
            picture().save(target, kind)
        with open(reader, "rb") as source:  # noqa: PTH123
            assert source.read() == data

    def test_a_picture_is_written_where_its_target_stands(self, data: bytes, kind: str) -> None:
        target = io.BytesIO(b"before")
        target.seek(0, io.SEEK_END)
        picture().save(target, kind)
        assert target.getvalue() == b"before" + data
        assert target.tell() == len(target.getvalue())

    def test_a_picture_may_replace_its_own_file(self, path: Path) -> None:
        with Image.open(path) as image:
            image.save(path)
        with Image.open(path) as image:
            image.load()
            image.crop((0, 0, 20, 20)).save(path)
        assert pixels(path).shape == (20, 20, 3)

    def test_a_shorter_file_replaces_a_longer_one(self, path: Path, data: bytes) -> None:
        path.write_bytes(data + bytes(1000))
        picture().save(path)
        assert path.read_bytes() == data

    def test_saving_changes_nothing_of_the_callers(self) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        image = picture()
        image.info["icc_profile"] = b"profile"
        options: dict[str, Any] = {"exif": exif, "xmp": b"x", "icc_profile": None}
        saved(image, **options)
        assert image.info == {"icc_profile": b"profile"}
        assert dict(exif) == {ORIENTATION: 6}
        assert options == {"exif": exif, "xmp": b"x", "icc_profile": None}
        assert saved(image, icc_profile=None) == saved(picture())

    def test_a_picture_can_be_saved_as_any_format(self, sdc: bytes, tmp_path: Path) -> None:
        for extension in ("png", "bmp", "tiff"):
            Image.open(io.BytesIO(sdc)).save(tmp_path / f"photo.{extension}")
            np.testing.assert_array_equal(pixels(tmp_path / f"photo.{extension}"), pixels(io.BytesIO(sdc)))
        with Image.open(tmp_path / "photo.png") as image:
            image.save(tmp_path / "again.sdc")
        assert (tmp_path / "again.sdc").read_bytes() == saved(Image.open(io.BytesIO(sdc)).copy())


class TestMetadata:
    def test_a_colour_profile_goes_from_format_to_format(self) -> None:
        png = saved(Image.open(io.BytesIO(saved(picture(), icc_profile=b"profile"))), "PNG")
        assert Image.open(io.BytesIO(png)).info["icc_profile"] == b"profile"
        assert Image.open(io.BytesIO(saved(Image.open(io.BytesIO(png))))).info["icc_profile"] == b"profile"

    @pytest.mark.parametrize("key", ["exif", "icc_profile", "xmp"])
    @pytest.mark.parametrize("empty", [None, b""])
    def test_what_is_none_or_empty_is_left_out(self, sdc: bytes, key: str, empty: bytes | None) -> None:
        image = picture()
        image.info[key] = b"of the picture"
        options: dict[str, Any] = {key: empty}
        assert saved(image, **options) == sdc
        assert image.info == {key: b"of the picture"}

    def test_a_resolution_that_is_unknown_is_left_out(self, sdc: bytes) -> None:
        # What Pillow makes of many a BMP, and what PNG, JPEG and TIFF take.
        assert saved(picture(), dpi=(0.0, 0.0)) == sdc

    def test_the_orientation_is_kept_until_it_is_applied(self) -> None:
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        data = saved(picture(), exif=exif)
        image = Image.open(io.BytesIO(data))
        assert (image.size, image.getexif()[ORIENTATION]) == ((40, 24), 6)
        upright = ImageOps.exif_transpose(image)
        assert (upright.size, upright.getexif().get(ORIENTATION)) == ((24, 40), None)
        assert upright.tobytes() == image.transpose(Image.Transpose.ROTATE_270).tobytes()
        again = Image.open(io.BytesIO(saved(upright, exif=upright.getexif())))
        assert (again.size, again.getexif().get(ORIENTATION)) == ((24, 40), None)
        lazy = Image.open(io.BytesIO(data))
        ImageOps.exif_transpose(lazy, in_place=True)
        assert (lazy.size, lazy.getexif().get(ORIENTATION)) == ((24, 40), None)
        assert lazy.tobytes() == upright.tobytes()

    def test_two_loads_do_not_differ(self, sdc: bytes) -> None:
        difference = ImageChops.difference(Image.open(io.BytesIO(sdc)), Image.open(io.BytesIO(sdc)))
        assert difference.getbbox() is None


@contextmanager
def files_limited_to(length: int) -> Iterator[None]:
    """Let writes to files fail beyond a length, as they do on a full disk."""
    resource = pytest.importorskip("resource", reason="this system has no limits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Interrupting(Image.Exif):
    """Stops a save midway, as Ctrl+C does."""

    def tobytes(self, offset: int = 8) -> bytes:
        raise KeyboardInterrupt


class TestFailingTargets:
    """WebP, which writes as we do, all at once and to Python's file, is what SDC is held against here."""

    @pytest.fixture(params=["SDC", "WEBP"])
    def kind(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_a_disk_that_fills_up_is_an_error_and_no_file(self, kind: str, tmp_path: Path) -> None:
        file = tmp_path / f"photo.{kind.lower()}"
        image = picture()
        saved(image)  # loads the model, which may write files elsewhere
        with files_limited_to(LARGER_THAN_ANY_BUFFER // 2), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            image.save(file, xmp=os.urandom(LARGER_THAN_ANY_BUFFER))  # what deflate does not shorten
        assert not file.exists()
        image.save(file)
        assert pixels(file).shape == (24, 40, 3)

    @pytest.mark.parametrize("length", [0, 16])
    def test_what_a_full_disk_leaves_of_a_small_file_is_no_picture(
        self, kind: str, tmp_path: Path, length: int
    ) -> None:
        # Pillow closes such a file before it removes it. Closing fails as well where Python still holds all of it.
        file = tmp_path / f"photo.{kind.lower()}"
        saved(picture())
        with files_limited_to(length), pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            picture().save(file)
        if file.exists():
            assert file.stat().st_size == length
            with pytest.raises(OSError, match=r"cannot identify|ends|could not create"):
                Image.open(file)
        picture().save(file)
        assert pixels(file).shape == (24, 40, 3)

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
    def test_a_full_device_is_an_error_and_stays(self, kind: str) -> None:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            picture().save("/dev/full", kind)
        assert Path("/dev/full").exists()

    def test_a_file_that_was_there_is_not_removed(self, kind: str, tmp_path: Path) -> None:
        file = tmp_path / f"photo.{kind.lower()}"
        file.write_bytes(b"something")
        with pytest.raises((OSError, ValueError, MemoryError)):
            Image.new("RGB", (0, 0)).save(file)
        assert file.exists()

    def test_a_save_that_was_interrupted_leaves_no_part_of_a_picture(self, kind: str, tmp_path: Path) -> None:
        file = tmp_path / f"photo.{kind.lower()}"
        image = picture()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # Pillow leaves the file open, and empty, then
            with pytest.raises(KeyboardInterrupt):
                image.save(file, exif=Interrupting())
            gc.collect()
        assert not file.exists() or file.stat().st_size == 0
        image.save(file)
        assert pixels(file).shape == (24, 40, 3)
