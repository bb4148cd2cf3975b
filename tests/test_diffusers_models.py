"""Autoencoders, U-Nets and the empty prompt, as diffusers and transformers compute them."""

import gc
import json
import logging
import shutil
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tiny_pipeline import PROMPT_FEATURES, PROMPT_TOKENS

from pillow_sdc.errors import ModelFailedError, ModelUnavailableError
from pillow_sdc.models.diffusion import hub
from pillow_sdc.models.diffusion.diffusers_models import load_autoencoder, load_denoiser
from pillow_sdc.models.diffusion.empty_prompt import encode_empty_prompt
from pillow_sdc.models.diffusion.hub import Part
from pillow_sdc.models.diffusion.layout import PARTS, PartName, Precision

Array = NDArray[np.float32]
RNG = np.random.default_rng(0)


def part_of(model: Path, name: PartName, precision: Precision = Precision.FULL) -> Part:
    return hub.locate(str(model), name, precision)


def noise(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def change_weights(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def change_json(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.fixture
def pipeline_copy(tiny_pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_pipeline, tmp_path / "copy"))


# Autoencoders


def test_latents_are_the_scaled_mode_of_the_posterior(tiny_pipeline: Path) -> None:
    import torch
    from diffusers import AutoencoderKL

    pixels = np.tanh(noise(3, 16, 24))
    pixels.flags.writeable = False
    reference = AutoencoderKL.from_pretrained(tiny_pipeline / "vae")
    ours = load_autoencoder(part_of(tiny_pipeline, "vae"), "cpu", "float32")
    with torch.no_grad():
        latents = 0.18215 * reference.encode(torch.tensor(pixels)[None]).latent_dist.mode()
        decoded = reference.decode(latents / 0.18215).sample.clamp(-1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of read-only arrays that it does not copy
        np.testing.assert_allclose(ours.encode(pixels), latents[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(ours.decode(latents[0].numpy()), decoded[0].numpy(), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7)])
def test_results_are_float32_of_the_right_size_in_every_dtype(
    tiny_pipeline: Path, dtype: str, height: int, width: int
) -> None:
    autoencoder = load_autoencoder(part_of(tiny_pipeline, "vae", Precision.HALF), "cpu", dtype)
    pixels = autoencoder.decode(noise(4, height, width))
    assert (pixels.shape, pixels.dtype) == ((3, 8 * height, 8 * width), np.float32)
    assert np.abs(pixels).max() <= 1.0
    latents = autoencoder.encode(pixels)
    assert (latents.shape, latents.dtype) == ((4, height, width), np.float32)


def test_what_overflows_in_float16_is_computed_again_in_float32(
    pipeline_copy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def amplify(weights: dict[str, Any]) -> None:
        weights["decoder.conv_in.weight"] *= 3e4  # normalised away afterwards, but beyond float16's 65,504

    for file in (pipeline_copy / "vae").glob("*.safetensors"):
        change_weights(file, amplify)
    latents = 4 * noise(4, 8, 8)
    full = load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", "float32").decode(latents)
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        half = load_autoencoder(part_of(pipeline_copy, "vae", Precision.HALF), "cpu", "float16").decode(latents)
    assert "overflowed in torch.float16" in caplog.text
    np.testing.assert_allclose(half, full, atol=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_results_that_are_not_numbers_are_an_error(pipeline_copy: Path, dtype: str) -> None:
    def spoil(weights: dict[str, Any]) -> None:
        weights["decoder.conv_out.bias"][0] = float("nan")

    change_weights(pipeline_copy / "vae" / "diffusion_pytorch_model.safetensors", spoil)
    autoencoder = load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", dtype)
    with pytest.raises(ModelFailedError, match="not finite"):
        autoencoder.decode(noise(4, 2, 2))


def test_errors_of_torch_become_ours_with_the_cause_attached(tiny_pipeline: Path) -> None:
    autoencoder = load_autoencoder(part_of(tiny_pipeline, "vae"), "cpu", "float32")
    with pytest.raises(ModelFailedError, match="the autoencoder failed") as caught:
        autoencoder.decode(noise(5, 2, 2))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"scaling_factor": 0.13025}, "scaling_factor is 0.13025, not 0.18215"),
        ({"_class_name": "AutoencoderDC"}, "vae is a AutoencoderDC, not AutoencoderKL or AutoencoderTiny"),
        ({"latent_channels": 16}, "latent_channels is 16, not 4"),
    ],
)
def test_autoencoders_of_other_latent_spaces_are_refused(
    pipeline_copy: Path, changes: dict[str, object], reason: str
) -> None:
    change_json(pipeline_copy / "vae" / "config.json", **changes)
    with pytest.raises(ModelUnavailableError, match=reason) as caught:
        load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", "float32")
    assert str(pipeline_copy) in str(caught.value)


def test_a_config_without_scaling_factor_means_that_of_sd_v1(pipeline_copy: Path) -> None:
    config = pipeline_copy / "vae" / "config.json"
    content = json.loads(config.read_text())
    del content["scaling_factor"]  # as in stable-diffusion-v1-4
    config.write_text(json.dumps(content))
    load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", "float32")


def test_attention_weights_under_their_names_of_2022_are_loaded(pipeline_copy: Path) -> None:
    old_names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # stable-diffusion-v1-4's

    def rename(weights: dict[str, Any]) -> None:
        for name in [name for name in weights if "attentions" in name]:
            old = name
            for new_part, old_part in old_names.items():
                old = old.replace(new_part, old_part)
            weights[old] = weights.pop(name)

    latents = noise(4, 3, 3)
    expected = load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", "float32").decode(latents)
    change_weights(pipeline_copy / "vae" / "diffusion_pytorch_model.safetensors", rename)
    renamed = load_autoencoder(part_of(pipeline_copy, "vae"), "cpu", "float32").decode(latents)
    np.testing.assert_array_equal(renamed, expected)


@pytest.mark.parametrize("name", ["vae", "unet", "text_encoder"])
def test_weights_that_lack_a_tensor_are_refused_rather_than_made_up(
    pipeline_copy: Path, hub_cache: Path, name: PartName
) -> None:
    removed: list[str] = []

    def remove_one(weights: dict[str, Any]) -> None:
        removed.append(max(weights))
        del weights[removed[0]]

    (weights_file,) = (f for f in part_of(pipeline_copy, name).files if f.suffix == ".safetensors")
    change_weights(weights_file, remove_one)
    with pytest.raises(ModelUnavailableError, match=removed[0].rpartition(".")[2]):
        load_part(pipeline_copy, name)


def test_a_damaged_weights_file_is_refused(pipeline_copy: Path) -> None:
    file = pipeline_copy / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ModelUnavailableError, match=f"{file} is damaged or cut short") as caught:
        load_part(pipeline_copy, "vae")
    assert caught.value.__cause__ is not None


def load_part(model: Path, name: PartName) -> None:
    if name == "vae":
        load_autoencoder(part_of(model, "vae"), "cpu", "float32")
    elif name == "unet":
        prompt = noise(PROMPT_TOKENS, PROMPT_FEATURES)
        load_denoiser(part_of(model, "unet"), part_of(model, "scheduler"), prompt, "cpu", "float32")
    else:
        encode_empty_prompt(part_of(model, "tokenizer"), part_of(model, "text_encoder"))


def test_taesd_brings_a_photograph_back(taesd: Path, dev_photos: list[Path]) -> None:
    with Image.open(dev_photos[0]) as photo:
        original = np.asarray(photo.convert("RGB"), dtype=np.float32).transpose(2, 0, 1) / 127.5 - 1
    autoencoder = load_autoencoder(part_of(taesd, "vae"), "cpu", "float32")
    latents = autoencoder.encode(original)
    assert 0.5 < latents.std() < 2.0
    error = float(np.mean((127.5 * (autoencoder.decode(latents) - original)) ** 2))
    assert 10 * np.log10(255**2 / error) > 20


# Denoisers


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 7)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_unet_takes_latents_of_any_size_in_every_dtype(
    tiny_pipeline: Path, dtype: str, height: int, width: int
) -> None:
    prompt = noise(PROMPT_TOKENS, PROMPT_FEATURES)
    denoiser = load_denoiser(part_of(tiny_pipeline, "unet"), part_of(tiny_pipeline, "scheduler"), prompt, "cpu", dtype)
    diffused = noise(4, height, width)
    predicted = denoiser.predict_noise(diffused, 35.716)
    assert (predicted.shape, predicted.dtype) == (diffused.shape, np.float32)


def test_fractional_timesteps_are_told_from_whole_ones(tiny_pipeline: Path) -> None:
    prompt = noise(PROMPT_TOKENS, PROMPT_FEATURES)
    unet, scheduler = part_of(tiny_pipeline, "unet"), part_of(tiny_pipeline, "scheduler")
    denoiser = load_denoiser(unet, scheduler, prompt, "cpu", "float32")
    diffused = noise(4, 8, 8)
    assert not np.array_equal(denoiser.predict_noise(diffused, 35.0), denoiser.predict_noise(diffused, 35.716))


def test_the_schedule_is_that_of_the_scheduler_config(tiny_pipeline: Path) -> None:
    prompt = noise(PROMPT_TOKENS, PROMPT_FEATURES)
    denoiser = load_denoiser(
        part_of(tiny_pipeline, "unet"), part_of(tiny_pipeline, "scheduler"), prompt, "cpu", "float32"
    )
    assert denoiser.schedule.timestep_of(0.035) == pytest.approx(35.716, abs=1e-3)


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "only 'epsilon', noise, is supported"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "none"}, "scheduler cannot be loaded"),
        ("unet/config.json", {"_class_name": "UNet3DConditionModel"}, "unet is a UNet3DConditionModel"),
        ("unet/config.json", {"in_channels": 9}, "in_channels is 9, not 4"),
    ],
)
def test_denoisers_that_predict_something_else_are_refused(
    pipeline_copy: Path, file: str, changes: dict[str, object], reason: str
) -> None:
    change_json(pipeline_copy / file, **changes)
    with pytest.raises(ModelUnavailableError, match=reason):
        load_part(pipeline_copy, "unet")


def test_a_unet_for_another_text_encoder_is_refused(tiny_pipeline: Path) -> None:
    unet, scheduler = part_of(tiny_pipeline, "unet"), part_of(tiny_pipeline, "scheduler")
    with pytest.raises(ModelUnavailableError, match=r"not of the SD v1 family \(cross_attention_dim is 16, not 8\)"):
        load_denoiser(unet, scheduler, noise(PROMPT_TOKENS, 8), "cpu", "float32")


# Weights in several files


@pytest.fixture(scope="session")
def sharded_pipeline(tiny_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as the libraries save it where a file may not be large, whole and as fp16 variant."""
    import diffusers
    import transformers

    copy = Path(shutil.copytree(tiny_pipeline, tmp_path_factory.mktemp("models") / "sharded"))
    networks = {
        "vae": diffusers.AutoencoderKL,
        "unet": diffusers.UNet2DConditionModel,
        "text_encoder": transformers.CLIPTextModel,
    }
    for name, network_class in networks.items():
        for file in (copy / name).glob("*.safetensors"):
            file.unlink()
        network = network_class.from_pretrained(tiny_pipeline / name)
        network.float().save_pretrained(copy / name, max_shard_size="2KB")
        network.half().save_pretrained(copy / name, max_shard_size="1KB", variant="fp16")
    return copy


@pytest.mark.parametrize("precision", Precision)
def test_weights_in_several_files_are_those_in_one(
    tiny_pipeline: Path, sharded_pipeline: Path, hub_cache: Path, precision: Precision
) -> None:
    prompts, predictions, pictures = [], [], []
    for model in (tiny_pipeline, sharded_pipeline):
        vae, unet, scheduler, tokenizer, text_encoder = (part_of(model, name, precision) for name in PARTS)
        several = model == sharded_pipeline
        for part in (vae, unet, text_encoder):
            assert (len(part.weights) > 1) is several
            assert all(("fp16" in file.name) is (precision is Precision.HALF) for file in part.weights)
        prompts.append(encode_empty_prompt(tokenizer, text_encoder))
        denoiser = load_denoiser(unet, scheduler, prompts[-1], "cpu", "float32")
        predictions.append(denoiser.predict_noise(np.ones((4, 8, 8), np.float32), 35.0))
        pictures.append(load_autoencoder(vae, "cpu", "float32").decode(predictions[-1]))
    for results in (prompts, predictions, pictures):
        np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("name", ["vae", "unet", "text_encoder"])
def test_a_tensor_that_none_of_several_files_has_is_named(
    sharded_pipeline: Path, tmp_path: Path, hub_cache: Path, name: PartName
) -> None:
    model = Path(shutil.copytree(sharded_pipeline, tmp_path / "copy"))
    file = part_of(model, name).weights[-1]
    removed: list[str] = []
    change_weights(file, lambda weights: removed.append(max(weights)) or weights.pop(max(weights)))
    with pytest.raises(ModelUnavailableError, match=f"the weights lack {removed[0]}"):
        load_part(model, name)


@pytest.mark.parametrize("name", ["vae", "unet", "text_encoder"])
def test_a_tensor_of_another_shape_is_named(pipeline_copy: Path, hub_cache: Path, name: PartName) -> None:
    def lengthen(weights: dict[str, Any]) -> None:
        weights[max(weights)] = weights[max(weights)].repeat(2, *[1] * (weights[max(weights)].ndim - 1))

    change_weights(part_of(pipeline_copy, name).weights[0], lengthen)
    with pytest.raises(ModelUnavailableError, match=r"has the shape \[\d.*\], not \[\d"):
        load_part(pipeline_copy, name)


# The empty prompt


def test_the_names_of_older_text_encoders_are_understood(pipeline_copy: Path, hub_cache: Path) -> None:
    parts = part_of(pipeline_copy, "tokenizer"), part_of(pipeline_copy, "text_encoder")
    expected = encode_empty_prompt(*parts)

    def rename(weights: dict[str, Any]) -> None:
        import torch

        for name in list(weights):
            weights[f"text_model.{name.removeprefix('text_model.')}"] = weights.pop(name)
        weights["text_model.embeddings.position_ids"] = torch.arange(PROMPT_TOKENS)[None]  # as in v1.4

    change_weights(parts[1].weights[0], rename)
    np.testing.assert_array_equal(encode_empty_prompt(*parts), expected)


@pytest.fixture
def text_encoders(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """References to all text encoders loaded during the test."""
    from transformers import CLIPTextModel

    loaded: list[weakref.ref[Any]] = []
    make = CLIPTextModel.__init__

    def record(network: Any, *args: Any, **kwargs: Any) -> None:
        make(network, *args, **kwargs)
        loaded.append(weakref.ref(network))

    monkeypatch.setattr(CLIPTextModel, "__init__", record)
    return loaded


def test_the_empty_prompt_is_encoded_once_and_the_text_encoder_released(
    tiny_pipeline: Path, hub_cache: Path, text_encoders: list[weakref.ref[Any]]
) -> None:
    import torch
    from transformers import CLIPTextModel

    tokenizer, text_encoder = part_of(tiny_pipeline, "tokenizer"), part_of(tiny_pipeline, "text_encoder")
    encoding = encode_empty_prompt(tokenizer, text_encoder)
    assert (encoding.shape, encoding.dtype) == ((PROMPT_TOKENS, PROMPT_FEATURES), np.float32)
    assert len(text_encoders) == 1
    gc.collect()
    assert text_encoders[0]() is None

    np.testing.assert_array_equal(encode_empty_prompt(tokenizer, text_encoder), encoding)
    assert len(text_encoders) == 1
    assert len(list((hub_cache / "pillow_sdc" / "empty_prompt").iterdir())) == 1

    network = CLIPTextModel.from_pretrained(text_encoder.directory, dtype=torch.float32)
    tokens = torch.tensor([[52] + [53] * (PROMPT_TOKENS - 1)])
    with torch.no_grad():
        np.testing.assert_allclose(network(tokens)[0][0].numpy(), encoding, atol=1e-6)


def zeroed_tail(content: bytes) -> bytes:
    return content[:-100] + bytes(100)


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"no safetensors file", lambda _: b"\xff" * 500, lambda x: x[:-1], zeroed_tail]
)
def test_a_damaged_cache_file_is_computed_again(
    tiny_pipeline: Path,
    hub_cache: Path,
    text_encoders: list[weakref.ref[Any]],
    damage: Callable[[bytes], bytes],
) -> None:
    tokenizer, text_encoder = part_of(tiny_pipeline, "tokenizer"), part_of(tiny_pipeline, "text_encoder")
    encoding = encode_empty_prompt(tokenizer, text_encoder)
    (file,) = (hub_cache / "pillow_sdc" / "empty_prompt").iterdir()
    intact = file.read_bytes()
    file.write_bytes(damage(intact))
    np.testing.assert_array_equal(encode_empty_prompt(tokenizer, text_encoder), encoding)
    assert len(text_encoders) == 2
    assert file.read_bytes() == intact


def test_other_files_have_another_encoding(pipeline_copy: Path, hub_cache: Path) -> None:
    def amplify(weights: dict[str, Any]) -> None:
        (name,) = (name for name in weights if name.endswith("final_layer_norm.weight"))
        weights[name] *= 2

    parts = part_of(pipeline_copy, "tokenizer"), part_of(pipeline_copy, "text_encoder")
    before = encode_empty_prompt(*parts)
    change_weights(pipeline_copy / "text_encoder" / "model.safetensors", amplify)
    assert not np.array_equal(encode_empty_prompt(*parts), before)


def test_a_cache_that_cannot_be_written_does_no_harm(
    tiny_pipeline: Path, hub_cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub_cache.write_text("a file where a directory should be")
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        encode_empty_prompt(part_of(tiny_pipeline, "tokenizer"), part_of(tiny_pipeline, "text_encoder"))
    assert "cannot keep the empty prompt's encoding" in caplog.text


def test_loading_prints_nothing_and_leaves_the_users_logging_alone(
    tiny_pipeline: Path, hub_cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    from transformers.utils import logging as transformers_logging

    assert transformers_logging.is_progress_bar_enabled()
    names: tuple[PartName, ...] = ("vae", "unet", "text_encoder")
    for name in names:
        load_part(tiny_pipeline, name)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""
    assert transformers_logging.is_progress_bar_enabled()
    assert not any(handler.filters for handler in logging.getLogger("diffusers").handlers)
