import contextlib
import io
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from pillow_sdc.errors import CorruptFileError, UnsupportedFileError
from pillow_sdc.format import alpha as alpha_plane
from pillow_sdc.format.alpha import BINARY, CONSTANT, PARTIAL, RECTANGLE, ColourShown

Samples = NDArray[np.uint8]

levels = st.sampled_from([[0, 255], [0, 128, 255], [0, 1, 2, 254, 255], list(range(256)), [7]])


@st.composite
def planes(draw: st.DrawFn) -> Samples:
    shape = draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    return draw(hnp.arrays(np.uint8, shape, elements=st.sampled_from(draw(levels)), fill=st.just(draw(levels)[0])))


def brought_back(alpha: Samples) -> Samples:
    height, width = alpha.shape
    return alpha_plane.decode(alpha_plane.encode(alpha), width, height)


@settings(max_examples=200, deadline=None)
@given(planes())
def test_every_plane_comes_back_as_it_was(alpha: Samples) -> None:
    np.testing.assert_array_equal(brought_back(alpha), alpha)


@pytest.mark.parametrize("size", [(1, 65535), (65535, 1), (300, 301)])
def test_strips_and_noise_come_back(size: tuple[int, int]) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    np.testing.assert_array_equal(brought_back(alpha), alpha)


@pytest.mark.parametrize("opaque", [0, 90, 255])
def test_a_plane_of_one_value_takes_two_bytes(opaque: int) -> None:
    data = alpha_plane.encode(np.full((4096, 4096), opaque, np.uint8))
    assert data == bytes([CONSTANT, opaque])


def test_a_rectangle_takes_eleven_bytes() -> None:
    alpha = np.zeros((4096, 4096), np.uint8)
    alpha[100:300, 7:4096] = 255
    data = alpha_plane.encode(alpha)
    assert data[0] == RECTANGLE
    assert len(data) == 11
    np.testing.assert_array_equal(alpha_plane.decode(data, 4096, 4096), alpha)


def disc(side: int, soft: float) -> Samples:
    y, x = np.mgrid[:side, :side]
    inwards = side / 3 - np.hypot(y - side / 2, x - side / 2)
    return (255 * np.clip(inwards / soft + 0.5, 0, 1)).round().astype(np.uint8)


def test_a_hard_edge_needs_no_values() -> None:
    data = alpha_plane.encode(disc(512, 1e-9))
    assert data[0] == BINARY
    assert len(data) < 900


def test_a_soft_edge_costs_less_than_in_png() -> None:
    alpha = disc(512, 8)
    png = io.BytesIO()
    Image.fromarray(alpha).save(png, "PNG", optimize=True)
    data = alpha_plane.encode(alpha)
    assert data[0] == PARTIAL
    assert len(data) < 0.8 * png.tell()


@given(planes(), st.sampled_from([4, 8]))
def test_reducing_takes_means_of_squares(alpha: Samples, factor: int) -> None:
    reduced = alpha_plane.reduce(alpha, factor)
    height, width = alpha.shape
    assert reduced.shape == (-(-height // factor), -(-width // factor))
    for (y, x), value in np.ndenumerate(reduced):
        square = alpha[factor * y : factor * y + factor, factor * x : factor * x + factor]
        assert abs(value - square.mean()) <= 0.5


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.integers(1, 40), st.integers(1, 40))
def test_no_bytes_make_it_fail_otherwise_than_by_an_error_of_its_own(data: bytes, width: int, height: int) -> None:
    with contextlib.suppress(CorruptFileError):
        assert alpha_plane.decode(data, width, height).shape == (height, width)


@settings(max_examples=300, deadline=None)
@given(planes(), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_gives_a_plane_or_an_error(alpha: Samples, position: int, change: int) -> None:
    data = bytearray(alpha_plane.encode(alpha))
    data[position % len(data)] ^= change
    with contextlib.suppress(CorruptFileError):
        assert alpha_plane.decode(bytes(data), *alpha.shape[::-1]).shape == alpha.shape


def test_a_python_without_lzma_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(UnsupportedFileError, match="needs the module lzma"):
        alpha_plane.encode(disc(64, 8))
    assert alpha_plane.encode(np.full((8, 8), 255, np.uint8)) == b"\0\xff"


def test_colours_that_are_shown_stay() -> None:
    random = np.random.default_rng(0)
    colour, alpha = random.integers(0, 256, (50, 70, 3), np.uint8), disc(70, 20)[:50]
    shown = ColourShown(colour, alpha)[0:50, 0:70]
    np.testing.assert_array_equal(shown[alpha > 0], colour[alpha > 0])


def test_hidden_colours_are_flat_and_do_not_depend_on_what_they_were() -> None:
    colour, alpha = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
    colour[:, :40], alpha[:, :40] = (200, 100, 50), 255
    colour[:, 60:], alpha[:, 60:] = (100, 0, 250), 255
    other = colour.copy()
    other[alpha == 0] = np.random.default_rng(0).integers(0, 256, (64 * 20, 3), np.uint8)
    shown = ColourShown(other, alpha)[0:64, 0:96]
    np.testing.assert_array_equal(shown, ColourShown(colour, alpha)[0:64, 0:96])
    mean = np.round((np.array((200, 100, 50)) * 40 + np.array((100, 0, 250)) * 36) / 76)
    assert (shown[:, 40:56] == mean).all()
    assert (shown[:, 56:60] == (100, 0, 250)).all()


def test_a_part_is_what_the_whole_has_there() -> None:
    colour, alpha = np.random.default_rng(0).integers(0, 256, (61, 77, 3), np.uint8), disc(77, 20)[:61]
    shown = ColourShown(colour, alpha)
    np.testing.assert_array_equal(shown[8:40, 16:77], shown[0:61, 0:77][8:40, 16:77])


def test_a_picture_that_shows_nothing_becomes_black() -> None:
    colour = np.random.default_rng(0).integers(0, 256, (20, 20, 1), np.uint8)
    assert (ColourShown(colour, np.zeros((20, 20), np.uint8))[0:20, 0:20] == 0).all()
