"""The training recipe from a folder of pictures to weights that the package loads, at toy size."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file

from pillow_sdc.latent_codecs.context_network import RIGHT_ABOVE, ContextNetwork, SeenLatents, wavefronts
from pillow_sdc.models import compact

PHOTOGRAPHS = 3


def run(module: object, *arguments: object) -> str:
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures of clouds, run through an untrained teacher."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "photographs").mkdir()
    random = np.random.default_rng(0)
    for i in range(PHOTOGRAPHS):
        samples = random.integers(0, 256, (9, 11, 3), np.uint8)
        cloud = Image.fromarray(samples).resize((259, 245), Image.Resampling.BICUBIC)
        cloud.save(folder / "photographs" / f"{i}.webp")
    torch.manual_seed(0)
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).save_pretrained(folder / "teacher")
    run("prepare", folder / "photographs", folder / "teacher", folder / "prepared")
    run("quantise", folder / "prepared")
    return folder / "prepared"


def test_preparation_keeps_photograph_latents_and_what_quantisation_leaves(prepared: Path) -> None:
    from training.crops import load

    training, held_out = load(prepared)
    assert (len(training), len(held_out)) == (PHOTOGRAPHS - 1, 1)
    for photograph in (*training, *held_out):
        assert photograph.photo.shape == (240, 256, 3)
        assert photograph.latents.shape == (4, 30, 32)
        assert photograph.quantised.shape == (len(photograph.noise_variance), 4, 30, 32)
        errors = np.mean((photograph.quantised - photograph.latents) ** 2, axis=(1, 2, 3))
        assert np.all(errors < 3 * photograph.noise_variance + 1e-4)


def test_crops_show_the_same_place_in_pixels_and_latents(prepared: Path) -> None:
    from training.crops import crops, load

    training, _ = load(prepared)
    batch = next(crops(training, 8, 24, np.random.default_rng(1)))
    assert batch == next(crops(training, 8, 24, np.random.default_rng(1)))
    for crop in batch:
        y, x = crop.top, crop.left
        np.testing.assert_array_equal(crop.latents(), crop.photograph.latents[:, y : y + 24, x : x + 24])
        cut = crop.cut(crop.photograph.photo, 8)
        np.testing.assert_array_equal(cut, crop.photograph.photo[8 * y : 8 * y + 192, 8 * x : 8 * x + 192])
        errors = []
        for seed in range(12):
            noisy, noise_variance = crop.noisy_latents(np.random.default_rng(seed))
            errors.append((noise_variance, float(np.mean((noisy - crop.latents()) ** 2))))
        assert any(error == (0.0, 0.0) for error in errors)
        assert any(0 < error < 3 * noise_variance for noise_variance, error in errors)


def test_altered_crops_are_cut_from_photographs() -> None:
    from training.labelled import AlteredCrops, altered

    photo = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    copies = [altered(photo, 64, np.random.default_rng(seed)) for seed in range(20)]
    assert all(copy.shape == (64, 64, 3) and copy.dtype == np.uint8 for copy in copies)
    assert len({copy.tobytes() for copy in copies}) == len(copies)
    assert np.mean([copy.mean() for copy in copies]) == pytest.approx(photo.mean(), abs=20)
    too_small = np.zeros((63, 120, 3), np.uint8)
    assert np.all(AlteredCrops([too_small, photo | 1], 8, np.random.default_rng(0)).draw(5).any(axis=(1, 2, 3)))


def test_a_pool_replaces_old_examples_by_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    from training import labelled

    monkeypatch.setattr(labelled, "POOL", 10)
    pool = labelled.Pool[int](np.random.default_rng(0))
    pool.add(range(10))
    assert set(pool.draw(200)) == set(range(10))
    pool.add(range(100, 200))
    drawn = pool.draw(400)
    assert min(drawn) >= 100
    assert len(set(drawn)) == 10


def test_crops_are_labelled_with_what_teacher_and_palette_make_of_them(prepared: Path) -> None:
    from training.crops import pixels, read_photo
    from training.labelled import AlteredCrops
    from training.teacher import Teacher
    from training.train_decoder import ACROSS, SIDE, labelled, labelled_whole, samples

    random, teacher = np.random.default_rng(0), Teacher(prepared.parent / "teacher")
    photo = read_photo(prepared.parent / "photographs" / "0.webp")
    photos = AlteredCrops([photo], SIDE, random).draw(ACROSS**2)
    examples = [*labelled(photos, teacher, random), labelled_whole(photo, teacher)]
    for (example, decoded), shown in zip(examples, [*photos, photo], strict=True):
        np.testing.assert_array_equal(example.photo, shown)
        latents = teacher.encode(pixels(shown[None]))
        torch.testing.assert_close(torch.from_numpy(example.latents), latents[0], atol=0.02, rtol=0.02)
        assert np.abs(decoded.astype(int) - samples(teacher.decode(latents))[0]).mean() < 2
        assert np.mean((example.quantised[0] - example.latents) ** 2) < 3 * example.noise_variance[0] + 1e-4


def test_the_trainings_start_from_exported_weights(prepared: Path, tmp_path: Path) -> None:
    start = compact.WEIGHTS / "denoiser.safetensors"
    run("train_denoiser", prepared, tmp_path / "denoiser", "--steps", 1, "--learning-rate", 0, "--start", start)
    run("export", tmp_path / "denoiser", "--out", tmp_path / "weights")
    expected = load_file(start)
    for name, tensor in load_file(tmp_path / "weights" / start.name).items():
        torch.testing.assert_close(tensor, expected.pop(name), atol=0, rtol=0)
    assert not expected


def test_a_picture_as_sharp_as_its_original_has_no_contrast_distance() -> None:
    from training.losses import contrast_distance, laplacian_pyramid

    original = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    distances = [
        contrast_distance(laplacian_pyramid(other), laplacian_pyramid(original)).item()
        for other in (original, original.roll((8, 16), (2, 3)), 0.5 * original)
    ]
    assert distances[0] == 0
    assert distances[1] < distances[2]


def test_trained_networks_are_exported_and_loaded(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("encoder", "decoder", "denoiser")
    for name in names:
        data = [prepared.parent / "photographs", "--teacher", prepared.parent / "teacher"]
        command = [f"train_{name}", *([prepared] if name == "denoiser" else data), tmp_path / name]
        run(*command, "--steps", 1)
        run(*command, "--steps", 2)  # goes on from the first's checkpoint
        assert len((tmp_path / name / "log.jsonl").read_text().splitlines()) == 2
    run("export", *(tmp_path / name for name in names), "--out", tmp_path / "weights")
    assert {path.name for path in (tmp_path / "weights").iterdir()} == {
        *(f"{name}.safetensors" for name in names),
        compact.CHECKSUMS,
    }
    monkeypatch.setattr(compact, "WEIGHTS", tmp_path / "weights")
    latents = compact.load_autoencoder("cpu", "float32").encode(np.zeros((3, 16, 24), np.float32))
    assert latents.shape == (4, 2, 3)
    assert compact.load_denoiser("cpu", "float32").predict_noise(latents, 30.0).shape == (4, 2, 3)


def test_the_context_network_sees_only_what_was_coded_before() -> None:
    from training.context_model import ContextModel

    network = ContextModel(hidden=8)
    values = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    changed = values.clone()
    changed[0, 2, 6, 6] += 0.5
    steps = torch.tensor([0.5])
    difference = (network(changed, steps) - network(values, steps))[0].abs().sum(1)
    touched = {tuple(place) for place in difference.nonzero().tolist()}
    assert touched
    for channel, row, column in touched:
        later_here = (row, column) == (6, 6) and channel > 2
        assert later_here or 3 * row + column > 3 * 6 + 6
        assert row != 7 or column >= 6 - RIGHT_ABOVE


def test_the_context_network_in_integers_is_the_one_that_was_trained() -> None:
    from training.context_model import REFERENCE_STEP, ContextModel

    torch.manual_seed(0)
    network = ContextModel(hidden=16)
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) * 0.3
    values = (torch.randn(1, 4, 9, 13) * 32).round() / 32
    for step in (0.3, 0.6, 1.1):
        expected = network(values, torch.tensor([step]))[0].permute(0, 2, 3, 1).detach().numpy() * 1024
        frozen = ContextNetwork(network.frozen(), round(np.log(step / REFERENCE_STEP) * 256))
        seen = SeenLatents(9, 13)
        for ys, xs in wavefronts(9, 13):
            started = frozen.start(seen.around(ys, xs))
            for channel in range(4):
                outputs = frozen.finish(channel, started[:, channel], seen.at(ys, xs))
                np.testing.assert_array_equal(outputs, expected[channel, ys, xs])
                seen.put(channel, ys, xs, values[0, channel, ys, xs].double().numpy())


def test_the_context_network_s_bits_are_those_of_its_mixture() -> None:
    from training.context_model import bits

    # A single logistic distribution of scale 0.5 around 0.3, whose bins of width 0.4 have known probabilities.
    mixtures = torch.tensor([50.0, 0.3, 0.0, np.log(0.5), 0.0])[:, None, None].expand(1, 4, 5, 1, 1)
    values = torch.tensor([-0.4, 0.0, 0.4, 2.4])[None, :, None, None]
    expected = []
    for value in (-0.4, 0.0, 0.4, 2.4):
        upper, lower = (1 / (1 + np.exp(-(value + side * 0.2 - 0.3) / 0.5)) for side in (1, -1))
        expected.append(-np.log2(upper - lower))
    np.testing.assert_allclose(bits(mixtures, values, torch.tensor([0.4])).flatten(), expected, rtol=1e-4)


def test_the_context_network_is_trained(prepared: Path, tmp_path: Path) -> None:
    run("train_context", prepared, tmp_path / "context", "--steps", 2)
    last = json.loads((tmp_path / "context" / "log.jsonl").read_text().splitlines()[-1])
    assert last["bits_at_0.35"] > last["bits_at_1.0"] > 0
    assert last["order_0_bits_at_0.35"] >= last["order_0_bits_at_1.0"]


def test_the_preview_is_fitted(prepared: Path) -> None:
    assert "weights" in run("fit_preview", prepared)
