import io
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plain_models import PlainModels, Samples, ZeroDenoiser, blocks, decoded, encoded, in_use, models

import pillow_sdc
from pillow_sdc import api, saving
from pillow_sdc.errors import InsufficientMemoryError
from pillow_sdc.format import container
from pillow_sdc.format.codecs import PaletteCodec, QuantisedLatents, Uint8Codec
from pillow_sdc.pipeline import encoding, networks
from pillow_sdc.progress import Steps


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_every_size_is_padded_with_its_edge_and_cropped_exactly(height: int, width: int) -> None:
    samples = blocks(height, width)
    picture = decoded(encoded(samples, Uint8Codec(), models()), models())
    assert picture.samples.shape == samples.shape
    assert np.abs(picture.samples.astype(int) - samples).max() <= 3


def test_grey_pictures_stay_grey() -> None:
    samples = blocks(21, 30, 1)[:, :, 0]
    data = encoded(samples, Uint8Codec(), models())
    assert container.read_layout(io.BytesIO(data)).header.mode == "L"
    picture = decoded(data, models()).samples
    assert picture.shape == samples.shape
    assert np.abs(picture.astype(int) - samples).max() <= 3


def test_large_pictures_are_computed_in_tiles_without_seams() -> None:
    samples = blocks(8, 8 * (2 * networks.TILE + 7))
    using = models()
    picture = decoded(encoded(samples, Uint8Codec(), using), using).samples
    autoencoder = cast("PlainModels", using).autoencoder
    assert 4 * networks.TILE < autoencoder.largest <= 8 * networks.TILE
    assert np.abs(picture.astype(int) - samples).max() <= 3


@pytest.mark.parametrize("size", [(1, 65535), (65535, 1)])
def test_the_longest_strips_keep_their_size(size: tuple[int, int]) -> None:
    picture = decoded(encoded(np.zeros((*size, 3), np.uint8), PaletteCodec(), models()), models())
    assert picture.samples.shape == (*size, 3)


def test_noise_is_removed_with_as_many_evaluations_as_asked() -> None:
    denoiser = ZeroDenoiser()
    noisy = np.random.default_rng(0).standard_normal((4, 20, 20)).astype(np.float32)
    payload = PaletteCodec(palette_size=8).encode(noisy)
    data = container.write(container.Header(160, 160, "RGB", "palette"), payload)
    picture = decoded(data, models(denoiser), denoise_steps=3)
    assert (picture.denoiser, picture.denoise_steps, denoiser.evaluations) == ("zero", 3, 3)
    for undenoised in (decoded(data, models(denoiser), denoise_steps=0), decoded(data, models(None), denoise_steps=3)):
        assert (undenoised.denoiser, undenoised.denoise_steps) == (None, 0)
    assert denoiser.evaluations == 3


def test_the_decoder_is_given_what_noise_the_denoiser_left() -> None:
    noisy = np.random.default_rng(0).standard_normal((4, 20, 20)).astype(np.float32)
    data = container.write(container.Header(160, 160, "RGB", "palette"), PaletteCodec(palette_size=8).encode(noisy))
    for denoiser, steps in ((ZeroDenoiser(), 1), (ZeroDenoiser(), 0), (None, 1)):
        using = models(denoiser)
        picture = decoded(data, using, steps)
        noise_variance = picture.stored.quantised.noise_variance
        assert noise_variance > 0.1
        left = 0.0 if picture.denoise_steps else noise_variance
        assert cast("PlainModels", using).autoencoder.noise_variances == {left}


def test_no_denoiser_is_loaded_where_there_is_nothing_to_denoise() -> None:
    using = models(ZeroDenoiser())
    assert decoded(encoded(blocks(16, 16), Uint8Codec(), models()), using).denoise_steps == 0
    assert not cast("PlainModels", using).denoiser_was_loaded


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros((4, 4, 1), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(samples: Samples) -> None:
    with pytest.raises(ValueError, match=r"expected uint8|smallest picture"):
        pillow_sdc.encode(samples)


def test_a_picture_larger_than_the_format_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="width 65536 is outside the format's range"):
        encoded(np.zeros((1, 65536), np.uint8), Uint8Codec(), models())


def test_memory_that_runs_out_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(blocks(16, 16), Uint8Codec(), models())

    def exhausted(payload: bytes, rows: int, columns: int, steps: Steps) -> QuantisedLatents:
        raise MemoryError

    monkeypatch.setattr(Uint8Codec, "decode", exhausted)
    with pytest.raises(InsufficientMemoryError, match="16×16"):
        decoded(data, models())


def counting(calls: Counter[str], monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    """Count the calls of a function."""
    function = getattr(owner, name)

    def counted(*args: Any, **named: Any) -> Any:
        calls[name] += 1
        return function(*args, **named)

    monkeypatch.setattr(owner, name, counted)


def by_save(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "SDC", exif=b"MM")
    return file.getvalue()


def by_encode(image: Image.Image) -> bytes:
    return pillow_sdc.encode(image, exif=b"MM")


def by_encode_batch(image: Image.Image) -> bytes:
    with in_use(models()):
        (data,) = pillow_sdc.encode_batch([image], exif=b"MM")
        return data


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("encode", [by_save, by_encode, by_encode_batch])
def test_options_mode_size_and_header_are_checked_once(
    encode: Callable[[Image.Image], bytes], again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image: Image.Image = Image.new("PA", (20, 12))
    with in_use(models()):
        image = Image.open(io.BytesIO(by_save(image))) if again else image
        if again:
            image.load()
        calls: Counter[str] = Counter()
        for owner, name in (
            (saving, "save_options"),
            (saving, "stored_mode"),
            (container, "check_size"),
            (container, "_metadata_chunk"),
            (container, "Header"),
            (encoding, "prepare"),
            (encoding, "compute"),
            (encoding, "finish"),
        ):
            counting(calls, monkeypatch, owner, name)
        data = encode(image)
    assert container.read_layout(io.BytesIO(data)).header.size == (20, 12)
    calls["Header"] -= 1  # that was read just now
    assert calls == dict.fromkeys(calls, 1)
    assert len(calls) == 8


def test_pictures_of_a_group_have_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each item may bring a model of its own."""
    used = []
    compute = encoding.compute

    def recorded(pictures: Any) -> Any:
        used.append([picture.options.settings.device for picture in pictures])
        return compute(pictures)

    monkeypatch.setattr(encoding, "compute", recorded)
    with in_use(models()):
        api.encode_each(
            ["cpu", "cuda", "cpu"],
            lambda device: (Image.new("L", (8, 8)), {"device": device}),
            lambda device, encoded: None,
            batch_size=3,
            threads=1,
        )
    assert sorted(used) == [["cpu", "cpu"], ["cuda"]]


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_what_is_known_of_a_file_comes_with_it(mode: str) -> None:
    image = Image.new(mode, (20, 12))
    with in_use(models()):
        (encoded,) = api.encode_each([image], lambda image: (image, {"codec": "uint8"}), lambda image, encoded: encoded)
        (again,) = api.encode_each([encoded.data], lambda data: (data, {}), lambda data, encoded: encoded)
    about = pillow_sdc.info(encoded.data)
    header = encoded.header
    assert (header.width, header.height, header.mode, header.codec) == (20, 12, mode, "uint8")
    assert header.bits_per_pixel(len(encoded.data)) == about.bits_per_pixel
    assert (encoded.model, again.model) == ("means", None)
    assert (again.data, again.header) == (encoded.data, header)


@pytest.mark.parametrize("encode", [pillow_sdc.encode, pillow_sdc.encode_latents])
def test_memory_that_runs_out_while_encoding_is_an_oserror(encode: Callable[[Any], Any]) -> None:
    def exhausted(pixels: Any) -> Any:
        raise MemoryError

    using = models()
    using.autoencoder.encode = exhausted  # type: ignore[method-assign]
    with in_use(using), pytest.raises(InsufficientMemoryError, match="16×12"):
        encode(Image.new("RGB", (16, 12)))


def test_encode_refuses_several_frames_where_all_are_asked_for() -> None:
    frames = [Image.new("L", (8, 8), level) for level in (0, 255)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with in_use(models()):
        assert pillow_sdc.info(pillow_sdc.encode(file)).width == 8
        assert pillow_sdc.encode(frames[0], save_all=True) == pillow_sdc.encode(frames[0])
        with pytest.raises(OSError, match="cannot write 2 frames as SDC"):
            pillow_sdc.encode(file, save_all=True)
        with pytest.raises(OSError, match="cannot write 2 frames as SDC"):
            pillow_sdc.encode(frames[0], append_images=frames[1:])
