import io
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_models import PlainModels, Samples, ZeroDenoiser, blocks, models

from pillow_sdc.errors import InsufficientMemoryError
from pillow_sdc.format import container
from pillow_sdc.format.codecs import PaletteCodec, QuantisedLatents, Uint8Codec
from pillow_sdc.models import Models
from pillow_sdc.pipeline import stages
from pillow_sdc.progress import Steps


def decode(data: bytes, using: Models, steps: int = 4) -> stages.DecodedImage:
    fp = io.BytesIO(data)
    layout = container.read_layout(fp)
    (decoded,) = stages.decode([stages.read(fp, layout)], using, steps)
    return decoded


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_every_size_is_padded_with_its_edge_and_cropped_exactly(height: int, width: int) -> None:
    samples = blocks(height, width)
    decoded = decode(stages.encode(samples, Uint8Codec(), models()), models())
    assert decoded.samples.shape == samples.shape
    assert np.abs(decoded.samples.astype(int) - samples).max() <= 3


def test_grey_pictures_stay_grey() -> None:
    samples = blocks(21, 30, 1)[:, :, 0]
    data = stages.encode(samples, Uint8Codec(), models())
    assert container.read_layout(io.BytesIO(data)).header.mode == "L"
    decoded = decode(data, models()).samples
    assert decoded.shape == samples.shape
    assert np.abs(decoded.astype(int) - samples).max() <= 3


def test_large_pictures_are_computed_in_tiles_without_seams() -> None:
    samples = blocks(8, 8 * (2 * stages.TILE + 7))
    using = models()
    decoded = decode(stages.encode(samples, Uint8Codec(), using), using).samples
    autoencoder = cast("PlainModels", using).autoencoder
    assert 4 * stages.TILE < autoencoder.largest <= 8 * stages.TILE
    assert np.abs(decoded.astype(int) - samples).max() <= 3


@pytest.mark.parametrize("size", [(1, 65535), (65535, 1)])
def test_the_longest_strips_keep_their_size(size: tuple[int, int]) -> None:
    decoded = decode(stages.encode(np.zeros((*size, 3), np.uint8), PaletteCodec(), models()), models())
    assert decoded.samples.shape == (*size, 3)


def test_noise_is_removed_with_as_many_evaluations_as_asked() -> None:
    denoiser = ZeroDenoiser()
    noisy = np.random.default_rng(0).standard_normal((4, 20, 20)).astype(np.float32)
    payload = PaletteCodec(palette_size=8).encode(noisy)
    data = container.write(container.Header(160, 160, "RGB", "palette"), payload)
    decoded = decode(data, models(denoiser), steps=3)
    assert (decoded.denoiser, decoded.denoise_steps, denoiser.evaluations) == ("zero", 3, 3)
    for undenoised in (decode(data, models(denoiser), steps=0), decode(data, models(None), steps=3)):
        assert (undenoised.denoiser, undenoised.denoise_steps) == (None, 0)
    assert denoiser.evaluations == 3


def test_the_decoder_is_told_what_noise_the_denoiser_left() -> None:
    noisy = np.random.default_rng(0).standard_normal((4, 20, 20)).astype(np.float32)
    data = container.write(container.Header(160, 160, "RGB", "palette"), PaletteCodec(palette_size=8).encode(noisy))
    for denoiser, steps in ((ZeroDenoiser(), 1), (ZeroDenoiser(), 0), (None, 1)):
        using = models(denoiser)
        decoded = decode(data, using, steps)
        assert decoded.noise_variance > 0.1
        left = 0.0 if decoded.denoise_steps else decoded.noise_variance
        assert cast("PlainModels", using).autoencoder.noise_variances == {left}


def test_no_denoiser_is_loaded_where_there_is_nothing_to_denoise() -> None:
    using = models(ZeroDenoiser())
    assert decode(stages.encode(blocks(16, 16), Uint8Codec(), models()), using).denoise_steps == 0
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
        stages.encode(samples, Uint8Codec(), models())


def test_a_picture_larger_than_the_format_allows_is_refused() -> None:
    with pytest.raises(ValueError, match="width 65536 is outside the format's range"):
        stages.encode(np.zeros((1, 65536), np.uint8), Uint8Codec(), models())


def test_memory_that_runs_out_is_an_oserror(monkeypatch: pytest.MonkeyPatch) -> None:
    data = stages.encode(blocks(16, 16), Uint8Codec(), models())

    def exhausted(payload: bytes, rows: int, columns: int, steps: Steps) -> QuantisedLatents:
        raise MemoryError

    monkeypatch.setattr(Uint8Codec, "decode", exhausted)
    with pytest.raises(InsufficientMemoryError, match="16×16"):
        decode(data, models())
