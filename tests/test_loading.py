"""From settings to models, in one process and in its threads and children."""

import logging
import multiprocessing
import os
import re
import shutil
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from hub_stand_in import run_against, running_hub
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

import pillow_sdc
from pillow_sdc.errors import ModelUnavailableError, OptionError
from pillow_sdc.models import Models, clear_cache, compact, denoise, devices, fetch_model, get_models, kinds, loading
from pillow_sdc.models.compact import sessions
from pillow_sdc.models.diffusion.hub import DEFAULT_MODEL
from pillow_sdc.options import Settings

CHILD_TIMEOUT = 60
LATENTS = np.random.default_rng(1).standard_normal((4, 8, 8)).astype(np.float32)


@pytest.fixture(autouse=True)
def _nothing_loaded_or_cached(hub_cache: Path) -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


def decode(model: str) -> NDArray[np.float32]:
    models = get_models(Settings(model=model, device="cpu"))
    assert models.denoiser is not None
    return models.autoencoder.decode(denoise(LATENTS, 0.035, models.denoiser, 2))


def save_decoded(model: str, home: str, file: str) -> None:
    """Decode in a child process; ``home`` is where the hub's caches are."""
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HOME = home
    np.save(file, decode(model))


def test_importing_the_models_imports_none_of_the_libraries_behind_them(tmp_path: Path) -> None:
    code = """
        import sys
        import pillow_sdc.models
        print(*{"torch", "diffusers", "transformers", "huggingface_hub", "safetensors"} & sys.modules.keys())
    """
    assert run_against("http://127.0.0.1:9", tmp_path, code).strip() == ""


def test_models_are_loaded_when_used_and_only_once(tiny_pipeline: Path) -> None:
    models = get_models(Settings(model=str(tiny_pipeline), device="cpu"))
    assert (models.name, models.device, models.dtype) == (str(tiny_pipeline), "cpu", "float32")
    assert models.autoencoder is models.autoencoder
    assert models.denoiser is models.denoiser
    assert get_models(Settings(model=str(tiny_pipeline), device="cpu", denoise_steps=9)) is models
    half = get_models(Settings(model=str(tiny_pipeline), device="cpu", dtype="float16"))
    assert half is not models
    assert half.dtype == "float16"


def test_sixteen_threads_at_once_load_once(tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    for name in ("load_autoencoder", "load_denoiser"):
        load = getattr(kinds, name)
        monkeypatch.setattr(kinds, name, lambda *args, load=load, name=name: (loads.append(name), load(*args))[1])
    barrier = Barrier(16)

    def use(_: int) -> tuple[Models, object, object]:
        barrier.wait()
        models = get_models(Settings(model=str(tiny_pipeline), device="cpu"))
        return models, models.autoencoder, models.denoiser

    with ThreadPoolExecutor(16) as threads:
        used = list(threads.map(use, range(16)))
    assert sorted(loads) == ["load_autoencoder", "load_denoiser"]
    assert len(set(used)) == 1


def test_an_autoencoder_alone_is_given_the_embedded_denoiser(tiny_pipeline: Path) -> None:
    models = get_models(Settings(model=str(tiny_pipeline / "vae"), device="cpu"))
    assert models.denoiser is not None
    assert models.denoiser.name == "compact"
    assert models.autoencoder.decode(LATENTS).shape == (3, 64, 64)
    assert fetch_model(str(tiny_pipeline / "vae")) == tiny_pipeline / "vae"


def test_clearing_the_cache_releases_the_models(tiny_pipeline: Path) -> None:
    import weakref

    models = get_models(Settings(model=str(tiny_pipeline), device="cpu"))
    reference = weakref.ref(models.autoencoder)
    del models
    clear_cache()
    assert reference() is None


def test_a_missing_model_is_reported_at_every_use(tmp_path: Path) -> None:
    models = get_models(Settings(model=str(tmp_path / "nothing"), device="cpu"))
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match="neither a file, nor a directory, nor"):
            _ = models.autoencoder


def test_a_device_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="device is 'toaster'"):
        get_models(Settings(device="toaster"))


def fetch_with(device: str) -> None:
    with pillow_sdc.configure(device=device):
        fetch_model(DEFAULT_MODEL)


@pytest.fixture
def _no_cuda() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is here")


@pytest.mark.usefixtures("_no_cuda")
class TestWithoutCuda:
    def test_a_device_that_is_not_here_is_reported(self, tiny_pipeline: Path) -> None:
        with pytest.raises(ModelUnavailableError, match=r"device 'cuda' .* PILLOW_SDC_DEVICE"):
            get_models(Settings(model=str(tiny_pipeline), device="cuda"))

    @pytest.mark.parametrize("device", ["mps", "xla", "xpu", "hpu", "vulkan", "meta", "cuda:7"])
    def test_the_reason_against_a_device_is_one_sentence(self, device: str) -> None:
        import torch

        if device == "mps" and torch.backends.mps.is_available():
            pytest.skip("MPS is here")
        for use in (lambda: get_models(Settings(model="auto", device=device)), lambda: fetch_with(device)):
            with pytest.raises(ModelUnavailableError, match=f"^device '{device}' cannot be used here: ") as caught:
                use()
            assert len(str(caught.value)) < 300
            assert "\n" not in str(caught.value)

    def test_auto_without_weights_takes_the_embedded_model(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, "pillow_sdc"):
            models = get_models(Settings())
        assert (models.name, models.device, models.dtype) == ("compact", "cpu", "int8")
        assert "using compact on cpu in int8, because the device is not CUDA, and" in caplog.text
        assert get_models(Settings(model="compact")).autoencoder is models.autoencoder
        assert any(file.suffix == ".onnx" for file in fetch_model("compact").iterdir())

    def test_auto_takes_stable_diffusion_from_the_hubs_cache(
        self, cached_default: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "pillow_sdc"):
            models = get_models(Settings())
        assert (models.name, models.device, models.dtype) == (DEFAULT_MODEL, "cpu", "float32")
        assert f"using {DEFAULT_MODEL} on cpu in float32, because it is in the hub's local cache" in caplog.text
        named = get_models(Settings(model=DEFAULT_MODEL))
        assert named.autoencoder is models.autoencoder
        assert named.denoiser is models.denoiser
        assert models.autoencoder.decode(LATENTS).shape == (3, 64, 64)
        assert fetch_model("auto") == cached_default / "snapshots" / ("0" * 40)


@pytest.fixture
def cached_default(tiny_pipeline: Path, hub_cache: Path) -> Path:
    """The folder of the default model in the hub's cache, which holds a small one."""
    repository = hub_cache / "hub" / "models--CompVis--stable-diffusion-v1-4"
    shutil.copytree(tiny_pipeline, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return repository


# "auto" means what works


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def damage_reference(repository: Path) -> None:
    (repository / "refs" / "main").write_bytes(b"\xff")


def lose_snapshot(repository: Path) -> None:
    (repository / "refs" / "main").write_text("1" * 40)


def cut_weights(repository: Path) -> None:
    cut(repository / "snapshots" / ("0" * 40) / "unet" / "diffusion_pytorch_model.safetensors")


def cut_config(repository: Path) -> None:
    file = repository / "snapshots" / ("0" * 40) / "vae" / "config.json"
    file.write_text(file.read_text()[:-10])


def lose_weights(repository: Path) -> None:
    file = repository / "snapshots" / ("0" * 40) / "text_encoder" / "model.safetensors"
    file.unlink()
    file.symlink_to(repository / "blobs" / "gone")


def remove_tensor(repository: Path, part: str = "vae/diffusion_pytorch_model.safetensors") -> None:
    file = repository / "snapshots" / ("0" * 40) / part
    weights = load_file(file)
    del weights[max(weights)]
    save_file(weights, file)


def misshape_tensor(repository: Path) -> None:
    file = repository / "snapshots" / ("0" * 40) / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["conv_in.weight"] = weights["conv_in.weight"][..., :1].copy()
    save_file(weights, file)


def block_cache(repository: Path) -> None:
    shutil.rmtree(repository.parent)
    repository.parent.touch()


def change_family(repository: Path) -> None:
    file = repository / "snapshots" / ("0" * 40) / "vae" / "config.json"
    file.write_text(file.read_text().replace('"scaling_factor": 0.18215', '"scaling_factor": 0.5'))


DAMAGES: dict[Callable[[Path], None], str] = {
    damage_reference: r"refs/main cannot be read \(.*\); delete .* and fetch it again with `sdc models fetch",
    lose_snapshot: "refs/main names the snapshot 1{40}, which is not there; .* or fetch one with `sdc",
    cut_weights: r"unet/diffusion_pytorch_model.safetensors is damaged or cut short \(.*\); delete .* and fetch it",
    cut_config: r"vae/config.json is damaged or cut short \(.*\); delete .* and fetch it again",
    lose_weights: "text_encoder/model.safetensors is a link to a file that is not there; .* or fetch one",
    remove_tensor: "vae cannot be loaded .*the weights lack quant_conv.weight.*; delete .* and fetch it again",
    misshape_tensor: r"unet cannot be loaded .*conv_in.weight has the shape \[8, 4, 3, 1\], not \[8, 4, 3, 3\].*; del",
    block_cache: "refs/main cannot be read .*; move .*/hub away, where a folder should be",
    change_family: r"its vae is not of the SD v1 family \(scaling_factor is 0.5, not 0.18215\)",
}
"""What may be wrong with the default model in the hub's cache, and what is said then."""


@pytest.fixture
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_has_warned", False)


@pytest.mark.usefixtures("_no_cuda", "_nothing_said")
@pytest.mark.parametrize("damage", DAMAGES)
def test_auto_takes_the_embedded_model_where_the_cache_is_damaged_and_says_so_once(
    cached_default: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], None]
) -> None:
    damage(cached_default)
    picture = Image.linear_gradient("L").resize((16, 16))
    for settings in (Settings(), Settings(), Settings(dtype="float32")):
        with pillow_sdc.configure(**settings._asdict()):
            decoded = pillow_sdc.decode(pillow_sdc.encode(picture))
        assert decoded.info["sdc"]["model"] == "compact"
    (warning,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert warning.name == "pillow_sdc"
    assert re.fullmatch(
        f"using compact on cpu in int8, because model '{DEFAULT_MODEL}' is not available: .*{DAMAGES[damage]}.*",
        warning.getMessage(),
    )


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage not in (lose_snapshot, lose_weights)])
def test_a_model_that_is_named_stays_an_error_where_the_cache_is_damaged(
    cached_default: Path, damage: Callable[[Path], None]
) -> None:
    damage(cached_default)
    models = get_models(Settings(model=DEFAULT_MODEL, device="cpu"))
    with pytest.raises(ModelUnavailableError, match=DAMAGES[damage]):  # noqa: PT012 - either part may be damaged
        _ = models.autoencoder
        _ = models.denoiser


def remove_tensor_of_text_encoder(repository: Path) -> None:
    remove_tensor(repository, "text_encoder/model.safetensors")


@pytest.mark.usefixtures("_no_cuda", "_nothing_said")
def test_what_turns_out_not_to_work_when_it_is_loaded_gives_way_to_the_embedded_model(
    cached_default: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove_tensor_of_text_encoder(cached_default)
    models = get_models(Settings())
    first = models.autoencoder
    assert (models.name, models.denoiser, models.name) == (DEFAULT_MODEL, None, "compact")
    assert models.autoencoder is get_models(Settings(model="compact")).autoencoder is not first
    assert [record.levelname for record in caplog.records if record.levelno > logging.INFO] == ["WARNING"]
    assert "using compact on cpu in int8, because" in caplog.text
    assert "the weights lack" in caplog.text
    with pytest.raises(ModelUnavailableError, match="the weights lack"):
        _ = get_models(Settings(model=DEFAULT_MODEL)).denoiser


@pytest.mark.usefixtures("_no_cuda", "_nothing_said")
def test_sixteen_threads_that_meet_damage_at_once_all_get_the_embedded_model_and_say_so_once(
    cached_default: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remove_tensor_of_text_encoder(cached_default)
    models = get_models(Settings())
    barrier = Barrier(16)

    def use(_: int) -> object:
        barrier.wait()
        return models.denoiser

    caplog.set_level(logging.INFO, "pillow_sdc")
    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(use, range(16))) == {None}
    said = [record.levelname for record in caplog.records if "using compact" in record.getMessage()]
    assert said == ["WARNING"]


@pytest.mark.usefixtures("_nothing_said")
def test_where_the_embedded_model_is_damaged_too_that_is_the_error(
    cached_default: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_tensor_of_text_encoder(cached_default)
    monkeypatch.setattr(sessions, "WEIGHTS", tmp_path / "nothing")
    models = get_models(Settings(device="cpu"))
    assert models.denoiser is None  # which compact needs none of
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match="install pillow-sdc again"):
            models.autoencoder.encode(np.zeros((3, 8, 8), np.float32))


@pytest.mark.usefixtures("_nothing_said")
def test_auto_on_cuda_takes_the_embedded_model_where_nothing_can_be_downloaded(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By a stand-in for CUDA, on which nothing is computed."""
    monkeypatch.setattr(devices, "choose_device", lambda name: "cuda")
    monkeypatch.setattr(compact, "usable_device", lambda device: "cuda")
    monkeypatch.setattr(compact, "CompactAutoencoder", lambda device: f"on {device}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    models = get_models(Settings())
    assert (models.name, models.device) == (DEFAULT_MODEL, "cuda")
    assert models.autoencoder == "on cuda"
    assert (models.name, models.device, models.dtype) == ("compact", "cuda", "int8")
    assert "using compact on cuda in int8, because" in caplog.text
    assert "the hub" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_decodes_after_its_parent_has(tiny_pipeline: Path, hub_cache: Path, tmp_path: Path) -> None:
    import torch

    assert torch.get_num_threads() > 1 or os.cpu_count() == 1
    expected = decode(str(tiny_pipeline))
    with loading._choosing:  # held, as it may be by another thread at the moment of a fork
        np.testing.assert_allclose(decode_in_child("fork", tiny_pipeline, hub_cache, tmp_path), expected, atol=1e-5)


def test_a_spawned_child_decodes(tiny_pipeline: Path, hub_cache: Path, tmp_path: Path) -> None:
    expected = decode(str(tiny_pipeline))
    np.testing.assert_allclose(decode_in_child("spawn", tiny_pipeline, hub_cache, tmp_path), expected, atol=1e-5)


def decode_in_child(method: str, model: Path, home: Path, directory: Path) -> NDArray[np.float32]:
    file = directory / "decoded.npy"
    child = multiprocessing.get_context(method).Process(target=save_decoded, args=(str(model), str(home), str(file)))
    child.start()
    child.join(CHILD_TIMEOUT)
    if child.is_alive():
        child.kill()
        child.join()
        pytest.fail(f"the child hung for {CHILD_TIMEOUT} s")
    assert child.exitcode == 0
    decoded: NDArray[np.float32] = np.load(file)
    return decoded


def test_a_model_on_the_hub_is_downloaded_as_far_as_it_is_used(tiny_pipeline: Path, tmp_path: Path) -> None:
    code = """
        import numpy as np
        from huggingface_hub.constants import HF_HUB_CACHE
        from pathlib import Path
        from pillow_sdc.models import get_models
        from pillow_sdc.options import Settings

        def print_weights():
            print(*sorted(f"{path.parent.name}/{path.name}" for path in Path(HF_HUB_CACHE).rglob("*.safetensors")))

        models = get_models(Settings(model="artist/tiny", device="cpu", dtype="float16"))
        latents = models.autoencoder.encode(np.zeros((3, 16, 16), np.float32))
        print_weights()
        assert models.denoiser.predict_noise(latents, 7.5).shape == (4, 2, 2)
        print_weights()
    """
    with running_hub() as stand_in:
        stand_in.repositories["artist/tiny"] = tiny_pipeline
        after_encoding, after_denoising = run_against(stand_in.url, tmp_path, code).splitlines()
    vae = "vae/diffusion_pytorch_model.fp16.safetensors"
    assert after_encoding.split() == [vae]
    text_encoder, unet = "text_encoder/model.fp16.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"
    assert after_denoising.split() == [text_encoder, unet, vae]


LOAD = """
    import io
    import logging
    import pillow_sdc
    from PIL import Image
    from pillow_sdc.models import devices

    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    file = io.BytesIO()
    Image.linear_gradient("L").resize((16, 16)).save(file, "SDC", model="compact", quality=20)
"""


def test_a_download_within_load_is_announced_with_its_size_and_how_to_have_it_before(
    tiny_pipeline: Path, tmp_path: Path
) -> None:
    code = (
        LOAD
        + """
    pillow_sdc.configure(model="artist/tiny", device="cpu")
    for _ in range(2):
        Image.open(file).load()
    """
    )
    fetching = """
    import logging
    import pillow_sdc
    logging.basicConfig(level=logging.WARNING)
    pillow_sdc.fetch_model("artist/tiny")
    """

    def said(home: Path, code: str) -> list[str]:
        lines = run_against(stand_in.url, home, f"import sys\nsys.stderr = sys.stdout\n{textwrap.dedent(code)}")
        return lines.splitlines()

    parts = "unet", "scheduler", "tokenizer", "text_encoder", "vae"
    sizes = {part: size_of_full_precision(tiny_pipeline / part) for part in parts}
    with running_hub() as stand_in:
        stand_in.repositories["artist/tiny"] = tiny_pipeline
        first, second = said(tmp_path / "loading", code)
        after_fetching = [*said(tmp_path / "fetching", fetching), *said(tmp_path / "fetching", code)]
    beforehand = "from the Hugging Face hub; `sdc models fetch artist/tiny` brings a model beforehand"
    others = sum(size for part, size in sizes.items() if part != "vae")
    names = "unet and scheduler and tokenizer and text encoder"
    assert first == f"WARNING pillow_sdc: downloading {names} of artist/tiny ({others / 1e6:.1f} MB) {beforehand}"
    assert second == f"WARNING pillow_sdc: downloading vae of artist/tiny ({sizes['vae'] / 1e6:.1f} MB) {beforehand}"
    assert after_fetching == []


def size_of_full_precision(part: Path) -> int:
    return sum(file.stat().st_size for file in part.iterdir() if ".fp16." not in file.name)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_machine_with_cuda_and_no_hub_decodes_with_the_embedded_model_after_one_warning(
    tmp_path: Path, offline: str
) -> None:
    """By a stand-in for CUDA, on which nothing is computed."""
    code = (
        LOAD
        + """
    devices.choose_device = lambda name: "cuda"
    devices.may_be_there = lambda: True
    for _ in range(2):
        image = Image.open(file)
        image.load()
        print(image.info["sdc"]["model"])
    Image.new("RGB", (8, 8)).save(io.BytesIO(), "SDC")
    """
    )
    code = f"import sys\nsys.stderr = sys.stdout\n{textwrap.dedent(code)}"
    warning, *models = run_against("http://127.0.0.1:9", tmp_path, code, HF_HUB_OFFLINE=offline).splitlines()
    assert models == ["compact", "compact"]
    expected = f"WARNING pillow_sdc: using compact on cpu in int8, because model '{DEFAULT_MODEL}' is not available: "
    assert warning.startswith(f"{expected}it is not on this machine, and ")


def test_weights_in_several_files_are_downloaded_and_used(tiny_pipeline: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    model = Path(shutil.copytree(tiny_pipeline, tmp_path / "sharded"))
    for file in (model / "vae").glob("*.safetensors"):
        file.unlink()
    AutoencoderKL.from_pretrained(tiny_pipeline / "vae").save_pretrained(model / "vae", max_shard_size="10KB")
    shards = sorted(path.name for path in (model / "vae").glob("*.safetensors"))
    assert len(shards) > 1
    code = """
        from pillow_sdc.models import get_models
        from pillow_sdc.options import Settings
        import numpy as np

        models = get_models(Settings(model="artist/sharded", device="cpu"))
        latents = np.random.default_rng(1).standard_normal((4, 8, 8)).astype(np.float32)
        print(models.autoencoder.decode(latents).tobytes().hex())
    """
    with running_hub() as stand_in:
        stand_in.repositories["artist/sharded"] = model
        decoded = run_against(stand_in.url, tmp_path / "home", code)
    index = "vae/diffusion_pytorch_model.safetensors.index.json"
    assert stand_in.downloads() == {"model_index.json", "vae/config.json", index, *(f"vae/{name}" for name in shards)}
    expected = get_models(Settings(model=str(tiny_pipeline), device="cpu")).autoencoder.decode(LATENTS)
    np.testing.assert_allclose(np.frombuffer(bytes.fromhex(decoded), np.float32), expected.ravel(), atol=1e-5)
