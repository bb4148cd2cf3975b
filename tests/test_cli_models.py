"""``sdc models`` and ``sdc doctor``: what there is to decode with, and whether it works."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner, Result

from benchmarks.original_layout import original_tensors, save
from pillow_sdc.cli import app
from pillow_sdc.models import clear_cache, compact, loading
from pillow_sdc.models.compact import sessions
from pillow_sdc.models.diffusion import hub
from pillow_sdc.runtime import libraries

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODEL", "DEVICE", "DTYPE", "DENOISE_STEPS", "CODEC", "QUALITY", "AUTOLOAD", "MODEL_PATH", "VAE"):
        monkeypatch.delenv(f"PILLOW_SDC_{name}", raising=False)


@pytest.fixture(autouse=True)
def _nothing_loaded_or_said(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(loading, "_has_warned", False)
    clear_cache()
    yield
    clear_cache()


def sdc(*args: str | os.PathLike[str]) -> Result:
    return CliRunner().invoke(app, [os.fspath(arg) for arg in args])


def cache(model: Path, hub_cache: Path, name: str) -> Path:
    """Put a copy of a model into the hub's cache, and return where it lies there."""
    repository = hub_cache / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    shutil.copytree(model, snapshot)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    return snapshot


def test_fetch_prints_where_a_directory_lies(tiny_pipeline: Path) -> None:
    result = sdc("models", "fetch", tiny_pipeline)
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tiny_pipeline)


def test_fetch_explains_in_one_line_what_is_missing(tmp_path: Path) -> None:
    result = sdc("models", "fetch", tmp_path / "nothing")
    assert result.exit_code == 1
    assert result.stderr.startswith("sdc: ")
    assert "nothing" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_list_names_the_embedded_model_and_what_auto_takes(hub_cache: Path) -> None:
    result = sdc("models", "list", "--debug")
    assert result.exit_code == 0
    assert result.stdout.startswith("compact  3.3 MB")
    assert "auto takes compact on cpu in int8: the device is not CUDA, and" in result.stdout


def test_list_names_models_in_the_hubs_cache_and_what_they_lack(hub_cache: Path, tiny_pipeline: Path) -> None:
    cache(tiny_pipeline, hub_cache, "someone/whole")
    part = cache(tiny_pipeline, hub_cache, "someone/part")
    shutil.rmtree(part / "unet")
    other = cache(tiny_pipeline, hub_cache, "someone/other")
    config = other / "vae" / "config.json"
    config.write_text(config.read_text().replace('"latent_channels": 4', '"latent_channels": 16'))
    result = sdc("models", "list")
    assert result.exit_code == 0
    assert "someone/whole" in result.stdout
    assert "pipeline, without unet, in " in result.stdout
    assert "someone/other" not in result.stdout


def test_list_names_the_model_of_the_settings(
    hub_cache: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", str(tiny_pipeline))
    result = sdc("models", "list")
    assert f"pipeline, in {tiny_pipeline}" in result.stdout
    monkeypatch.setenv("PILLOW_SDC_MODEL", "someone/absent")
    result = sdc("models", "list")
    assert "not here; sdc models fetch someone/absent brings it" in result.stdout


def test_where_prints_the_directory(hub_cache: Path, tiny_pipeline: Path) -> None:
    snapshot = cache(tiny_pipeline, hub_cache, "someone/whole")
    for name, directory in (("someone/whole", snapshot), (tiny_pipeline, tiny_pipeline), ("compact", compact.WEIGHTS)):
        result = sdc("models", "where", name)
        assert (result.exit_code, result.stdout.strip()) == (0, str(directory))


@pytest.mark.parametrize("name", ["someone/absent", "auto"])
def test_where_says_that_a_model_is_not_here(hub_cache: Path, name: str) -> None:
    result = sdc("models", "where", name)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert ": not on this machine; sdc models fetch " in result.stderr
    assert not hub_cache.exists()


def test_where_names_the_parts_that_a_model_lacks(hub_cache: Path, tiny_pipeline: Path) -> None:
    shutil.rmtree(cache(tiny_pipeline, hub_cache, "someone/part") / "unet")
    result = sdc("models", "where", "someone/part")
    assert result.exit_code == 1
    assert result.stderr.startswith("sdc: someone/part: without its unet; ")


def test_doctor_finds_that_the_embedded_model_decodes(hub_cache: Path) -> None:
    result = sdc("doctor", "--device", "cpu")
    assert result.exit_code == 0, result.output
    for words in (
        "Python 3.",
        "pillow-sdc ",
        "model         auto (default)",
        "device        cpu (option)",
        "round trip",
    ):
        assert words in result.stdout
    assert "compact on cpu in int8: the device is not CUDA" in result.stdout
    assert "fails" not in result.stdout


def test_doctor_names_the_variables_that_settings_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setenv("PILLOW_SDC_AUTOLOAD", "0")
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "40")
    result = sdc("doctor")
    assert "quality       40 (PILLOW_SDC_QUALITY)" in result.stdout
    assert "codec         not set (default)" in result.stdout
    assert "compact (PILLOW_SDC_MODEL)" in result.stdout
    assert "only after import pillow_sdc: PILLOW_SDC_AUTOLOAD is '0'" in result.stdout
    assert result.exit_code == 0


def test_doctor_tries_the_model_that_is_named(tiny_pipeline: Path, hub_cache: Path) -> None:
    result = sdc("doctor", "--model", tiny_pipeline)
    assert result.exit_code == 0, result.output
    assert f"64×64 with {tiny_pipeline}: encoded in " in result.stdout
    assert f", 4 steps of {tiny_pipeline}, " in result.stdout


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("PILLOW_SDC_DENOISE_STEPS", "many", "PILLOW_SDC_DENOISE_STEPS is 'many'"),
        ("PILLOW_SDC_QUALITY", "75.5", "PILLOW_SDC_QUALITY is '75.5'; it must be a whole number from 1 to 100"),
        ("PILLOW_SDC_CODEC", "jpeg", "PILLOW_SDC_CODEC is 'jpeg'; it must be one of uint8, palette, context"),
        ("PILLOW_SDC_DEVICE", "frobnicator", "device is 'frobnicator'"),
        ("PILLOW_SDC_MODEL", "neither/directory/nor-id", "neither a file, nor a directory, nor the id"),
    ],
)
def test_doctor_finds_settings_that_cannot_work(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str
) -> None:
    monkeypatch.setenv(variable, value)
    result = sdc("doctor")
    assert result.exit_code == 1
    assert words in result.stdout
    assert "Decoding would fail here." in result.stdout
    assert "ok    decodes" not in result.stdout


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """What breaks a library, as far as the package sees it: a name that it uses is not there."""

    def break_it(library: str) -> None:
        monkeypatch.setitem(libraries._USED, library, ("gone",))
        sessions.runtime.cache_clear()

    monkeypatch.setattr(libraries, "_first_reasons", {})
    yield break_it
    sessions.runtime.cache_clear()


@pytest.mark.parametrize("library", ["torch", "transformers", "diffusers"])
def test_doctor_finds_that_a_library_of_the_model_is_broken(
    broken: Callable[[str], None], hub_cache: Path, tiny_pipeline: Path, library: str
) -> None:
    broken(library)
    result = sdc("doctor", "--device", "cpu", "--model", tiny_pipeline)
    assert result.exit_code == 1
    assert f"fails libraries     {library} is installed, but importing it fails (AttributeError: " in result.stdout
    assert f"install it again with pip install --force-reinstall {library}\n" in result.stdout
    assert "decodes" not in result.stdout
    embedded = sdc("doctor", "--device", "cpu")  # which needs none of them
    assert embedded.exit_code == 0
    assert "ok    decodes       compact" in embedded.stdout


def test_doctor_finds_that_onnxruntime_is_broken(
    broken: Callable[[str], None], hub_cache: Path, tiny_pipeline: Path
) -> None:
    broken("onnxruntime")
    for model, where in (("compact", "libraries"), ("auto", "libraries"), (tiny_pipeline / "vae", "decodes  ")):
        result = sdc("doctor", "--device", "cpu", "--model", model)
        assert result.exit_code == 1
        assert f"fails {where}     onnxruntime is installed, but importing it fails" in result.stdout
        assert "ok    decodes" not in result.stdout


def test_doctor_says_that_auto_does_without_a_model_whose_library_is_broken(
    broken: Callable[[str], None], hub_cache: Path, tiny_pipeline: Path
) -> None:
    cache(tiny_pipeline, hub_cache, hub.DEFAULT_MODEL)
    broken("diffusers")
    result = sdc("doctor", "--device", "cpu")
    assert result.exit_code == 0
    assert "note  decodes       compact on cpu in int8: diffusers is installed, but importing it fails" in result.stdout


def test_doctor_finds_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(compact.WEIGHTS, tmp_path / "weights")
    with (tmp_path / "weights" / "decoder.onnx").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff")
    monkeypatch.setattr(sessions, "WEIGHTS", tmp_path / "weights")
    result = sdc("doctor")
    assert result.exit_code == 1
    assert "decoder.onnx is damaged" in result.stdout


# Damage


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def make_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def write_pointer(file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")


def lose(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.parent / "gone")


def remove_tensor(file: Path) -> None:
    weights = load_file(file)
    del weights[max(weights)]
    save_file(weights, file)


DAMAGES: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "reference cut": ("../../refs/main", cut, "which is not a commit"),
    "reference unreadable": ("../../refs/main", lambda file: file.write_bytes(b"\xff"), "cannot be read"),
    "reference a folder": ("../../refs/main", make_folder, "cannot be read"),
    "snapshot lost": ("../../refs/main", lambda file: file.write_text("1" * 40), "which is not there"),
    "index cut": ("model_index.json", cut, "is damaged or cut short"),
    "config cut": ("vae/config.json", cut, "is damaged or cut short"),
    "weights cut": ("unet/diffusion_pytorch_model.safetensors", cut, "is damaged or cut short"),
    "weights a pointer": ("vae/diffusion_pytorch_model.safetensors", write_pointer, "is a Git LFS pointer"),
    "weights lost": ("text_encoder/model.safetensors", lose, "is a link to a file that is not there"),
    "tensor missing": ("unet/diffusion_pytorch_model.safetensors", remove_tensor, "the weights lack up_blocks"),
}
"""What may be wrong with a file in the hub's cache, and what is said then."""

every_damage = pytest.mark.parametrize("damage", DAMAGES)


def cache_damaged(model: Path, hub_cache: Path, name: str, damage: str) -> None:
    file, act, _ = DAMAGES[damage]
    act((cache(model, hub_cache, name) / file).resolve())


@every_damage
def test_list_names_what_is_damaged_and_still_all_others(hub_cache: Path, tiny_pipeline: Path, damage: str) -> None:
    cache(tiny_pipeline, hub_cache, "someone/whole")
    for name in ("someone/damaged", hub.DEFAULT_MODEL):
        cache_damaged(tiny_pipeline, hub_cache, name, damage)
    result = sdc("models", "list", "--debug")
    assert result.exit_code == 0, result.output
    lines = {line.partition(" ")[0]: line for line in result.stdout.splitlines() if line}
    assert "pipeline, in " in lines["someone/whole"]
    for name in ("someone/damaged", hub.DEFAULT_MODEL):
        assert DAMAGES[damage][2] in lines[name]
    assert lines["auto"].startswith("auto takes compact on cpu in int8: ")
    assert DAMAGES[damage][2] in lines["auto"]


@every_damage
def test_doctor_names_what_is_damaged_and_that_auto_does_without(
    hub_cache: Path, tiny_pipeline: Path, damage: str
) -> None:
    cache_damaged(tiny_pipeline, hub_cache, hub.DEFAULT_MODEL, damage)
    result = sdc("doctor", "--device", "cpu")
    assert result.exit_code == 0, result.output
    (decodes,) = (line for line in result.stdout.splitlines() if "decodes" in line)
    assert decodes.startswith("note  decodes       compact on cpu in int8: ")
    assert DAMAGES[damage][2] in decodes
    assert "64×64 with compact" in result.stdout


def test_doctor_says_once_what_is_damaged(
    hub_cache: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard output, and not as a warning on standard error, too."""
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's, with which none is printed
    cache_damaged(tiny_pipeline, hub_cache, hub.DEFAULT_MODEL, "reference cut")
    result = sdc("doctor", "--device", "cpu")
    assert "which is not a commit" in result.stdout
    assert result.stderr == ""


def test_doctor_names_what_only_loading_shows(hub_cache: Path, tiny_pipeline: Path) -> None:
    remove_tensor(cache(tiny_pipeline, hub_cache, hub.DEFAULT_MODEL) / "text_encoder" / "model.safetensors")
    result = sdc("doctor", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert f"note  auto          {hub.DEFAULT_MODEL} does not work here: " in result.stdout
    assert "the weights lack" in result.stdout
    assert "64×64 with compact" in result.stdout


@every_damage
def test_doctor_and_where_fail_where_a_model_that_is_named_is_damaged(
    hub_cache: Path, tiny_pipeline: Path, damage: str
) -> None:
    cache_damaged(tiny_pipeline, hub_cache, "someone/damaged", damage)
    where = sdc("models", "where", "someone/damaged")
    assert where.exit_code == 1
    assert where.stdout == ""
    assert DAMAGES[damage][2] in where.stderr
    assert len(where.stderr.splitlines()) == 1
    if "lost" not in damage:  # which would be downloaded again
        doctor = sdc("doctor", "--device", "cpu", "--model", "someone/damaged")
        assert doctor.exit_code == 1
        assert DAMAGES[damage][2] in doctor.stdout


def test_a_file_in_place_of_the_cache_is_named(hub_cache: Path) -> None:
    hub_cache.mkdir()
    (hub_cache / "hub").touch()
    for command in (("models", "list"), ("doctor", "--device", "cpu")):
        result = sdc(*command)
        assert result.exit_code == 0, result.output
        assert f"move {hub_cache / 'hub'} away, where a folder should be" in result.stdout


def test_a_home_directory_is_expanded(tiny_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # which Windows asks
    model = shutil.copytree(tiny_pipeline, tmp_path / "tiny")
    assert sdc("models", "where", "~/tiny").stdout.strip() == str(model)
    assert sdc("models", "fetch", "~/tiny").stdout.strip() == str(model)
    monkeypatch.setenv("PILLOW_SDC_MODEL", "~/tiny")
    assert f"pipeline, in {model}" in sdc("models", "list").stdout


def test_doctor_downloads_nothing(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = sdc("doctor", "--model", "someone/absent")
    assert result.exit_code == 0
    absent = "note  decodes       someone/absent on cpu in float32, once it is here: someone/absent is not here, and"
    assert f"{absent} decoding would download it, as sdc models fetch someone/absent does" in result.stdout
    assert "ok    round trip    64×64 with compact" in result.stdout
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    offline = sdc("doctor", "--model", "someone/absent")
    assert offline.exit_code == 1
    assert "fails decodes       nothing: someone/absent is not here, and HF_HUB_OFFLINE forbids" in offline.stdout
    assert not (hub_cache / "hub").exists()


# Folders of checkpoints


@pytest.fixture
def checkpoints(tmp_path: Path, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models as programs for Stable Diffusion keep it, and one that is not there."""
    import torch

    models = tmp_path / "models"
    for name in ("Stable-diffusion/deep", "VAE", "Lora", ".git", "diffusers"):
        (models / name).mkdir(parents=True)
    tensors = original_tensors(tiny_pipeline)
    halved = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    save(halved, models / "Stable-diffusion" / "deep" / "pruned.safetensors")
    save(tensors, models / ".git" / "hidden.safetensors")
    vae = {name: tensor for name, tensor in tensors.items() if name.startswith("first_stage_model.")}
    save(vae, models / "VAE" / "vae.safetensors")
    save({"lora_unet_mid.lora_up.weight": torch.zeros(1)}, models / "Lora" / "style.safetensors")
    (models / "Stable-diffusion" / "old.ckpt").write_bytes(b"PK\x03\x04")
    (models / "Stable-diffusion" / "cut.safetensors").write_bytes(
        (models / "VAE" / "vae.safetensors").read_bytes()[:-1]
    )
    shutil.copytree(tiny_pipeline, models / "diffusers" / "tiny")
    (models / "loop").symlink_to(models)
    (tmp_path / "elsewhere").symlink_to(models / "VAE")
    folders = models, tmp_path / "elsewhere", tmp_path / "absent"
    monkeypatch.setenv("PILLOW_SDC_MODEL_PATH", os.pathsep.join(map(str, folders)))
    return models


def test_list_shows_what_would_do_of_folders_of_checkpoints(checkpoints: Path, hub_cache: Path) -> None:
    result = sdc("models", "list", "--debug")
    assert result.exit_code == 0
    lines = {line.split("  ")[0]: line for line in result.stdout.splitlines()}
    pruned, vae = (checkpoints / name for name in ("Stable-diffusion/deep/pruned.safetensors", "VAE/vae.safetensors"))
    assert lines[str(pruned)].endswith(" MB  Stable Diffusion v1, float16")
    assert lines[str(vae)].endswith(" MB  autoencoder alone, for vae, too, float32")
    assert lines[str(checkpoints / "diffusers" / "tiny")].endswith(" MB  pipeline in diffusers' layout")
    cut = checkpoints / "Stable-diffusion" / "cut.safetensors"
    assert f"{cut} is cut short" in lines[str(cut)]
    assert sum(line.startswith(str(checkpoints)) for line in result.stdout.splitlines()) == 4
    assert "what would not do, in the folders of PILLOW_SDC_MODEL_PATH: 1 LORA, 1 pickle" in result.stdout
    absent = checkpoints.parent / "absent"
    assert f"{absent}, by PILLOW_SDC_MODEL_PATH: No such file or directory" in result.stdout


def test_doctor_says_what_is_in_folders_of_checkpoints(checkpoints: Path, hub_cache: Path) -> None:
    result = sdc("doctor", "--model", "compact")
    assert result.exit_code == 0
    lines = [line.split(maxsplit=1) for line in result.stdout.splitlines()]
    said = [line[1] for line in lines if line[1:] and line[1].startswith("model folders")]
    assert len(said) == 3
    assert "3 models that would do; sdc models list shows them" in said[0]
    assert f"{checkpoints.parent / 'absent'}: No such file or directory" in said[1]
    assert "is cut short" in said[2]
