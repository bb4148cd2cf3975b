from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pillow_sdc.errors import CorruptFileError, OptionError
from pillow_sdc.format.bounded import deflate
from pillow_sdc.format.codecs import PaletteCodec
from pillow_sdc.format.eight_bit import ROUNDING_VARIANCE, STEP, from_levels, round_levels, to_levels
from pillow_sdc.format.palette.design import _clusters, design_palette, shortest_path
from pillow_sdc.format.palette.dithering import dither

Levels = NDArray[np.float64]


def random_latents(rows: int, columns: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((4, rows, columns)).astype(np.float32)


def levels_of(latents: NDArray[np.float32]) -> Levels:
    return np.moveaxis(to_levels(latents), 0, 2)


def raster_dither(values: Levels, palette: NDArray[np.uint8], strength: float, limit: float) -> NDArray[np.int64]:
    """The textbook loop: one pixel after the other, one faiss search for each."""
    height, width, _ = values.shape
    index = faiss.IndexFlatL2(4)
    index.add(palette.astype(np.float32))
    errors = np.zeros((height + 1, width + 2, 4))
    indices = np.empty((height, width), np.int64)
    for y in range(height):
        for x in range(width):
            above, left = errors[y, x : x + 3], errors[y + 1, x]
            wanted = values[y, x] + (above[0] + 5 * above[1] + 3 * above[2] + 7 * left)
            query = np.clip(np.round(wanted * 4) / 4, 0, 255).astype(np.float32)
            indices[y, x] = index.search(query[None], 1)[1][0, 0]
            error = np.clip(wanted - palette[indices[y, x]].astype(float), -limit, limit)
            errors[y + 1, x + 1] = error * (strength / 16)
    return indices


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (5, 17), (17, 5), (31, 33)])
@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_wavefront_gives_the_indices_of_raster_order(shape: tuple[int, int], strength: float) -> None:
    values = levels_of(random_latents(*shape, seed=sum(shape)))
    palette = np.random.default_rng(1).integers(60, 200, (64, 4), np.uint8)
    indices, _ = dither(values, palette, strength, 20.0)
    np.testing.assert_array_equal(indices, raster_dither(values, palette, strength, 20.0))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    entries=st.integers(1, 256),
    strength=st.floats(0, 1),
    limit=st.sampled_from([0.5, 3.0, 40.0, 1000.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_wavefront_gives_the_indices_of_raster_order_where_ties_abound(
    rows: int, columns: int, entries: int, strength: float, limit: float, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 6, (rows, columns, 4)).astype(np.float64) * 51
    palette = generator.integers(0, 4, (entries, 4)).astype(np.uint8) * 85
    indices, _ = dither(values, palette, strength, limit)
    np.testing.assert_array_equal(indices, raster_dither(values, palette, strength, limit))


def test_wavefront_gives_the_indices_of_raster_order_on_a_photograph(taesd: Path, dev_photos: list[Path]) -> None:
    from PIL import Image

    from pillow_sdc import Settings
    from pillow_sdc.pipeline.encoding import encode_latents

    with Image.open(dev_photos[0]) as photo:
        latents = encode_latents(np.asarray(photo.convert("RGB")), Settings(model=str(taesd), device="cpu"))
    values = levels_of(latents)
    palette, _, _ = design_palette(values, 256, 1.0)
    indices, _ = dither(values, palette, 1.0, 4.0)
    np.testing.assert_array_equal(indices, raster_dither(values, palette, 1.0, 4.0))


def test_undithered_indices_are_those_of_the_nearest_entries() -> None:
    values = np.round(levels_of(random_latents(6, 7)))
    palette = np.unique(np.random.default_rng(2).integers(0, 256, (50, 4)).astype(np.uint8), axis=0)
    indices, _ = dither(values, palette, 0.0, 10.0)
    distances = ((values[:, :, None] - palette.astype(float)) ** 2).sum(axis=3)
    np.testing.assert_array_equal(distances[np.arange(6)[:, None], np.arange(7), indices], distances.min(axis=2))


def test_dithering_keeps_the_mean_of_a_flat_area() -> None:
    values = np.full((32, 32, 4), 100.3)
    palette = np.array([[100] * 4, [101] * 4], np.uint8)
    dithered, _ = dither(values, palette, 1.0, 10.0)
    undithered, _ = dither(values, palette, 0.0, 10.0)
    assert palette[dithered].mean() == pytest.approx(100.3, abs=0.02)
    assert palette[undithered].mean() == 100


def test_the_same_latents_give_the_same_bytes() -> None:
    latents = random_latents(24, 24)
    assert PaletteCodec().encode(latents) == PaletteCodec().encode(latents)


def test_the_number_of_faiss_threads_does_not_change_the_bytes_and_is_left_as_it_was() -> None:
    latents = random_latents(24, 24)
    payload = PaletteCodec().encode(latents)
    before = faiss.omp_get_max_threads()
    try:
        faiss.omp_set_num_threads(2)
        assert PaletteCodec().encode(latents) == payload
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (3, 5), (16, 16)])
def test_a_palette_that_holds_every_latent_loses_nothing_but_rounding(shape: tuple[int, int]) -> None:
    latents = random_latents(*shape)
    decoded = PaletteCodec().decode(PaletteCodec().encode(latents), *shape)
    np.testing.assert_array_equal(decoded.latents, from_levels(round_levels(to_levels(latents))))
    assert decoded.noise_variance == ROUNDING_VARIANCE


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    size=st.integers(2, 256),
    strength=st.floats(0, 1),
    spread=st.sampled_from([0.0, 0.05, 1.0, 30.0]),
)
def test_any_latents_come_back_in_shape_and_from_the_palette(
    rows: int, columns: int, size: int, strength: float, spread: float
) -> None:
    latents = random_latents(rows, columns) * np.float32(spread)
    payload = PaletteCodec(size, strength).encode(latents)
    decoded = PaletteCodec.decode(payload, rows, columns)
    assert decoded.latents.shape == (4, rows, columns)
    assert decoded.latents.dtype == np.float32
    assert payload[0] + 1 <= size
    assert len(np.unique(decoded.latents.reshape(4, -1), axis=1).T) == payload[0] + 1


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_noise_variance_is_near_the_true_one(size: int, strength: float) -> None:
    latents = random_latents(64, 64)
    decoded = PaletteCodec.decode(PaletteCodec(size, strength).encode(latents), 64, 64)
    assert decoded.noise_variance == pytest.approx(float(np.mean((decoded.latents - latents) ** 2)), rel=0.25)


def test_dithering_costs_less_error_than_unlimited_diffusion() -> None:
    values = levels_of(random_latents(48, 48))
    palette, indices, exact = design_palette(values, 256, 1.0)
    unlimited, _ = dither(values, palette, 1.0, 1e9)
    assert not exact
    assert np.mean((palette[indices] - values) ** 2) < 0.9 * np.mean((palette[unlimited] - values) ** 2)


def correlated_levels(count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Vectors ``(count, 4)`` that lie about as a photograph's latents do, more along some directions than others."""
    random = np.random.default_rng(seed)
    vectors = random.normal(0, 15, (count, 4)) @ random.normal(0, 1, (4, 4)) + 128
    return round_levels(vectors.clip(0, 255))


def lloyd(vectors: NDArray[np.uint8], size: int, seed: int) -> NDArray[np.float64]:
    """The textbook's k-means: begun with vectors that chance chooses."""
    distinct = np.unique(vectors, axis=0)
    means = np.random.default_rng(seed).choice(distinct, size, replace=False).astype(np.float64)
    for _ in range(15):
        nearest = ((vectors[:, None].astype(np.float64) - means) ** 2).sum(axis=2).argmin(axis=1)
        for entry in np.unique(nearest):
            means[entry] = vectors[nearest == entry].mean(axis=0)
    return means


def mean_error(vectors: NDArray[np.uint8], means: NDArray[np.float64]) -> float:
    return float(((vectors[:, None].astype(np.float64) - means) ** 2).sum(axis=2).min(axis=1).mean())


@pytest.mark.parametrize(("size", "most"), [(3, 1.01), (16, 1.01), (64, 1.0), (256, 0.95)])
def test_clusters_have_hardly_more_error_than_those_begun_by_chance_and_less_if_many(size: int, most: float) -> None:
    """For few entries the split cells are a beginning like others, for many a better one."""
    ratios = []
    for seed in range(3):
        vectors = correlated_levels(800, seed)
        by_chance = [mean_error(vectors, lloyd(vectors, size, chance)) for chance in range(3)]
        ratios.append(mean_error(vectors, _clusters(vectors, size)) / np.mean(by_chance))
    assert np.mean(ratios) <= most


@pytest.mark.parametrize("size", [2, 7, 256])
def test_designs_owe_nothing_to_chance(size: int) -> None:
    values = correlated_levels(40 * 50).reshape(40, 50, 4) + 0.3
    first, again = (design_palette(order(values), size, 1.0) for order in (np.ascontiguousarray, np.asfortranarray))
    for found, expected in zip(first, again, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.random.seed(1)
    np.testing.assert_array_equal(design_palette(values, size, 1.0)[0], first[0])


def test_shortest_path_visits_every_entry_and_is_shorter_than_sorting() -> None:
    palette = np.unique(np.random.default_rng(3).integers(0, 256, (256, 4)).astype(np.uint8), axis=0)
    order = shortest_path(palette)

    def length(path: NDArray[np.int64]) -> int:
        return int(np.abs(np.diff(palette[path].astype(int), axis=0)).sum())

    assert sorted(order) == list(range(len(palette)))
    assert length(order) < 0.8 * length(np.arange(len(palette)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaletteCodec(palette_size=1),
        lambda: PaletteCodec(palette_size=257),
        lambda: PaletteCodec(palette_size=True),
        lambda: PaletteCodec(palette_size=2.5),  # type: ignore[arg-type]
        lambda: PaletteCodec(dither=-0.1),
        lambda: PaletteCodec(dither=1.1),
        lambda: PaletteCodec(dither=float("nan")),
        lambda: PaletteCodec(dither="full"),  # type: ignore[arg-type]
    ],
)
def test_options_outside_their_range_are_refused(make: Callable[[], PaletteCodec]) -> None:
    with pytest.raises(OptionError, match=r"palette_size|dither"):
        make()


def test_numbers_of_numpy_are_numbers() -> None:
    latents = random_latents(8, 9)
    codec = PaletteCodec(np.int64(16), np.float32(0.5))  # type: ignore[arg-type]
    assert codec.encode(latents) == PaletteCodec(16, 0.5).encode(latents)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_latents_that_are_not_finite_are_refused(bad: float) -> None:
    latents = random_latents(4, 4)
    latents[2, 1, 1] = bad
    with pytest.raises(ValueError, match="finite"):
        PaletteCodec().encode(latents)


def test_an_index_outside_the_palette_is_refused() -> None:
    palette_of_one, indices_of_one = deflate(bytes(4)), deflate(bytes([1]) * 32)
    with pytest.raises(CorruptFileError, match="index 1 is outside the palette of 1 entries"):
        PaletteCodec.decode(bytes([0, 0]) + palette_of_one + indices_of_one, 4, 8)


def test_step_is_the_articles() -> None:
    assert pytest.approx(0.0332, abs=5e-5) == STEP
