"""The setting ``vae``: another autoencoder in place of the model's own."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file
from sdc_command import sdc
from small_runs import DECODING, ENCODING, InlineEngine, make_pictures, row_of

import pillow_sdc
from benchmarks.original_layout import original_tensors, original_vae, save
from pillow_sdc.errors import ModelUnavailableError, OptionError
from pillow_sdc.jobs.runner import run
from pillow_sdc.models import ModelChoice, choose_model, clear_cache, get_models, loading
from pillow_sdc.models.diffusion import single_file
from pillow_sdc.models.diffusion.hub import DEFAULT_MODEL
from pillow_sdc.options import Settings, configure, override, settings

PICTURE = Image.linear_gradient("L").resize((40, 32)).convert("RGB")
PIXELS = np.tanh(np.random.default_rng(0).standard_normal((3, 16, 16))).astype(np.float32)
COMMIT = "0" * 40


@pytest.fixture(autouse=True)
def _nothing_loaded_or_cached(hub_cache: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(single_file, "CONFIGURATIONS", tiny_pipeline)
    clear_cache()
    yield
    clear_cache()


@pytest.fixture
def other(tiny_pipeline: Path, tmp_path: Path) -> Path:
    """An autoencoder in diffusers' layout that is not the small pipeline's."""
    directory = Path(shutil.copytree(tiny_pipeline / "vae", tmp_path / "other"))
    for file in directory.glob("*.safetensors"):
        weights = load_file(file)
        save({name: each * 50 if name == "quant_conv.weight" else each for name, each in weights.items()}, file)
    return directory


def cached(model: Path, hub_cache: Path, name: str) -> str:
    """Put a copy of a model into the hub's cache, and return its id."""
    repository = hub_cache / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(model, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return name


def latents_of(**changes: Any) -> np.ndarray[Any, Any]:
    return get_models(override(Settings(device="cpu"), changes)).autoencoder.encode(PIXELS)  # type: ignore[arg-type]


@pytest.mark.parametrize("model", ["directory", "file", "file without autoencoder", "hub"])
@pytest.mark.parametrize("vae", ["directory", "file", "hub"])
def test_the_autoencoder_is_the_one_that_is_named_and_the_denoiser_the_models(
    model: str, vae: str, tiny_pipeline: Path, other: Path, tmp_path: Path, hub_cache: Path
) -> None:
    tensors = original_tensors(tiny_pipeline)
    unet_alone = {name: each for name, each in tensors.items() if not name.startswith("first_stage_model.")}
    models = {
        "directory": lambda: tiny_pipeline,
        "file": lambda: save(tensors, tmp_path / "model.safetensors"),
        "file without autoencoder": lambda: save(unet_alone, tmp_path / "model.safetensors"),
        "hub": lambda: cached(tiny_pipeline, hub_cache, "someone/model"),
    }
    weights = load_file(other / "diffusion_pytorch_model.safetensors")
    vaes = {
        "directory": lambda: other,
        "file": lambda: save(original_vae(weights), tmp_path / "vae.safetensors"),
        "hub": lambda: cached(other, hub_cache, "someone/vae"),
    }
    named, beside = str(models[model]()), str(vaes[vae]())
    chosen = get_models(Settings(model=named, vae=beside, device="cpu"))
    latents = chosen.autoencoder.encode(PIXELS)
    np.testing.assert_array_equal(latents, latents_of(model=str(other)))
    assert (latents != latents_of(model=str(tiny_pipeline))).any()
    assert chosen.denoiser is not None
    assert (chosen.name, chosen.vae, chosen.denoiser.name) == (named, beside, named)


def test_networks_are_shared_by_all_settings_that_have_them_in_common(tiny_pipeline: Path, other: Path) -> None:
    own = get_models(Settings(model=str(tiny_pipeline), device="cpu"))
    mixed = get_models(Settings(model=str(tiny_pipeline), vae=str(other), device="cpu"))
    alone = get_models(Settings(model=str(other), device="cpu"))
    assert own.denoiser is mixed.denoiser is not alone.denoiser
    assert own.autoencoder is not mixed.autoencoder is alone.autoencoder
    assert len(loading._networks) == 4


def test_pictures_name_both(tiny_pipeline: Path, other: Path) -> None:
    both: dict[str, Any] = {"model": tiny_pipeline, "vae": other, "device": "cpu"}
    data = pillow_sdc.encode(PICTURE, quality=20, **both)
    assert data != pillow_sdc.encode(PICTURE, quality=20, model=tiny_pipeline, device="cpu")
    assert data == pillow_sdc.encode_batch([PICTURE], quality=20, **both)[0]
    with configure(**both):
        assert data == pillow_sdc.encode(PICTURE, quality=20)
        report = pillow_sdc.decode(data).info["sdc"]
    assert (report["model"], report["vae"]) == (str(tiny_pipeline), str(other))
    assert report["denoiser"] == str(tiny_pipeline)


def test_what_is_wrong_with_it_is_said_of_it(tiny_pipeline: Path, tmp_path: Path) -> None:
    models = get_models(Settings(model=str(tiny_pipeline), vae=str(tmp_path / "nothing"), device="cpu"))
    with pytest.raises(ModelUnavailableError, match=r"nothing' is not .*; it is the setting vae that names it$"):
        _ = models.autoencoder
    assert models.denoiser is not None


# With "auto" and "compact"


def test_auto_takes_it_as_a_model_where_it_would_take_the_embedded_one(other: Path) -> None:
    choice = choose_model(Settings(vae=str(other), device="cpu"))
    assert choice == ModelChoice(str(other), "cpu", "float32", False, choice.reason)
    assert choice.reason == f"the device is not CUDA, and {DEFAULT_MODEL} is not in the hub's local cache"


def test_auto_takes_it_beside_stable_diffusion_where_that_is_here(
    tiny_pipeline: Path, other: Path, hub_cache: Path
) -> None:
    cached(tiny_pipeline, hub_cache, DEFAULT_MODEL)
    choice = choose_model(Settings(vae=str(other), device="cpu"))
    assert (choice.model, choice.vae, choice.autoencoder) == (DEFAULT_MODEL, str(other), str(other))
    assert choice.substitute == ModelChoice(str(other), "cpu", "float32", False)


def test_it_and_the_embedded_model_exclude_each_other_and_the_later_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"^vae is 'a/b', and model is 'compact', which has its own: drop one"):
        configure(model="compact", vae="a/b")
    with pytest.raises(ValueError, match="which has its own"):
        pillow_sdc.encode(PICTURE, model="compact", vae="a/b")
    with configure(vae="a/b"), configure(model="compact"):
        assert settings() == Settings(model="compact")
        with configure(vae="c/d"):
            assert settings() == Settings(vae="c/d")
    with configure(model="e/f", vae="a/b"), configure(vae=None):
        assert settings() == Settings(model="e/f")
    monkeypatch.setenv("PILLOW_SDC_VAE", "a/b")
    assert settings() == Settings(vae="a/b")
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    with pytest.raises(OptionError, match=r"^PILLOW_SDC_VAE is 'a/b', and PILLOW_SDC_MODEL is 'compact'"):
        settings()


@pytest.mark.parametrize("value", ["", "auto", "compact", 3])
def test_what_names_no_autoencoder_is_refused(value: Any) -> None:
    with pytest.raises(OptionError, match=r"^vae is .*; it must be a file, a directory or a hub id"):
        configure(vae=value)
    assert settings() == Settings()


# The command line and runs


def test_commands_take_it(tiny_pipeline: Path, other: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    PICTURE.save(photo)
    both = ["--model", tiny_pipeline, "--vae", other, "--device", "cpu"]
    assert sdc("encode", photo, "--quality", "20", *both).exit_code == 0
    encoded = photo.with_suffix(".sdc")
    with configure(model=tiny_pipeline, vae=other, device="cpu"):
        assert encoded.read_bytes() == pillow_sdc.encode(PICTURE, quality=20)
        expected = pillow_sdc.decode(encoded)
    assert sdc("decode", encoded, "-o", tmp_path / "decoded.png", *both).exit_code == 0
    assert Image.open(tmp_path / "decoded.png").tobytes() == expected.tobytes()
    result = sdc("doctor", *both)
    assert result.exit_code == 0, result.output
    assert f"vae           {other} (option)" in result.stdout
    assert f"ok    decodes       {tiny_pipeline} with the autoencoder of {other} on cpu in float32" in result.stdout
    result = sdc("encode", photo, "--model", "compact", "--vae", other)
    assert result.exit_code == 2
    assert "which has its own: drop one" in result.stderr


def test_runs_take_it_and_their_manifest_names_it(
    tiny_pipeline: Path, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, files, pictures = make_pictures(tmp_path / "in", 1), tmp_path / "files", tmp_path / "pictures"
    monkeypatch.chdir(tmp_path)
    both = {"model": str(tiny_pipeline), "vae": other.name, "device": "cpu"}
    encoding, decoding = (dataclasses.replace(each, settings=both) for each in (ENCODING, DECODING))
    assert run(str(source), str(files), encoding, InlineEngine()).failed == 0
    assert run(str(files), str(pictures), decoding, InlineEngine()).failed == 0
    encoded, decoded = row_of(files, "00.png"), row_of(pictures, "00.sdc")
    assert (encoded.model, decoded.model) == (other.name, str(tiny_pipeline))
    assert encoded.options == decoded.options == f"--model {tiny_pipeline} --vae {other.name}"
    assert encoding.resolved().settings["vae"] == str(other)


def test_doctor_says_that_it_is_not_here(tiny_pipeline: Path) -> None:
    result = sdc("doctor", "--model", tiny_pipeline, "--vae", "someone/absent", "--device", "cpu")
    assert "ok    decodes" not in result.stdout
    assert "someone/absent is not here" in result.stdout
