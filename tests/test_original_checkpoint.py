"""Checkpoints in one file, as AUTOMATIC1111 and ComfyUI keep them: what they are, and that they compute the same."""

import json
import re
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file
from sdc_command import sdc

import pillow_sdc
from benchmarks.original_layout import Tensors, original_tensors, original_unet, original_vae, save
from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.models import clear_cache, denoise, fetch_model, get_models, kinds
from pillow_sdc.models.diffusion import hub, original_checkpoint, single_file
from pillow_sdc.models.diffusion.empty_prompt import encode_empty_prompt
from pillow_sdc.models.diffusion.layout import DamagedFileError, Precision
from pillow_sdc.models.diffusion.original_checkpoint import PREFIXES, Family, identify
from pillow_sdc.models.diffusion.original_names import with_diffusers_names
from pillow_sdc.options import Settings

PIXELS = np.tanh(np.random.default_rng(0).standard_normal((3, 32, 40))).astype(np.float32)
LATENTS = np.random.default_rng(1).standard_normal((4, 4, 5)).astype(np.float32)
UNET = PREFIXES["unet"]


@pytest.fixture(autouse=True)
def _nothing_loaded_or_cached(hub_cache: Path) -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


@pytest.fixture
def _small(tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configurations of a small pipeline in place of Stable Diffusion v1's."""
    monkeypatch.setattr(single_file, "CONFIGURATIONS", tiny_pipeline)


@pytest.fixture
def tensors(tiny_pipeline: Path) -> Tensors:
    return original_tensors(tiny_pipeline)


@pytest.fixture
def vae_tensors(tiny_pipeline: Path) -> Tensors:
    return original_vae(load_file(tiny_pipeline / "vae" / "diffusion_pytorch_model.safetensors"))


def round_trip(model: Path, **settings: str) -> list[NDArray[np.float32]]:
    """Return the latents of pixels, and other latents without their noise and their pixels."""
    models = get_models(Settings(**{"model": str(model), "device": "cpu", **settings}))  # type: ignore[arg-type]
    assert models.denoiser is not None
    clean = denoise(LATENTS, 0.035, models.denoiser, 2)
    return [models.autoencoder.encode(PIXELS), clean, models.autoencoder.decode(clean)]


def assert_same(found: list[NDArray[np.float32]], expected: list[NDArray[np.float32]], tolerance: float = 1e-6) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)


# What a file is


def some(**shapes: tuple[int, ...]) -> Tensors:
    return {name.replace("__", "."): torch.zeros(shape) for name, shape in shapes.items()}


V1 = some(
    **{
        "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
        "first_stage_model.decoder.norm_out.weight": (8,),
        f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3),
        "cond_stage_model.transformer.text_model.final_layer_norm.weight": (8,),
    }
)
FAMILIES = {
    "v1": (V1, Family.SD_V1),
    "v1-without-vae": ({name: each for name, each in V1.items() if "first_stage" not in name}, Family.SD_V1),
    "vae": (some(**{"decoder.conv_in.weight": (8, 4, 3, 3)}), Family.AUTOENCODER),
    "vae-with-prefix": ({name: each for name, each in V1.items() if "first_stage" in name}, Family.AUTOENCODER),
    "flux-vae": (some(**{"decoder.conv_in.weight": (8, 16, 3, 3)}), Family.OTHER_AUTOENCODER),
    "SDXL_vae": (some(**{"decoder.conv_in.weight": (8, 4, 3, 3)}), Family.OTHER_AUTOENCODER),
    "v2": (V1 | some(**{"cond_stage_model.model.token_embedding.weight": (8, 8)}), Family.SD_V2),
    "v2-by-its-attention": (
        V1 | some(**{f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (8, 1024)}),
        Family.SD_V2,
    ),
    "xl": (V1 | some(**{"conditioner.embedders.0.x": (8,), f"{UNET}label_emb.0.0.weight": (8, 8)}), Family.SD_XL),
    "v3": (some(**{f"{UNET}joint_blocks.0.x": (8,)}), Family.SD_3),
    "flux": (some(**{"double_blocks.0.x": (8,)}), Family.FLUX),
    "inpainting": (V1 | some(**{f"{UNET}input_blocks.0.0.weight": (8, 9, 3, 3)}), Family.INPAINTING),
    "v-prediction": (V1 | some(v_pred=(0,)), Family.V_PREDICTION),
    "unet": (some(**{f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3)}), Family.UNET),
    "text-encoder": (some(**{"text_model.final_layer_norm.weight": (8,)}), Family.TEXT_ENCODER),
    "lora": (some(**{"lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": (8, 1)}), Family.LORA),
    "lora-of-peft": (some(**{"unet.mid_block.attn.to_q.lora_A.weight": (8, 1)}), Family.LORA),
    "controlnet": (some(**{"control_model.time_embed.0.weight": (8,)}), Family.CONTROL_NET),
    "embedding": (some(emb_params=(2, 768)), Family.EMBEDDING),
    "other": (some(something=(8,)), Family.UNKNOWN),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_file_is_told_by_the_names_and_shapes_of_its_tensors(name: str, tmp_path: Path) -> None:
    content, family = FAMILIES[name]
    found = identify(save(content, tmp_path / f"{name}.safetensors"))
    assert found.family is family
    assert found.size == found.path.stat().st_size
    if not family.is_usable:
        assert found.parts == ()
        with pytest.raises(
            ModelUnavailableError, match=re.escape(f"{found.path} is {family.value}; name a checkpoint")
        ):
            fetch_model(str(found.path))


@pytest.mark.parametrize(
    ("metadata", "name", "family"),
    [
        ({"modelspec.prediction_type": "v"}, "v1", Family.V_PREDICTION),
        ({"modelspec.prediction_type": "epsilon", "modelspec.architecture": "stable-diffusion-v1"}, "v1", Family.SD_V1),
        ({"modelspec.architecture": "stable-diffusion-xl-v1-base"}, "vae", Family.OTHER_AUTOENCODER),
        ({"modelspec.architecture": "stable-diffusion-v1/lora"}, "other", Family.LORA),
    ],
)
def test_metadata_tell_what_tensors_do_not(metadata: dict[str, str], name: str, family: Family, tmp_path: Path) -> None:
    assert identify(save(FAMILIES[name][0], tmp_path / "file.safetensors", **metadata)).family is family


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ('model:\n  params:\n    parameterization: "v"\n', Family.V_PREDICTION),
        ("model:\n  params:\n    parameterization: v\n", Family.V_PREDICTION),
        ("model:\n  params:\n    parameterization: eps\n", Family.SD_V1),
    ],
)
def test_a_configuration_of_its_name_tells_that_a_checkpoint_predicts_v(
    text: str, family: Family, tmp_path: Path
) -> None:
    (tmp_path / "tuned.yaml").write_text(text)
    assert identify(save(V1, tmp_path / "tuned.safetensors")).family is family


def test_what_a_checkpoint_has_is_told(tmp_path: Path) -> None:
    ema = some(model_ema__decay=(1,)) | {"model_ema.diffusion_modelout": torch.zeros(10_000)}
    half = {name: tensor.half() for name, tensor in V1.items()}
    found = identify(save(half | ema, tmp_path / "unpruned.safetensors"))
    assert (found.parts, found.precision, found.prefix) == (("vae", "unet", "text_encoder"), "float16", PREFIXES["vae"])
    assert (found.has_original_names, found.has_ema) == (True, True)
    alone = identify(save(FAMILIES["vae"][0], tmp_path / "vae.safetensors"))
    assert (alone.parts, alone.precision, alone.prefix) == (("vae",), "float32", "")
    assert (alone.has_original_names, alone.has_ema) == (False, False)


def headed(header: object, data: bytes = b"") -> bytes:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + data


def entry(**changes: object) -> dict[str, object]:
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


DAMAGED = {
    "empty": (b"", "is cut short: it has 0 bytes"),
    "short": (b"\x10\0\0", "is cut short: it has 3 bytes"),
    "cut": (headed(entry(), bytes(7)), "is cut short: it has .* bytes, and its header says"),
    "longer": (headed(entry(), bytes(9)), "is damaged: it has .* bytes, and its header says"),
    "zeros": (bytes(1000), "its header has 0 bytes"),
    "endless header": (struct.pack("<Q", 2**62) + b"{}" * 100, "its header has 4,611,686,018,427,387,904 bytes"),
    "no JSON": (headed(b"{" * 100), "is damaged, or no safetensors file"),
    "deep JSON": (headed(b"[" * 100_000), "is damaged, or no safetensors file"),
    "list": (headed([]), "is damaged, or no safetensors file"),
    "no entry": (headed({"x": 1}), "is damaged, or no safetensors file"),
    "no metadata": (headed({"__metadata__": [1]}), "is damaged, or no safetensors file"),
    "other size": (headed(entry(shape=[3]), bytes(8)), r"a tensor of F32 and the shape \[3\] has 8 bytes"),
    "negative": (headed(entry(shape=[-2]), bytes(8)), "is damaged, or no safetensors file"),
    "truth": (headed(entry(shape=[True]), bytes(8)), "is damaged, or no safetensors file"),
    "huge": (headed(entry(dtype="F4", shape=[2**63]), bytes(8)), "is damaged, or no safetensors file"),
    "backwards": (headed(entry(dtype="F4", data_offsets=[8, 0]), bytes(8)), "is damaged, or no safetensors file"),
    "many dimensions": (headed(entry(shape=[1] * 99 + [2]), bytes(8)), "a tensor has 100 dimensions"),
    "pickle": (b"PK\x03\x04" + bytes(100), "is a pickle of torch's"),
    "old pickle": (b"\x80\x02\x8a\nl\xfc" + bytes(100), "is a pickle of torch's"),
    "GGUF": (b"GGUF" + bytes(100), "is a GGUF file"),
    "web page": (b"\n<!DOCTYPE html>" + bytes(100), "is a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_or_foreign_file_is_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    content, reason = DAMAGED[name]
    file = tmp_path / "file.safetensors"
    file.write_bytes(content)
    with pytest.raises(DamagedFileError, match=f"^{re.escape(str(file))} .*{reason}"):
        identify(file)
    with pytest.raises(ModelUnavailableError, match=f"{re.escape(str(file))} .*{reason}") as caught:
        fetch_model(str(file))
    assert "\n" not in str(caught.value)


def test_a_header_that_looks_like_the_beginning_of_a_pickle_is_read(tmp_path: Path) -> None:
    content = json.dumps(entry()).encode().ljust(0x280)
    (tmp_path / "file.safetensors").write_bytes(headed(content, bytes(8)))
    assert (tmp_path / "file.safetensors").read_bytes().startswith(b"\x80\x02")
    assert identify(tmp_path / "file.safetensors").family is Family.UNKNOWN


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".CKPT"])
def test_pickles_are_told_by_their_suffix_and_never_opened_as_anything_else(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"v1-5-pruned{suffix}"
    file.write_bytes(b"anything at all")
    with pytest.raises(ModelUnavailableError, match=r"is a pickle .* never loaded; take the model's \.safetensors"):
        fetch_model(str(file))


def test_a_file_that_is_not_there_is_said_to_be_so() -> None:
    with pytest.raises(ModelUnavailableError, match=r"models/absent\.safetensors is not there; "):
        fetch_model("models/absent.safetensors")


def test_names_stand_for_files_by_their_suffix_or_if_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").write_bytes(b"")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("~/model", "someone/model.safetensors", "model.ckpt"):
        assert kinds.kind_of(name) is kinds.SINGLE_FILE
    for name in ("someone/model", str(tmp_path / "folder.safetensors")):
        assert kinds.kind_of(name) is kinds.DIFFUSERS
    assert original_checkpoint.file_of("~/model") == tmp_path / "model"


# What it computes


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_checkpoint_computes_what_the_directory_does_that_it_was_made_from(
    dtype: torch.dtype, tiny_pipeline: Path, tmp_path: Path
) -> None:
    checkpoint = save(original_tensors(tiny_pipeline, dtype), tmp_path / "tiny.safetensors")
    directory = Path(shutil.copytree(tiny_pipeline, tmp_path / "rounded"))
    for weights in (
        *directory.rglob("diffusion_pytorch_model.safetensors"),
        directory / "text_encoder/model.safetensors",
    ):
        save({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights, format="pt")
    assert_same(round_trip(checkpoint), round_trip(directory))
    assert identify(checkpoint).precision == str(dtype).removeprefix("torch.")


@pytest.mark.usefixtures("_small")
def test_pictures_through_a_checkpoint_name_it(tiny_pipeline: Path, tensors: Tensors, tmp_path: Path) -> None:
    checkpoint = save(tensors, tmp_path / "tiny.safetensors")
    picture = Image.linear_gradient("L").resize((24, 16)).convert("RGB")
    results = []
    for model in (tiny_pipeline, checkpoint):
        with pillow_sdc.configure(model=model, device="cpu"):
            data = pillow_sdc.encode(picture, quality=20)
            results.append((data, pillow_sdc.decode(data)))
    (expected, from_directory), (data, decoded) = results
    assert data == expected
    np.testing.assert_array_equal(np.asarray(decoded), np.asarray(from_directory))
    report = decoded.info["sdc"]
    assert (report["model"], report["vae"], report["denoiser"]) == (str(checkpoint), None, str(checkpoint))


@pytest.mark.usefixtures("_small")
def test_averaged_weights_and_the_state_of_training_change_nothing(
    tiny_pipeline: Path, tensors: Tensors, tmp_path: Path
) -> None:
    training = {
        f"model_ema.{name.removeprefix('model.').replace('.', '')}": tensor + 1 for name, tensor in tensors.items()
    }
    training |= some(model_ema__decay=(), betas=(1000,), alphas_cumprod=(1000,))
    unpruned = save(tensors | training, tmp_path / "unpruned.safetensors")
    assert identify(unpruned).has_ema
    assert_same(round_trip(unpruned), round_trip(tiny_pipeline))


@pytest.mark.usefixtures("_small")
def test_a_text_encoder_without_a_second_prefix_is_read_too(
    tiny_pipeline: Path, tensors: Tensors, tmp_path: Path
) -> None:
    renamed = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in tensors.items()}
    assert_same(round_trip(save(renamed, tmp_path / "old.safetensors")), round_trip(tiny_pipeline))


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("prefix", ["", PREFIXES["vae"]])
@pytest.mark.parametrize("convolutions", [True, False])
def test_an_autoencoder_alone_is_read_with_and_without_prefix(
    prefix: str, convolutions: bool, tiny_pipeline: Path, tmp_path: Path
) -> None:
    weights = load_file(tiny_pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    renamed = {prefix + name: each for name, each in original_vae(weights, convolutions=convolutions).items()}
    alone = save(renamed | some(**{"loss.logvar": ()}), tmp_path / "alone.safetensors")
    assert_same(round_trip(alone), round_trip(tiny_pipeline / "vae"))
    models = get_models(Settings(model=str(alone), device="cpu"))
    assert models.denoiser is not None
    assert models.denoiser.name == "compact"


@pytest.mark.usefixtures("_small")
def test_an_autoencoder_in_diffusers_layout_is_read_from_its_file(tiny_pipeline: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    alone = save(weights, tmp_path / "vae-ft-mse.safetensors")
    expected = round_trip(tiny_pipeline / "vae")
    assert_same(round_trip(alone), expected)
    assert_same(round_trip(tiny_pipeline / "vae" / "diffusion_pytorch_model.safetensors"), expected)


@pytest.mark.usefixtures("_small")
def test_the_configuration_beside_an_autoencoder_tells_its_latent_space(tiny_pipeline: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_pipeline / "vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.13025}))
    weights = load_file(tiny_pipeline / "vae" / "diffusion_pytorch_model.safetensors")
    alone = save(weights, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"not of the SD v1 family \(scaling_factor is 0.13025"):
        fetch_and_load(alone)


def test_a_file_of_another_kind_of_model_points_to_its_folder(taesd: Path) -> None:
    file = taesd / "diffusion_pytorch_model.safetensors"
    with pytest.raises(ModelUnavailableError, match=re.escape(f"; name the folder {taesd}, or")):
        fetch_model(str(file))


def fetch_and_load(model: Path) -> None:
    fetch_model(str(model))
    models = get_models(Settings(model=str(model), device="cpu"))
    _ = models.autoencoder
    _ = models.denoiser


LACKING = {
    "first_stage_model.decoder.conv_out.bias": r"\(ValueError: the weights lack decoder.conv_out.bias\)",
    "first_stage_model.encoder.mid.attn_1.q.weight": "the weights lack encoder.mid_block.attentions.0.to_q.weight",
    f"{UNET}middle_block.0.in_layers.0.weight": "the weights lack mid_block.resnets.0.norm1.weight",
    "cond_stage_model.transformer.text_model.final_layer_norm.bias": "the weights lack .*final_layer_norm.bias",
}


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("name", LACKING)
def test_a_tensor_that_is_missing_is_named_with_the_file(name: str, tensors: Tensors, tmp_path: Path) -> None:
    del tensors[name]
    file = save(tensors, tmp_path / "lacking.safetensors")
    with pytest.raises(ModelUnavailableError, match=f"{re.escape(str(file))} cannot be loaded.*{LACKING[name]}"):
        fetch_and_load(file)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("vae", r"has no autoencoder; name one beside it with pillow_sdc.configure\(vae=\.\.\.\)"),
        ("text_encoder", "has no text encoder, which the U-Net takes its prompt from; name a checkpoint"),
    ],
)
def test_a_checkpoint_that_lacks_a_part_says_so(part: str, reason: str, tensors: Tensors, tmp_path: Path) -> None:
    kept = {name: each for name, each in tensors.items() if not name.startswith(PREFIXES[part])}  # type: ignore[index]
    with pytest.raises(ModelUnavailableError, match=reason):
        fetch_and_load(save(kept, tmp_path / "part.safetensors"))


def test_weights_of_other_sizes_than_stable_diffusions_are_refused(tensors: Tensors, tmp_path: Path) -> None:
    file = save(tensors, tmp_path / "tiny.safetensors")
    with pytest.raises(ModelUnavailableError, match=r"has the shape \[8, 3, 3, 3\], not \[128, 3, 3, 3\]"):
        fetch_and_load(file)


@pytest.mark.usefixtures("_small")
def test_parts_are_loaded_when_they_are_needed_and_no_others(
    tensors: Tensors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import safetensors

    read: list[str] = []
    opened = safetensors.safe_open

    class Recording:
        def __init__(self, *args: object, **kwargs: object) -> None:
            self._file = opened(*args, **kwargs)  # type: ignore[arg-type]

        def __enter__(self) -> "Recording":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def keys(self) -> list[str]:
            return list(self._file.keys())

        def get_tensor(self, name: str) -> torch.Tensor:
            read.append(name)
            return self._file.get_tensor(name)  # type: ignore[no-any-return]

    monkeypatch.setattr(safetensors, "safe_open", Recording)
    models = get_models(Settings(model=str(save(tensors, tmp_path / "tiny.safetensors")), device="cpu"))
    assert read == []
    _ = models.autoencoder
    assert read
    assert all(name.startswith(PREFIXES["vae"]) for name in read)
    read.clear()
    _ = models.denoiser
    assert {name.split(".")[0] for name in read} == {"cond_stage_model", "model"}


# The parts of Stable Diffusion v1 that come with the package


def configuration_of(name: str) -> dict[str, Any]:
    configuration: dict[str, Any] = json.loads((single_file.CONFIGURATIONS / name).read_text())
    return configuration


def test_the_configurations_are_those_of_stable_diffusion_v1() -> None:
    """By the parameters of each part, which are known."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device("meta"):
        networks = {
            83_653_863: AutoencoderKL.from_config(configuration_of("vae/config.json")),
            859_520_964: UNet2DConditionModel.from_config(configuration_of("unet/config.json")),
            123_060_480: CLIPTextModel(CLIPTextConfig(**configuration_of("text_encoder/config.json"))),
        }
    for parameters, network in networks.items():
        assert sum(each.numel() for each in network.parameters()) == parameters
    scheduler = DDIMScheduler.from_config(configuration_of("scheduler/scheduler_config.json"))
    assert scheduler.config.prediction_type == "epsilon"
    assert float(scheduler.alphas_cumprod[0]) == pytest.approx(1 - 0.00085)
    assert float(scheduler.alphas_cumprod[-1]) == pytest.approx(0.00466, abs=1e-5)
    configuration = configuration_of("text_encoder/config.json")
    tokens = [configuration[name] for name in ("bos_token_id", "eos_token_id", "max_position_embeddings")]
    assert tokens == [49406, 49407, 77]


def test_names_of_the_full_size_are_those_that_were_published_and_come_back() -> None:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with torch.device("meta"):
        vae = AutoencoderKL.from_config(configuration_of("vae/config.json"))
        unet = UNet2DConditionModel.from_config(configuration_of("unet/config.json"))
    for network, renamed, published in (
        (vae, original_vae(vae.state_dict()), PUBLISHED_OF_VAE),
        (unet, original_unet(unet.state_dict()), PUBLISHED_OF_UNET),
    ):
        assert {name: list(renamed[name].shape) for name in published} == published
        back = with_diffusers_names(renamed, network)
        assert {name: each.shape for name, each in back.items()} == {
            name: each.shape for name, each in network.state_dict().items()
        }


PUBLISHED_OF_VAE = {
    "encoder.down.0.block.0.norm1.weight": [128],
    "encoder.down.1.block.0.nin_shortcut.weight": [256, 128, 1, 1],
    "encoder.down.2.downsample.conv.weight": [512, 512, 3, 3],
    "encoder.mid.attn_1.q.weight": [512, 512, 1, 1],
    "encoder.conv_out.weight": [8, 512, 3, 3],
    "quant_conv.weight": [8, 8, 1, 1],
    "post_quant_conv.bias": [4],
    "decoder.mid.attn_1.proj_out.weight": [512, 512, 1, 1],
    "decoder.up.3.upsample.conv.weight": [512, 512, 3, 3],
    "decoder.up.0.block.0.nin_shortcut.weight": [128, 256, 1, 1],
    "decoder.norm_out.weight": [128],
}
PUBLISHED_OF_UNET = {
    "time_embed.2.weight": [1280, 1280],
    "input_blocks.0.0.weight": [320, 4, 3, 3],
    "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [320, 768],
    "input_blocks.3.0.op.weight": [320, 320, 3, 3],
    "input_blocks.4.0.skip_connection.weight": [640, 320, 1, 1],
    "middle_block.1.proj_in.weight": [1280, 1280, 1, 1],
    "middle_block.2.out_layers.3.weight": [1280, 1280, 3, 3],
    "output_blocks.2.1.conv.weight": [1280, 1280, 3, 3],
    "output_blocks.5.2.conv.weight": [1280, 1280, 3, 3],
    "output_blocks.11.0.skip_connection.weight": [320, 640, 1, 1],
    "out.2.weight": [4, 320, 3, 3],
}


@pytest.mark.usefixtures("_small")
def test_the_empty_prompt_without_a_tokenizer_is_the_tokenizers(
    tiny_pipeline: Path, tmp_path: Path, tensors: Tensors
) -> None:

    found = identify(save(tensors, tmp_path / "tiny.safetensors"))
    ours = encode_empty_prompt(None, single_file.part_of("tiny", found, "text_encoder"))
    parts = (hub.locate(str(tiny_pipeline), part, Precision.FULL) for part in ("tokenizer", "text_encoder"))
    np.testing.assert_array_equal(ours, encode_empty_prompt(*parts))


# The command line


@pytest.mark.parametrize("name", ["lora", "v2", "xl", "inpainting", "v-prediction"])
def test_doctor_says_that_it_would_fail(name: str, tmp_path: Path) -> None:
    file = save(FAMILIES[name][0], tmp_path / f"{name}.safetensors")
    result = sdc("doctor", "--model", file, "--device", "cpu")
    assert result.exit_code == 1
    assert (
        f"fails decodes       model '{file}' is not available: {file} is {FAMILIES[name][1].value}; " in result.stdout
    )
    assert "ok    decodes" not in result.stdout


def test_doctor_refuses_a_folder_without_a_model_and_names_what_is_in_it(tmp_path: Path) -> None:
    result = sdc("doctor", "--model", tmp_path, "--device", "cpu")
    assert result.exit_code == 1
    assert "it has neither model_index.json, like a pipeline, nor config.json" in result.stdout
    file = save(V1, tmp_path / "some.safetensors")
    assert f"; name a file in it, such as {file}, or" in sdc("doctor", "--model", tmp_path, "--device", "cpu").stdout


@pytest.mark.usefixtures("_small")
def test_doctor_and_the_models_commands_take_a_file(tensors: Tensors, tmp_path: Path) -> None:
    file = save(tensors, tmp_path / "tiny.safetensors")
    result = sdc("doctor", "--model", file, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"ok    decodes       {file} on cpu in float32, as the settings say" in result.stdout
    for command in ("where", "fetch"):
        result = sdc("models", command, file)
        assert (result.exit_code, result.stdout.strip()) == (0, str(file))
    assert sdc("models", "where", tmp_path / "absent.safetensors").exit_code == 1
