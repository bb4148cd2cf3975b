import io
import pickle
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.models import get_models
from pillow_sdc.pipeline import encoding, networks
from pillow_sdc.pipeline.pixels import colour_of

SIZES = [(40, 24), (33, 24), (64, 16), (40, 17), (8, 8), (40, 24), (39, 23)]
MODES = ["RGB", "L", "RGBA", "LA", "P", "CMYK", "RGB"]


@pytest.fixture(autouse=True)
def small_model(tiny_pipeline: Path) -> Iterator[None]:
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu", denoise_steps=2):
        yield


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(0)
    samples = [random.integers(0, 256, (height, width, 3), np.uint8) for width, height in SIZES]
    return [Image.fromarray(array).convert(mode) for array, mode in zip(samples, MODES, strict=True)]


def files() -> list[bytes]:
    """Files whose latents are of unit variance, as those of photographs, so that there is something to denoise."""
    random = np.random.default_rng(0)
    codecs = [
        pillow_sdc_codec(name) for name in ("palette", "context", "uint8", "palette", "context", "palette", "context")
    ]
    made = []
    for (width, height), codec in zip(SIZES, codecs, strict=True):
        header = container.Header(width, height, "RGB", codec.name)
        latents = random.standard_normal((4, *header.latent_shape)).astype(np.float32)
        made.append(container.write(header, codec.encode(latents)))
    return made


def pillow_sdc_codec(name: str) -> Any:
    from pillow_sdc.format.codecs import CODECS

    return CODECS.named(name)()


@pytest.mark.parametrize("batch_size", [None, 1])
def test_one_at_a_time_gives_what_save_gives(batch_size: int | None) -> None:
    given: dict[str, Any] = {"quality": 100, "exif": b"MM", "dpi": (72, 72)}
    expected = [pillow_sdc.encode(picture, **given) for picture in pictures()]
    assert len(set(expected)) == len(expected)
    assert pillow_sdc.encode_batch(pictures(), batch_size=batch_size, **given) == expected


def test_latents_that_are_computed_together_differ_in_their_last_bits_at_most() -> None:
    random = np.random.default_rng(0)
    samples = [random.integers(0, 256, (24, 40, 3), np.uint8) for _ in range(5)]
    autoencoder = get_models(pillow_sdc.settings()).autoencoder
    colours = [colour_of(each) for each in samples]
    for together, colour in zip(networks.encode(colours, (3, 5), autoencoder), colours, strict=True):
        (alone,) = networks.encode([colour], (3, 5), autoencoder)
        np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_latents_of_a_batch_are_those_of_single_pictures(batch_size: int) -> None:
    encoded = pillow_sdc.encode_batch(pictures(), batch_size=batch_size, codec="uint8")
    for data, picture in zip(encoded, pictures(), strict=True):
        with Image.open(io.BytesIO(data)) as image:
            assert image.size == picture.size
        expected = pillow_sdc.read_latents(pillow_sdc.encode(picture, codec="uint8"))
        np.testing.assert_allclose(pillow_sdc.read_latents(data), expected, atol=0.034)  # a step of the codec


@pytest.mark.parametrize("batch_size", [None, 1, 2, 100])
def test_pictures_of_a_batch_are_those_of_single_files(batch_size: int | None) -> None:
    decoded = pillow_sdc.decode_batch(files(), batch_size=batch_size)
    for image, data in zip(decoded, files(), strict=True):
        expected = pillow_sdc.decode(data)
        assert (image.size, image.mode, image.format) == (expected.size, expected.mode, "SDC")
        np.testing.assert_allclose(np.asarray(image, int), np.asarray(expected, int), atol=1)
        assert image.info["sdc"].keys() == expected.info["sdc"].keys()
        for key in ("codec", "model", "denoiser", "denoise_steps", "noise_variance"):
            assert image.info["sdc"][key] == expected.info["sdc"][key]


def test_alpha_and_metadata_go_through() -> None:
    image = pictures()[2]
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    (data,) = pillow_sdc.encode_batch([image], xmp=b"<x/>")
    (decoded,) = pillow_sdc.decode_batch([data])
    assert decoded.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    assert decoded.info["xmp"] == b"<x/>"


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])  # Pillow maps raw pixels of some modes from files with a name
def test_arrays_paths_and_open_files_are_taken(tmp_path: Path, mode: str) -> None:
    picture = pictures()[0].convert(mode)
    (data,) = pillow_sdc.encode_batch([np.asarray(picture)])
    assert data == pillow_sdc.encode(picture)
    path = tmp_path / "photo.sdc"
    path.write_bytes(data)
    expected = np.asarray(pillow_sdc.decode(data))
    with path.open("rb") as fp:
        for image in pillow_sdc.decode_batch([path, str(path), fp, io.BytesIO(data)]):
            np.testing.assert_array_equal(np.asarray(image), expected)
        assert not fp.closed


def test_decoded_pictures_need_no_file_any_more(tmp_path: Path) -> None:
    path = tmp_path / "photo.sdc"
    path.write_bytes(files()[0])
    (image,) = pillow_sdc.decode_batch([path])
    path.unlink()
    again = pickle.loads(pickle.dumps(image))
    assert image.copy().tobytes() == again.tobytes()
    assert image.fp is None  # type: ignore[attr-defined]


class OwnFile(io.BytesIO):
    """A file for the thread that opened it alone: others would move its position."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._owner = threading.get_ident()

    def read(self, size: int | None = -1) -> bytes:
        assert threading.get_ident() == self._owner
        return super().read(size)

    def readinto(self, buffer: Any) -> int:
        assert threading.get_ident() == self._owner
        return super().readinto(buffer)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        assert threading.get_ident() == self._owner
        return super().seek(offset, whence)


def file_of(picture: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format)
    return buffer.getvalue()


def in_a_tar(data: Sequence[bytes]) -> list[Any]:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for number, one in enumerate(data):
            member = tarfile.TarInfo(str(number))
            member.size = len(one)
            archive.addfile(member, io.BytesIO(one))
    opened = tarfile.open(fileobj=OwnFile(buffer.getvalue()))  # noqa: SIM115 - as long as its members
    return [opened.extractfile(member) for member in opened]


def in_a_zip(data: Sequence[bytes]) -> list[Any]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, one in enumerate(data):
            archive.writestr(str(number), one)
    opened = zipfile.ZipFile(OwnFile(buffer.getvalue()))
    return [opened.open(name) for name in opened.namelist()]


def one_file(data: Sequence[bytes]) -> list[Any]:
    return [OwnFile(data[0])] * len(data)


FORMATS = ["PNG", "GIF", "TIFF", "BMP", "JPEG", "WEBP", "SDC"]


@pytest.mark.parametrize("file_format", FORMATS)
def test_one_picture_may_be_given_several_times(file_format: str) -> None:
    data = file_of(pictures()[0], file_format)
    with Image.open(io.BytesIO(data)) as image:
        expected = pillow_sdc.encode(image, codec="uint8")
    for batch_size in (1, 3):
        image = Image.open(OwnFile(data))
        assert pillow_sdc.encode_batch([image] * 6, batch_size=batch_size, threads=2, codec="uint8") == [expected] * 6


@pytest.mark.parametrize("shared", [in_a_tar, in_a_zip])
@pytest.mark.parametrize("file_format", FORMATS)
def test_pictures_may_share_a_file(file_format: str, shared: Callable[[Sequence[bytes]], list[Any]]) -> None:
    data = [file_of(picture.convert("RGB"), file_format) for picture in pictures()]
    expected = [pillow_sdc.encode(one, codec="uint8") for one in data]
    images = [Image.open(member) for member in shared(data)]
    assert pillow_sdc.encode_batch(images, threads=2, codec="uint8") == expected
    assert pillow_sdc.encode_batch(shared(data), threads=2, codec="uint8") == expected


@pytest.mark.parametrize("shared", [in_a_tar, in_a_zip, one_file])
def test_sources_may_share_a_file(shared: Callable[[Sequence[bytes]], list[Any]]) -> None:
    data = files()[:1] * 6 if shared is one_file else files()
    expected = [np.asarray(pillow_sdc.decode(one)) for one in data]
    for image, samples in zip(pillow_sdc.decode_batch(shared(data), threads=2), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(image), samples)


def levels() -> list[int]:
    return list(range(0, 256, 36))


def closed_again(path: Path) -> Iterator[Image.Image]:
    for _ in levels():
        with Image.open(path) as image:
            yield image


def painted_over(path: Path) -> Iterator[Image.Image]:
    with Image.open(path) as image:
        for level in levels():
            yield image
            image.paste((level, level, level), (0, 0, 16, 16))


def one_buffer(path: Path) -> Iterator[np.ndarray[Any, Any]]:
    with Image.open(path) as image:
        samples = np.array(image)
    for level in levels():
        yield samples
        samples[:16, :16] = level


def frame_by_frame(path: Path) -> Iterator[Image.Image]:
    with Image.open(path.with_suffix(".gif")) as image:
        for frame in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(frame)
            yield image


@pytest.mark.parametrize("given", [closed_again, painted_over, one_buffer, frame_by_frame])
def test_pictures_are_taken_as_they_are_when_they_are_given(tmp_path: Path, given: Callable[[Path], Any]) -> None:
    path = tmp_path / "photo.png"
    picture = pictures()[0]
    picture.save(path)
    frames = [Image.new("RGB", picture.size, (level, 0, level)) for level in levels()]
    picture.save(path.with_suffix(".gif"), save_all=True, append_images=frames)
    expected = [pillow_sdc.encode(image, codec="uint8") for image in given(path)]
    assert len(set(expected)) == (1 if given is closed_again else len(expected))
    assert pillow_sdc.encode_batch(given(path), threads=1, codec="uint8") == expected


@pytest.mark.parametrize("kind", [io.BytesIO, bytearray])
def test_files_are_taken_as_they_are_when_they_are_given(kind: type) -> None:
    def written_over() -> Iterator[Any]:
        buffer: Any = kind()
        for data in files():
            if isinstance(buffer, bytearray):
                buffer[:] = data
            else:
                buffer.seek(0)
                buffer.truncate()
                buffer.write(data)
            yield buffer

    expected = [np.asarray(pillow_sdc.decode(data)) for data in files()]
    for image, samples in zip(pillow_sdc.decode_batch(written_over(), threads=1), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(image), samples)


def test_paths_and_bytes_are_opened_in_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.png").write_bytes(file_of(pictures()[0], "PNG"))
    (tmp_path / "photo.sdc").write_bytes(files()[0])
    openers = []
    opened = Image.open

    def recorded(*args: Any, **options: Any) -> Image.Image:
        openers.append(threading.get_ident())
        return opened(*args, **options)

    monkeypatch.setattr(Image, "open", recorded)
    pillow_sdc.encode_batch([tmp_path / "photo.png", str(tmp_path / "photo.png"), file_of(pictures()[0], "PNG")])
    pillow_sdc.decode_batch([tmp_path / "photo.sdc", str(tmp_path / "photo.sdc"), files()[0]])
    assert len(openers) == 6
    assert threading.get_ident() not in openers


def test_exif_of_all_is_read_once_in_the_callers_thread(tmp_path: Path) -> None:
    class OwnExif(Image.Exif):
        owner = threading.get_ident()

        def tobytes(self, offset: int = 8) -> bytes:
            assert threading.get_ident() == self.owner
            return super().tobytes(offset)

    path = tmp_path / "photo.png"
    pictures()[0].save(path)
    exif = OwnExif()
    exif[0x0112] = 6
    for data in pillow_sdc.encode_batch([path, path], exif=exif):
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif()[0x0112] == 6


@pytest.mark.parametrize("one", ["photo.png", Path("photo.png"), b"GIF89a", bytearray(), io.BytesIO()])
def test_a_single_file_is_not_several(one: Any) -> None:
    for function in (pillow_sdc.encode_batch, pillow_sdc.decode_batch):
        with pytest.raises(TypeError, match=f"type {type(one).__name__} is a single item; give a list"):
            function(one)


def test_a_single_picture_is_not_several() -> None:
    with pytest.raises(TypeError, match="type Image is a single item; give a list"):
        pillow_sdc.encode_batch(pictures()[0])  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_what_fails_does_not_take_the_others_with_it(batch_size: int) -> None:
    sound = files()
    damaged = bytearray(sound[1])
    damaged[-3] ^= 1
    sources: list[Any] = [sound[0], b"GIF89a", damaged, sound[3], Path("missing.sdc")]
    with pytest.raises(
        pillow_sdc.BatchError, match="3 of 5 pictures failed; the first, number 1: not an SDC file, but a GIF"
    ) as caught:
        pillow_sdc.decode_batch(sources, batch_size=batch_size)
    results, errors = caught.value.results, caught.value.errors
    assert [result is None for result in results] == [False, True, True, False, True]
    assert {index: type(error) for index, error in errors.items()} == {
        1: UnidentifiedImageError,
        2: pillow_sdc.CorruptFileError,
        4: FileNotFoundError,
    }
    assert results[3].size == SIZES[3]


def test_pictures_that_cannot_be_written_are_reported() -> None:
    with pytest.raises(pillow_sdc.BatchError, match=r"1 of 2 .* cannot write mode F as SDC") as caught:
        pillow_sdc.encode_batch([Image.new("F", (8, 8)), pictures()[0]])
    assert caught.value.results == [None, pillow_sdc.encode(pictures()[0])]
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    assert again.results == caught.value.results


def test_options_that_make_no_sense_are_an_error_of_each() -> None:
    with pytest.raises(pillow_sdc.BatchError, match="quality is 0") as caught:
        pillow_sdc.encode_batch(pictures()[:2], quality=0)
    assert all(isinstance(error, pillow_sdc.OptionError) for error in caught.value.errors.values())
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        pillow_sdc.encode_batch(pictures(), batch_size=0)


def test_a_group_that_fails_is_tried_in_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    together = encoding.compute
    sizes = []

    def with_little_memory(images: Sequence[encoding.PreparedImage]) -> Any:
        sizes.append(len(images))
        if len(images) > 2:
            raise pillow_sdc.ModelFailedError("out of memory")
        if any(np.all(image.samples == 255) for image in images):
            raise pillow_sdc.ModelFailedError("not finite")
        return together(images)

    monkeypatch.setattr(encoding, "compute", with_little_memory)
    images = [Image.new("L", (16, 16), level) for level in (0, 50, 255, 100, 150)]
    with pytest.raises(
        pillow_sdc.BatchError, match="1 of 5 pictures failed; the first, number 2: not finite"
    ) as caught:
        pillow_sdc.encode_batch(images, batch_size=5)
    assert [result is None for result in caught.value.results] == [False, False, True, False, False]
    assert sizes == [5, 2, 3, 1, 2]


def test_settings_of_a_block_hold_in_its_threads() -> None:
    (data, *_) = files()
    with pillow_sdc.configure(denoise_steps=0):
        (image,) = pillow_sdc.decode_batch([data])
    assert image.info["sdc"]["denoise_steps"] == 0


def test_pictures_are_taken_as_the_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    taken, seen = 0, []
    together = encoding.compute

    def count_taken(images: Sequence[encoding.PreparedImage]) -> Any:
        seen.append(taken)
        return together(images)

    def many() -> Iterator[Image.Image]:
        nonlocal taken
        for taken in range(1, 41):
            yield Image.new("L", (8 * (taken % 7) + 8, 8))

    monkeypatch.setattr(encoding, "compute", count_taken)
    assert len(pillow_sdc.encode_batch(many(), batch_size=2)) == 40
    assert seen[0] <= 3 * (4 * 2 + 1)
    assert len(set(seen)) > 3


def test_nothing_gives_nothing() -> None:
    assert pillow_sdc.encode_batch([]) == []
    assert pillow_sdc.decode_batch(iter(())) == []


def test_a_profile_that_comes_after_the_pixels_is_kept_as_by_encode() -> None:
    buffer = io.BytesIO()
    pictures()[0].save(buffer, "PNG", icc_profile=b"a profile")
    png = buffer.getvalue()
    start, pixels, end = png.index(b"iCCP") - 4, png.index(b"IDAT") - 4, png.index(b"IEND") - 4
    late = png[:start] + png[pixels:end] + png[start:pixels] + png[end:]
    (file,) = pillow_sdc.encode_batch([late])
    assert file == pillow_sdc.encode(late)
    with Image.open(io.BytesIO(file)) as image:
        assert image.info["icc_profile"] == b"a profile"
