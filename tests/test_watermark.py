"""The watermark in the embedded encoder's latents: small, found wherever it is, and nowhere else."""

import numpy as np
import pytest
from numpy.typing import NDArray

import pillow_sdc
from pillow_sdc.image_codec import TILE, encode_latents
from pillow_sdc.latent_codecs import ContextCodec, PaletteCodec
from pillow_sdc.models import get_models
from pillow_sdc.models.compact import watermark
from pillow_sdc.options import Settings

Array = NDArray[np.float32]


def smooth(rows: int, columns: int, seed: int = 0) -> Array:
    """Return latents that vary as those of pictures do, ``(4, rows, columns)``."""
    noise = np.random.default_rng(seed).standard_normal((4, rows + 2, columns + 2))
    return np.mean([noise[:, y : y + rows, x : x + columns] for y in range(3) for x in range(3)], 0, dtype=np.float32)


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of slopes and speckles."""
    y, x = np.mgrid[:height, :width]
    speckles = np.random.default_rng(1).normal(0, 25, (height, width, 3))
    colours = np.stack([x * 200 / width, y * 200 / height, 255 * np.sin((x + y) / 40) ** 2], -1)
    return np.clip(colours + speckles, 0, 255).astype(np.uint8)


def is_marked(latents: Array) -> bool:
    return watermark.unmark(latents)[1]


def test_the_watermark_adds_little_to_the_error() -> None:
    latents = smooth(40, 40)
    assert np.square(watermark.mark(latents) - latents).mean() == pytest.approx(0.05**2 / 4, rel=1e-2)


def test_arrays_stay_float32() -> None:
    assert watermark.mark(smooth(8, 8)).dtype == watermark.unmark(smooth(8, 8))[0].dtype == np.float32


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (31, 97)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (3, 6)])
def test_the_watermark_is_found_in_any_cut_and_taken_away(rows: int, columns: int, corner: tuple[int, int]) -> None:
    latents = smooth(rows + 3, columns + 6)
    y, x = corner
    unmarked, found = watermark.unmark(watermark.mark(latents)[:, y : y + rows, x : x + columns])
    assert found
    np.testing.assert_allclose(unmarked, latents[:, y : y + rows, x : x + columns], atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_latents_without_the_watermark_are_left_alone(seed: int) -> None:
    latents = smooth(64, 64, seed)
    unmarked, found = watermark.unmark(latents)
    assert not found
    np.testing.assert_array_equal(unmarked, latents)


@pytest.mark.parametrize("codec", [PaletteCodec(), ContextCodec(quality=80), ContextCodec(quality=10)])
@pytest.mark.parametrize("size", [(512, 384), (808, 333)])
def test_the_embedded_encoders_latents_are_known_after_every_codec(
    codec: PaletteCodec | ContextCodec, size: tuple[int, int]
) -> None:
    latents = encode_latents(photograph(*size), get_models(Settings(model="compact", device="cpu")))
    assert is_marked(latents)
    assert is_marked(type(codec).decode(codec.encode(latents), *latents.shape[1:]).latents)


def test_the_decoder_heeds_the_watermark() -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu")).autoencoder
    plain = 0.5 * smooth(32, 32)
    marked = watermark.mark(plain)
    assert np.abs(autoencoder.decode(marked) - autoencoder.decode(plain)).mean() > 0.002
    shifted = np.pad(marked, ((0, 0), (1, 0), (1, 0)), mode="edge")[:, 1:, 1:]
    np.testing.assert_array_equal(autoencoder.decode(shifted), autoencoder.decode(marked))


def test_pictures_that_are_decoded_together_are_told_apart() -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu")).autoencoder
    latents = np.stack([smooth(48, 40), watermark.mark(smooth(48, 40)), smooth(48, 40, seed=1)])
    variances = np.array([0.0, 0.01, 0.03])
    one_by_one = [autoencoder.decode(one, variance) for one, variance in zip(latents, variances, strict=True)]
    np.testing.assert_array_equal(autoencoder.decode(latents, variances), np.stack(one_by_one))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[int, ...]]]:
    """The names of the watermark's functions that are called, with the latents' shapes."""
    called: list[tuple[str, tuple[int, ...]]] = []
    for name in ("mark", "unmark"):
        function = getattr(watermark, name)
        monkeypatch.setattr(
            watermark,
            name,
            lambda latents, name=name, function=function: (called.append((name, latents.shape)), function(latents))[1],
        )
    return called


def test_large_pictures_are_marked_and_looked_at_once_not_tile_by_tile(
    calls: list[tuple[str, tuple[int, ...]]],
) -> None:
    side = TILE + 1
    with pillow_sdc.configure(model="compact", device="cpu"):
        file = pillow_sdc.encode(photograph(8 * side, 64), codec="uint8")
        assert [(name, shape[-3:]) for name, shape in calls] == [("mark", (4, side, 8))]
        calls.clear()
        pillow_sdc.decode(file)
    assert calls == [("unmark", (4, side, 8))]
