"""The mark in the embedded encoder's latents: small, found wherever it is, and nowhere else."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pillow_sdc.image_codec import encode_latents
from pillow_sdc.latent_codecs import ContextCodec, PaletteCodec
from pillow_sdc.models import get_models
from pillow_sdc.options import Settings

torch = pytest.importorskip("torch")

from pillow_sdc.models.compact_networks import Decoder, ToldResidual  # noqa: E402

from pillow_sdc.models import signature  # noqa: E402 - imports torch


def smooth(rows: int, columns: int, seed: int = 0) -> "torch.Tensor":
    """Return latents that vary as those of pictures do, ``(1, 4, rows, columns)``."""
    noise = np.random.default_rng(seed).standard_normal((1, 4, rows + 2, columns + 2))
    means = sum(noise[..., y : y + rows, x : x + columns] for y in range(3) for x in range(3)) / 3
    return torch.from_numpy(means).float()


def photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Return a picture of slopes and speckles."""
    y, x = np.mgrid[:height, :width]
    speckles = np.random.default_rng(1).normal(0, 25, (height, width, 3))
    colours = np.stack([x * 200 / width, y * 200 / height, 255 * np.sin((x + y) / 40) ** 2], -1)
    return np.clip(colours + speckles, 0, 255).astype(np.uint8)


def foreign(latents: "NDArray[np.float32] | torch.Tensor") -> float:
    return signature.recognise(torch.as_tensor(latents).reshape(-1, *latents.shape[-3:]))[1].item()


def test_the_mark_adds_little_to_the_error() -> None:
    latents = smooth(40, 40)
    assert (signature.signed(latents) - latents).square().mean().item() == pytest.approx(0.05**2 / 4, rel=1e-2)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (31, 97)])
@pytest.mark.parametrize("corner", [(0, 0), (1, 0), (3, 6)])
def test_the_mark_is_found_in_any_cut_and_taken_away(rows: int, columns: int, corner: tuple[int, int]) -> None:
    latents = smooth(rows + 3, columns + 6)
    y, x = corner
    unsigned, told = signature.recognise(signature.signed(latents)[..., y : y + rows, x : x + columns])
    assert told.item() == 0
    torch.testing.assert_close(unsigned, latents[..., y : y + rows, x : x + columns])


@pytest.mark.parametrize("seed", range(5))
def test_latents_without_the_mark_are_left_alone(seed: int) -> None:
    latents = smooth(64, 64, seed)
    unsigned, told = signature.recognise(latents)
    assert told.item() == 1
    assert torch.equal(unsigned, latents)


def test_pictures_that_are_computed_together_are_told_apart() -> None:
    latents = torch.cat([smooth(48, 48), signature.signed(smooth(48, 48))])
    assert signature.recognise(latents)[1].tolist() == [1, 0]


@pytest.mark.parametrize("codec", [PaletteCodec(), ContextCodec(quality=80), ContextCodec(quality=10)])
@pytest.mark.parametrize("size", [(512, 384), (808, 333)])
def test_the_embedded_encoders_latents_are_known_after_every_codec(
    codec: PaletteCodec | ContextCodec, size: tuple[int, int]
) -> None:
    latents = encode_latents(photograph(*size), get_models(Settings(model="compact", device="cpu")))
    assert foreign(latents) == 0
    assert foreign(type(codec).decode(codec.encode(latents), *latents.shape[1:]).latents) == 0


def test_the_decoder_takes_the_mark_for_what_it_is() -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu")).autoencoder
    plain = 0.5 * smooth(32, 32)[0].numpy()
    marked = signature.signed(torch.from_numpy(plain)[None])[0].numpy()
    difference = np.abs(autoencoder.decode(marked) - autoencoder.decode(plain))
    assert difference.mean() > 0.002
    shifted = np.pad(marked, ((0, 0), (1, 0), (1, 0)), mode="edge")[:, 1:, 1:]
    np.testing.assert_allclose(autoencoder.decode(shifted), autoencoder.decode(marked), atol=1e-5)


def test_a_decoder_that_is_not_told_of_foreign_latents_does_what_residuals_do() -> None:
    network = Decoder()
    latents, none = smooth(4, 4), torch.zeros(1)
    for layer in network.layers:
        if isinstance(layer, ToldResidual):
            torch.nn.init.normal_(layer.foreign)
    own, other = network(latents, none, none), network(latents, none, none + 1)
    for layer in network.layers:
        if isinstance(layer, ToldResidual):
            torch.nn.init.zeros_(layer.foreign)
    assert torch.equal(network(latents, none, none + 1), own)
    assert not torch.allclose(other, own)
