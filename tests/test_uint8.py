"""The codec ``uint8``: the article's 8-bit levels, without loss but rounding's."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from pillow_sdc.errors import CorruptFileError
from pillow_sdc.format.bounded import deflate
from pillow_sdc.format.codecs import LatentCodec, PaletteCodec, QuantisedLatents, Uint8Codec
from pillow_sdc.format.eight_bit import ROUNDING_VARIANCE, STEP, from_levels, round_levels, to_levels

FORMAT = Path(__file__).parent.parent / "docs" / "format.md"

shapes = st.tuples(st.just(4), st.integers(1, 24), st.integers(1, 24))
latents_of_any_size = st.floats(-(2.0**120), 2.0**120, width=32)
any_levels = npst.arrays(np.uint8, shapes)


def round_trip(latents: NDArray[np.float32]) -> QuantisedLatents:
    return Uint8Codec.decode(Uint8Codec().encode(latents), *latents.shape[1:])


def levels_of(latents: NDArray[np.float32]) -> NDArray[np.uint8]:
    return round_levels(to_levels(latents))


def article_quantize(unscaled: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the article's levels of latents that are not multiplied by 0.18215, in its own arithmetic."""
    return (np.clip(unscaled / (255 * 0.18215) + 0.5, 0, 1) * 255 + 0.5).astype(np.uint8)


def article_unquantize(levels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return (levels / 255.0 - 0.5) * (255 * 0.18215)


def test_levels_are_the_articles() -> None:
    unscaled = np.random.default_rng(1).normal(0, 8, (4, 64, 64))
    scaled = (unscaled * 0.18215).astype(np.float32)
    np.testing.assert_array_equal(levels_of(scaled), article_quantize(scaled.astype(np.float64) / 0.18215))


def test_dequantised_latents_are_the_articles() -> None:
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(from_levels(levels), article_unquantize(levels) * 0.18215, rtol=1e-6, atol=1e-7)


def test_step_is_that_of_the_specification() -> None:
    stated = re.search(r"STEP = 0\.18215 · 0\.18215, as float `(\S+)`", FORMAT.read_text("utf-8"))
    assert stated is not None
    assert float.fromhex(stated[1]) == STEP == 0.18215 * 0.18215


def test_range_is_about_plus_and_minus_4_23() -> None:
    ends = round_trip(np.array([-1e30, 1e30, -4.23, 4.23], np.float32).repeat(4).reshape(4, 2, 2)).latents
    np.testing.assert_allclose(ends.reshape(4, 4)[:, 0], [-4.2303, 4.2303, -4.2303, 4.2303], atol=1e-4)


def test_levels_are_given_back_exactly() -> None:
    levels = np.arange(4 * 256, dtype=np.int64).astype(np.uint8).reshape(4, 16, 16)
    np.testing.assert_array_equal(levels_of(round_trip(from_levels(levels)).latents), levels)


def test_error_is_that_of_rounding() -> None:
    latents = np.random.default_rng(2).normal(0, 1, (4, 128, 128)).clip(-4.2, 4.2).astype(np.float32)
    quantised = round_trip(latents)
    error = quantised.latents.astype(np.float64) - latents
    assert np.mean(error**2) == pytest.approx(STEP**2 / 12, rel=0.02)
    assert np.abs(error).max() <= STEP / 2 + 1e-6
    assert quantised.noise_variance == ROUNDING_VARIANCE == STEP**2 / 12


def test_payload_of_512_pixels_is_about_13_kilobytes() -> None:
    latents = np.random.default_rng(3).normal(0, 0.9, (4, 64, 64)).astype(np.float32)
    assert 11_000 < len(Uint8Codec().encode(latents)) < 15_000


def test_encoding_is_repeatable() -> None:
    latents = np.random.default_rng(4).normal(0, 1, (4, 8, 9)).astype(np.float32)
    assert Uint8Codec().encode(latents) == Uint8Codec().encode(latents.copy(order="F"))


def test_encoding_leaves_the_latents_as_they_are() -> None:
    latents = np.random.default_rng(5).normal(0, 9, (4, 8, 9)).astype(np.float32)
    before = latents.copy()
    Uint8Codec().encode(latents)
    np.testing.assert_array_equal(latents, before)


@given(levels=any_levels)
def test_any_levels_round_trip(levels: NDArray[np.uint8]) -> None:
    latents = from_levels(levels)
    quantised = round_trip(latents)
    assert quantised.latents.dtype == np.float32
    np.testing.assert_array_equal(quantised.latents, latents)


@given(latents=npst.arrays(np.float32, shapes, elements=latents_of_any_size))
def test_any_finite_latents_round_trip_to_the_nearest_level(latents: NDArray[np.float32]) -> None:
    decoded = round_trip(latents).latents
    clamped = np.clip(latents.astype(np.float64), -127.5 * STEP, 127.5 * STEP)
    assert np.abs(decoded - clamped).max() <= STEP / 2 + 1e-6


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (1, 8192), (2, 3)])
@pytest.mark.parametrize("level", [0, 127, 128, 255])
def test_flat_latents_of_awkward_shapes_round_trip(shape: tuple[int, int], level: int) -> None:
    latents = from_levels(np.full((4, *shape), level, np.uint8))
    np.testing.assert_array_equal(round_trip(latents).latents, latents)


@pytest.mark.parametrize("codec", [Uint8Codec(), PaletteCodec()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_latents_that_are_not_finite_are_refused(codec: LatentCodec, value: float) -> None:
    latents = np.zeros((4, 3, 3), np.float32)
    latents[2, 1, 0] = value
    with pytest.raises(ValueError, match="not finite"):
        codec.encode(latents)


@pytest.mark.parametrize("codec", [Uint8Codec(), PaletteCodec()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("shape", [(), (4,), (4, 3), (3, 3, 3), (5, 3, 3), (4, 0, 3), (4, 3, 0), (1, 4, 3, 3)])
def test_latents_of_another_shape_are_refused(codec: LatentCodec, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected \\(4, h, w\\)"):
        codec.encode(np.zeros(shape, np.float32))


def test_bytes_after_the_last_plane_are_refused() -> None:
    payload = Uint8Codec().encode(np.zeros((4, 2, 2), np.float32))
    with pytest.raises(CorruptFileError, match="1 bytes after its end"):
        Uint8Codec.decode(payload + b"\0", 2, 2)


@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (3, 2), (1, 1), (5, 5), (8192, 8192)])
def test_payload_of_another_size_is_refused(rows: int, columns: int) -> None:
    payload = Uint8Codec().encode(np.zeros((4, 2, 2), np.float32))
    with pytest.raises(CorruptFileError, match="bytes expected of"):
        Uint8Codec.decode(payload, rows, columns)


@pytest.mark.parametrize("length", range(12))
def test_truncated_payload_is_refused(length: int) -> None:
    payload = Uint8Codec().encode(np.zeros((4, 2, 2), np.float32))
    assert length < len(payload)
    with pytest.raises(CorruptFileError, match="deflate"):
        Uint8Codec.decode(payload[:length], 2, 2)


@pytest.mark.parametrize("codec", [Uint8Codec, PaletteCodec], ids=lambda codec: codec.name)
@given(payload=st.binary(max_size=64), rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_arbitrary_payloads_are_decoded_or_refused(
    codec: type[LatentCodec], payload: bytes, rows: int, columns: int
) -> None:
    decoded_or_refused(codec, payload, rows, columns)


@pytest.mark.parametrize("codec", [Uint8Codec, PaletteCodec], ids=lambda codec: codec.name)
@given(
    head=st.binary(max_size=3),
    contents=st.lists(st.binary(max_size=40), max_size=5),
    tail=st.binary(max_size=2),
    rows=st.integers(1, 6),
    columns=st.integers(1, 6),
)
def test_arbitrary_contents_of_sound_streams_are_decoded_or_refused(
    codec: type[LatentCodec], head: bytes, contents: list[bytes], tail: bytes, rows: int, columns: int
) -> None:
    decoded_or_refused(codec, head + b"".join(map(deflate, contents)) + tail, rows, columns)


@given(data=st.data(), entries=st.integers(1, 256), flags=st.sampled_from([0, 1]))
def test_any_palette_and_indices_are_decoded_or_refused(data: st.DataObject, entries: int, flags: int) -> None:
    palette = data.draw(st.binary(min_size=4 * entries, max_size=4 * entries))
    indices = data.draw(st.binary(min_size=12, max_size=12))
    payload = bytes([entries - 1, flags]) + deflate(palette) + deflate(indices)
    if max(indices) < entries:
        quantised = PaletteCodec.decode(payload, 3, 4)
        assert ROUNDING_VARIANCE <= quantised.noise_variance < 4.3**2 * 16
    else:
        with pytest.raises(CorruptFileError, match="outside the palette"):
            PaletteCodec.decode(payload, 3, 4)


def decoded_or_refused(codec: type[LatentCodec], payload: bytes, rows: int, columns: int) -> None:
    try:
        quantised = codec.decode(payload, rows, columns)
    except CorruptFileError:
        return
    assert quantised.latents.shape == (4, rows, columns)
    assert np.abs(quantised.latents).max() < 4.24
    assert quantised.noise_variance >= ROUNDING_VARIANCE


@pytest.mark.parametrize("codec", [Uint8Codec, PaletteCodec], ids=lambda codec: codec.name)
@pytest.mark.parametrize("payload", [b"", b"\0", b"\0\0", bytes(5000), deflate(bytes(1 << 24)), b"\xff" * 5000])
def test_payloads_that_promise_much_take_little_memory(codec: type[LatentCodec], payload: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError):
            codec.decode(payload, 8192, 8192)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
