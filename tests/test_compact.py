"""The embedded model: its files, its behaviour, and that it is good at what it is for."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors import safe_open

import pillow_sdc
from pillow_sdc.errors import ModelFailedError, ModelUnavailableError
from pillow_sdc.latent_codecs import PaletteCodec
from pillow_sdc.models import NoiseSchedule, compact, denoise, get_models
from pillow_sdc.options import Settings

NETWORKS = ("encoder", "decoder", "denoiser")


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2)))


def test_the_weights_are_small_and_say_their_licence() -> None:
    files = sorted(compact.WEIGHTS.glob("*.safetensors"))
    assert [file.stem for file in files] == sorted(NETWORKS)
    assert sum(file.stat().st_size for file in files) <= 8_000_000
    for file in files:
        with safe_open(file, "np") as weights:
            assert weights.metadata()["licence"] == "MIT"
            assert {weights.get_slice(name).get_dtype() for name in weights.keys()} == {"F16"}  # noqa: SIM118


@pytest.fixture
def weights_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for file in compact.WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(compact, "WEIGHTS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_weights_that_were_changed_are_not_loaded(weights_copy: Path, name: str) -> None:
    path = weights_copy / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelUnavailableError, match=rf"{name}\.safetensors is damaged .*install pillow-sdc again"):
        compact.load_autoencoder("cpu", "float32")


@pytest.mark.parametrize("missing", ["denoiser.safetensors", compact.CHECKSUMS])
def test_weights_that_are_missing_are_named(weights_copy: Path, missing: str) -> None:
    (weights_copy / missing).unlink()
    with pytest.raises(ModelUnavailableError, match=r"denoiser\.safetensors is damaged or missing"):
        compact.load_denoiser("cpu", "float32")


def test_checksums_that_are_garbage_are_an_installation_that_is_damaged(weights_copy: Path) -> None:
    (weights_copy / compact.CHECKSUMS).write_text("garbage")
    with pytest.raises(ModelUnavailableError, match="install pillow-sdc again"):
        compact.load_denoiser("cpu", "float32")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7)])
def test_shapes_and_ranges_are_those_of_the_interfaces(dtype: str, rows: int, columns: int) -> None:
    models = get_models(Settings(model="compact", device="cpu", dtype=dtype))
    latents = models.autoencoder.encode(np.tanh(noise(3, 8 * rows, 8 * columns)))
    assert latents.shape == (4, rows, columns)
    pixels = models.autoencoder.decode(3 * latents, 0.03)
    assert pixels.shape == (3, 8 * rows, 8 * columns)
    assert np.abs(pixels).max() <= 1
    predicted = compact.load_denoiser("cpu", dtype).predict_noise(latents, 12.5)
    assert latents.dtype == pixels.dtype == predicted.dtype == np.float32
    assert predicted.shape == latents.shape


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_wildest_latents_that_a_file_can_hold_give_a_picture(dtype: str) -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu", dtype=dtype)).autoencoder
    for latents in (np.full((4, 6, 6), 4.23, np.float32), np.sign(noise(4, 6, 6)) * np.float32(4.23)):
        for noise_variance in (0.0, 0.05, 4.0):
            assert np.isfinite(autoencoder.decode(latents, noise_variance)).all()


def test_the_model_needs_no_denoiser() -> None:
    assert get_models(Settings(model="compact", device="cpu")).denoiser is None


def test_latents_that_are_no_numbers_are_reported() -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu")).autoencoder
    with pytest.raises(ModelFailedError, match="decoder failed: its results are not finite"):
        autoencoder.decode(np.full((4, 2, 2), np.nan, np.float32))
    with pytest.raises(ModelFailedError, match="decoder failed"):
        autoencoder.decode(noise(5, 2, 2))


def test_the_decoder_heeds_the_noise_variance() -> None:
    autoencoder = get_models(Settings(model="compact", device="cpu")).autoencoder
    latents = noise(4, 8, 8)
    assert np.abs(autoencoder.decode(latents, 0.05) - autoencoder.decode(latents)).max() > 0.01


def test_a_fresh_process_saves_and_opens_with_nothing_but_the_package(tmp_path: Path) -> None:
    script = """
import sys
import numpy as np
import pillow_sdc
from PIL import Image

gradient = np.linspace(0, 255, 80 * 56 * 3).reshape(56, 80, 3).astype(np.uint8)
Image.fromarray(gradient).save(sys.argv[1])
with Image.open(sys.argv[1]) as image:
    image.load()
    error = np.abs(np.asarray(image).astype(float) - gradient).mean()
    print(image.info["sdc"]["model"], error < 6, bool({"diffusers", "transformers"} & sys.modules.keys()))
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PILLOW_SDC")}
    environment |= {"HF_HOME": str(tmp_path / "empty"), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", script, str(tmp_path / "gradient.sdc")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["compact", "True", "False"]


def test_a_photograph_is_recognisable_and_previewed() -> None:
    photo = Image.fromarray(pytest.importorskip("skimage.data", reason="the photograph's home").astronaut())
    with pillow_sdc.configure(model="compact", device="cpu"):
        file = pillow_sdc.encode(photo)
        decoded = pillow_sdc.decode(file)
    assert len(file) < 5_000
    assert psnr(np.asarray(photo), np.asarray(decoded)) > 21
    preview = pillow_sdc.read_preview(file)
    assert preview.size == (64, 64)
    assert psnr(np.asarray(photo.reduce(8)), np.asarray(preview)) > 17
    grey = pillow_sdc.read_preview(pillow_sdc.encode(photo.convert("L"), model="compact", device="cpu"))
    assert (grey.mode, grey.size) == ("L", (64, 64))


def test_dithering_noise_is_removed_from_real_latents(taesd: Path, dev_photos: list[Path]) -> None:
    ratios = []
    denoiser = compact.load_denoiser("cpu", "float32")
    for path in dev_photos[:2]:
        with pillow_sdc.configure(model=taesd, device="cpu"), Image.open(path) as photo:
            latents = pillow_sdc.encode_latents(photo.convert("RGB"))
        quantised = PaletteCodec.decode(PaletteCodec().encode(latents), *latents.shape[1:])
        cleaned = denoise(quantised.latents, quantised.noise_variance, denoiser, 1)
        ratios.append(np.mean((cleaned - latents) ** 2) / np.mean((quantised.latents - latents) ** 2))
    assert np.mean(ratios) < 0.9


@pytest.mark.parametrize(("timestep", "limit"), [(5.0, 1.0), (60.0, 0.95), (200.0, 0.8)])
def test_white_noise_is_predicted_up_to_timestep_200(
    timestep: float, limit: float, taesd: Path, dev_photos: list[Path]
) -> None:
    with pillow_sdc.configure(model=taesd, device="cpu"), Image.open(dev_photos[0]) as photo:
        latents = pillow_sdc.encode_latents(photo.convert("RGB").crop((0, 0, 256, 256)))
    alpha = NoiseSchedule.scaled_linear().alpha_cumprod(timestep)
    white = noise(*latents.shape)
    diffused = np.float32(alpha**0.5) * latents + np.float32((1 - alpha) ** 0.5) * white
    predicted = compact.load_denoiser("cpu", "float32").predict_noise(diffused, timestep)
    assert np.mean((predicted - white) ** 2) < limit


def test_latents_are_those_of_stable_diffusion(taesd: Path, dev_photos: list[Path]) -> None:
    errors = []
    for path in dev_photos[:3]:
        with Image.open(path) as photo:
            crop = photo.convert("RGB").crop((100, 100, 356, 356))
        latents = []
        for model in (taesd, "compact"):
            with pillow_sdc.configure(model=model, device="cpu"):
                latents.append(pillow_sdc.encode_latents(crop))
        errors.append(np.mean((latents[0] - latents[1]) ** 2))
    assert np.mean(errors) < 0.06


def test_any_model_of_the_family_opens_what_the_embedded_one_wrote(tiny_pipeline: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "orange").save(file, "SDC", model="compact", device="cpu")
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu", denoise_steps=1):
        assert pillow_sdc.decode(file).size == (40, 30)
