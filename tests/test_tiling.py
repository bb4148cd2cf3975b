import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillow_sdc.pipeline.tiling import blend, split


@given(length=st.integers(1, 500), tile=st.integers(2, 96), overlap=st.integers(1, 40), scale=st.sampled_from([1, 8]))
def test_weights_add_up_to_one_everywhere(length: int, tile: int, overlap: int, scale: int) -> None:
    spans = split(length, tile, min(overlap, tile - 1), scale)
    total = np.zeros(length * scale)
    for span in spans:
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start == spans[0].stop <= tile
        total[span.start * scale : span.stop * scale] += span.weights
    np.testing.assert_allclose(total, 1, atol=1e-5)


@given(length=st.integers(97, 2000))
def test_neighbours_overlap_by_at_least_what_is_asked(length: int) -> None:
    spans = split(length, 96, 16)
    assert all(left.stop - right.start >= 16 for left, right in itertools.pairwise(spans))


@given(height=st.integers(1, 40), width=st.integers(1, 40), scale=st.sampled_from([1, 2]))
def test_blending_a_function_of_position_gives_that_function(height: int, width: int, scale: int) -> None:
    whole = np.random.default_rng(0).standard_normal((3, height * scale, width * scale)).astype(np.float32)

    def crop(y: slice, x: slice) -> NDArray[np.float32]:
        return whole[:, y.start * scale : y.stop * scale, x.start * scale : x.stop * scale]

    bands = list(blend(height, width, crop, tile=9, overlap=4, scale=scale))
    np.testing.assert_allclose(np.concatenate(bands, axis=1), whole, atol=1e-5)


def test_a_step_between_tiles_becomes_a_ramp() -> None:
    values = iter([0.0, 1.0])

    def constant(y: slice, x: slice) -> NDArray[np.float32]:
        return np.full((1, y.stop - y.start, x.stop - x.start), next(values), np.float32)

    (band,) = blend(1, 20, constant, tile=12, overlap=4)
    assert np.diff(band[0, 0]).max() == pytest.approx(0.2)
    assert np.diff(band[0, 0]).min() >= 0
    assert band[0, 0, 0] == 0
    assert band[0, 0, -1] == 1


def test_memory_holds_one_band_at_a_time() -> None:
    def zeros(y: slice, x: slice) -> NDArray[np.float32]:
        return np.zeros((1, y.stop - y.start, 8), np.float32)

    heights = [band.shape[1] for band in blend(1000, 8, zeros, tile=50, overlap=10)]
    assert sum(heights) == 1000
    assert max(heights) <= 50
