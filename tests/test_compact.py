"""The embedded model: its files, its sessions, its behaviour, and that it is good at what it is for."""

import io
import logging
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

import pillow_sdc
from pillow_sdc.errors import ModelFailedError, ModelUnavailableError, OptionError
from pillow_sdc.format.codecs import PaletteCodec
from pillow_sdc.models import NoiseSchedule, clear_cache, compact, denoise, fetch_model, get_models
from pillow_sdc.models.compact import sessions
from pillow_sdc.models.diffusion.layout import Precision
from pillow_sdc.models.kinds import DIFFUSERS
from pillow_sdc.options import Settings

EMBEDDED = Settings(model="compact", device="cpu")
CUDA = ["CUDAExecutionProvider", "CPUExecutionProvider"]
GOLDEN = Path(__file__).parent / "golden"


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2)))


@pytest.fixture
def _nothing_loaded() -> Iterator[None]:
    """No session and no choice is left of earlier tests, nor of this one."""
    caches = sessions.runtime, sessions._say_that_it_computes_on_the_cpu
    clear_cache()
    for cache in caches:
        cache.cache_clear()
    yield
    clear_cache()
    sessions.forget()
    for cache in caches:
        cache.cache_clear()


# Files


def test_the_weights_are_small_and_all_there() -> None:
    files = sorted(compact.WEIGHTS.glob("*.onnx"))
    assert [file.stem for file in files] == sorted(sessions.NETWORKS)
    assert sum(file.stat().st_size for file in files) <= 6_800_000
    compact.check()


@pytest.fixture
def weights_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _nothing_loaded: None) -> Path:
    for file in compact.WEIGHTS.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(sessions, "WEIGHTS", tmp_path)
    return tmp_path


def encode() -> None:
    compact.CompactAutoencoder("cpu").encode(noise(3, 8, 8))


def decode() -> None:
    compact.CompactAutoencoder("cpu").decode(np.zeros((4, 2, 2), np.float32))


def predict_noise() -> None:
    compact.CompactDenoiser("cpu").predict_noise(noise(4, 2, 2), 10.0)


USES = {"encoder": encode, "decoder": decode, "denoiser": predict_noise}


@pytest.mark.parametrize("name", sessions.NETWORKS)
def test_weights_that_were_changed_are_not_used(weights_copy: Path, name: str) -> None:
    path = weights_copy / f"{name}.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for use in (USES[name], compact.check):
        with pytest.raises(ModelUnavailableError, match=rf"{name}\.onnx is damaged .*install pillow-sdc again"):
            use()


@pytest.mark.parametrize("name", sessions.NETWORKS)
@pytest.mark.usefixtures("_nothing_loaded")
def test_weights_are_read_once_and_not_before_they_are_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    released = sessions.released
    monkeypatch.setattr(sessions, "released", lambda name: read.append(name) or released(name))
    compact.CompactAutoencoder("cpu"), compact.CompactDenoiser("cpu")
    assert read == []
    for _ in range(2):
        USES[name]()
    assert read == [name]


@pytest.mark.parametrize("missing", ["denoiser.onnx", compact.CHECKSUMS])
def test_weights_that_are_missing_are_named(weights_copy: Path, missing: str) -> None:
    (weights_copy / missing).unlink()
    for use in (predict_noise, compact.check):
        with pytest.raises(ModelUnavailableError, match=r"\.onnx is damaged or missing .*install pillow-sdc again"):
            use()


def test_checksums_that_are_garbage_are_an_installation_that_is_damaged(weights_copy: Path) -> None:
    (weights_copy / compact.CHECKSUMS).write_text("garbage")
    with pytest.raises(ModelUnavailableError, match="install pillow-sdc again"):
        predict_noise()


# onnxruntime


@pytest.mark.usefixtures("_nothing_loaded")
def test_onnxruntime_that_is_missing_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(
        ModelUnavailableError, match=r"^onnxruntime is not installed; install it with pip install onnxruntime$"
    ):
        get_models(EMBEDDED).autoencoder.encode(noise(3, 8, 8))


@pytest.mark.usefixtures("_nothing_loaded")
def test_onnxruntime_that_is_too_old_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.9.0")
    with pytest.raises(ModelUnavailableError, match=r"onnxruntime 1\.9\.0 is too old .*1\.20 .*pip install --upgrade"):
        get_models(EMBEDDED).autoencoder.encode(noise(3, 8, 8))


@pytest.mark.usefixtures("_nothing_loaded")
def test_a_network_that_onnxruntime_refuses_is_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "released", lambda name: b"no network")
    with pytest.raises(ModelUnavailableError, match=r"encoder\.onnx cannot be loaded by onnxruntime .*install a newer"):
        get_models(EMBEDDED).autoencoder.encode(noise(3, 8, 8))


def fresh(script: str, home: Path, **variables: str) -> str:
    """Run a script in a fresh process with a home of its own, and return what it prints."""
    hidden = ("PILLOW_SDC", "ORT_", "HF_", "XDG_", "CI", "GITHUB_ACTIONS", "TF_BUILD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "CUDA_VISIBLE_DEVICES": "", **variables}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    return done.stdout.strip()


DECODE = f"""
import os, sys
from PIL import Image
import pillow_sdc
with Image.open({str(GOLDEN / "palette-rgb-200x150.sdc")!r}) as image:
    image.load()
print(image.info["sdc"]["model"], os.environ["ORT_DISABLE_TELEMETRY"])
"""


def test_onnxruntimes_telemetry_leaves_nothing_in_the_users_home(tmp_path: Path) -> None:
    assert fresh(DECODE, tmp_path) == "compact 1"
    assert list(tmp_path.iterdir()) == []


def test_what_the_user_says_of_the_telemetry_stays(tmp_path: Path) -> None:
    assert (
        fresh(
            "import pillow_sdc.models.compact.sessions as s, os; s.runtime(); print(os.environ[s.TELEMETRY])",
            tmp_path,
            ORT_DISABLE_TELEMETRY="true",
        )
        == "true"
    )


# Sessions


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, _nothing_loaded: None) -> list[tuple[Any, ...]]:
    """The options of each session that the test makes."""
    seen: list[tuple[Any, ...]] = []
    make = onnxruntime.InferenceSession

    def recorded(data: bytes, options: Any, providers: list[Any]) -> Any:
        spinning = options.get_session_config_entry("session.intra_op.allow_spinning")
        seen.append((options.intra_op_num_threads, options.inter_op_num_threads, spinning, providers))
        return make(data, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    return seen


def test_eight_threads_at_once_make_one_session(made: list[tuple[Any, ...]]) -> None:
    latents, barrier = noise(4, 6, 5), Barrier(8)

    def decode(_: int) -> NDArray[np.float32]:
        barrier.wait()
        return get_models(EMBEDDED).autoencoder.decode(latents)

    with ThreadPoolExecutor(8) as threads:
        first, *others = threads.map(decode, range(8))
    assert len(made) == 1
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_sessions_are_made_when_they_are_needed_with_threads_that_do_not_spin(
    made: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "cores", lambda: 3)
    autoencoder = get_models(EMBEDDED).autoencoder
    assert made == []
    for _ in range(2):
        autoencoder.encode(noise(3, 16, 16))
    assert made == [(3, 1, "0", ["CPUExecutionProvider"])]
    clear_cache()
    get_models(EMBEDDED).autoencoder.encode(noise(3, 16, 16))
    assert len(made) == 2


def decode_for(connection: Connection) -> None:
    """Decode in a child process."""
    connection.send_bytes(get_models(EMBEDDED).autoencoder.decode(noise(4, 6, 5)).tobytes())


def decode_and_end(connection: Connection) -> None:
    """Decode, and end as a process does that was not started by multiprocessing, with everything released."""
    decode_for(connection)
    sessions.forget()
    sys.exit()


@pytest.mark.usefixtures("_nothing_loaded")
@pytest.mark.parametrize("child", [decode_for, decode_and_end])
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_children_decode_after_their_parent_has(
    method: str, child: Callable[[Connection], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "cores", lambda: 3)  # sessions with one thread have none to wait for
    expected = get_models(EMBEDDED).autoencoder.decode(noise(4, 6, 5))
    context = multiprocessing.get_context(method)
    receiving, sending = context.Pipe(duplex=False)
    with sessions._making:  # held, as it may be by another thread at the moment of a fork
        process = context.Process(target=child, args=[sending])
        process.start()
    try:
        assert receiving.poll(60)
        assert receiving.recv_bytes() == expected.tobytes()
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
    np.testing.assert_array_equal(get_models(EMBEDDED).autoencoder.decode(noise(4, 6, 5)), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_ends_that_was_forked_after_a_session_was_made(tmp_path: Path) -> None:
    script = """
import os, signal, sys
import numpy as np
from pillow_sdc.models import compact
compact.cores = lambda: 3
decode = compact.CompactAutoencoder("cpu").decode
decode(np.zeros((4, 6, 5), np.float32))
child = os.fork()
if child == 0:
    signal.alarm(60)
    decode(np.zeros((4, 6, 5), np.float32))
    sys.exit()  # Python releases all that it has
print(os.waitpid(child, 0)[1])
"""
    assert fresh(script, tmp_path) == "0"


# Devices


@pytest.mark.usefixtures("_nothing_loaded")
def test_cuda_without_onnxruntime_gpu_is_the_cpu_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA[1:])
    for device in ("cuda", "cuda", "cuda:1"):
        models = get_models(Settings(model="compact", device=device))
        assert (models.device, models.dtype) == ("cpu", "int8")
        clear_cache()
    assert models.autoencoder.encode(noise(3, 8, 8)).shape == (4, 1, 1)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2  # for each name
    assert "computes on the CPU, not on cuda: it needs CUDA, and onnxruntime-gpu" in caplog.records[0].getMessage()


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_cuda_with_onnxruntime_gpu_is_asked_for(
    made: list[tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    device: str,
    index: int,
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: CUDA)
    models = get_models(Settings(model="compact", device=device))
    assert models.device == device
    assert caplog.records == []
    models.autoencoder.encode(noise(3, 8, 8))
    ((*_, providers),) = made
    assert providers == [("CUDAExecutionProvider", {"device_id": index}), "CPUExecutionProvider"]
    (warning,) = caplog.records  # for the session got the CPU, as where CUDA's libraries are missing
    assert "computes on the CPU" in warning.getMessage()


@pytest.mark.usefixtures("_nothing_loaded")
@pytest.mark.parametrize(
    ("driver", "providers", "device"), [(True, CUDA, "cuda"), (True, CUDA[1:], "cpu"), (False, CUDA, "cpu")]
)
def test_auto_is_cuda_where_there_is_a_driver_and_onnxruntime_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, driver: bool, providers: list[str], device: str
) -> None:
    monkeypatch.setattr(sessions, "has_cuda_driver", lambda: driver)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    assert get_models(Settings(model="compact")).device == device
    assert caplog.records == []


@pytest.mark.usefixtures("_nothing_loaded")
@pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1"])
def test_cuda_has_a_number_or_none(device: str) -> None:
    with pytest.raises(OptionError, match=f"device is '{device}'"):
        get_models(Settings(model="compact", device=device))


# Without torch


@pytest.fixture
def _without_torch(monkeypatch: pytest.MonkeyPatch, _nothing_loaded: None) -> None:
    for name in ("torch", "diffusers", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("_without_torch")
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "mps"])
def test_auto_without_torch_is_the_embedded_model(device: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        models = get_models(Settings(device=device))
    assert (models.name, models.device) == ("compact", "cpu")
    assert models.autoencoder.encode(noise(3, 8, 8)).shape == (4, 1, 1)
    assert "because torch and transformers and diffusers are not installed" in caplog.text


@pytest.mark.usefixtures("_without_torch")
@pytest.mark.parametrize("device", ["auto", "cpu", "cuda"])
def test_other_models_without_torch_say_what_to_install(device: str, tiny_pipeline: Path) -> None:
    for use in (
        lambda: get_models(Settings(model=str(tiny_pipeline), device=device)),
        lambda: DIFFUSERS.missing_parts(str(tiny_pipeline), Precision.FULL),
        lambda: fetch_model(str(tiny_pipeline)),
    ):
        with pytest.raises(ModelUnavailableError, match=r"needs packages .*pip install torch transformers diffusers; "):
            use()


# Behaviour


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 7)])
def test_shapes_and_ranges_are_those_of_the_interfaces(rows: int, columns: int) -> None:
    models = get_models(EMBEDDED._replace(dtype="float16"))
    assert models.dtype == "int8"
    latents = models.autoencoder.encode(np.tanh(noise(3, 8 * rows, 8 * columns)))
    assert latents.shape == (4, rows, columns)
    pixels = models.autoencoder.decode(3 * latents, 0.03)
    assert pixels.shape == (3, 8 * rows, 8 * columns)
    assert np.abs(pixels).max() <= 1
    predicted = compact.CompactDenoiser("cpu").predict_noise(latents, 12.5)
    assert latents.dtype == pixels.dtype == predicted.dtype == np.float32
    assert predicted.shape == latents.shape


def test_a_batch_is_what_its_pictures_are_one_by_one_bit_for_bit() -> None:
    autoencoder, denoiser = get_models(EMBEDDED).autoencoder, compact.CompactDenoiser("cpu")
    pixels, latents, times = np.tanh(noise(5, 3, 40, 24)), noise(5, 4, 5, 3), np.array([0.0, 5.5, 12.25, 35.716, 80.0])
    variances = np.array([0.0, 0.01, 0.02, 0.03, 0.04])
    np.testing.assert_array_equal(autoencoder.encode(pixels), [autoencoder.encode(one) for one in pixels])
    pairs = list(zip(latents, variances, strict=True))
    np.testing.assert_array_equal(autoencoder.decode(latents, variances), [autoencoder.decode(*pair) for pair in pairs])
    one_by_one = [denoiser.predict_noise(one, time) for one, time in zip(latents, times, strict=True)]
    np.testing.assert_array_equal(denoiser.predict_noise(latents, times), one_by_one)


def test_the_wildest_latents_that_a_file_can_hold_give_a_picture() -> None:
    autoencoder = get_models(EMBEDDED).autoencoder
    for latents in (np.full((4, 6, 6), 4.23, np.float32), np.sign(noise(4, 6, 6)) * np.float32(4.23)):
        for noise_variance in (0.0, 0.05, 4.0):
            assert np.isfinite(autoencoder.decode(latents, noise_variance)).all()


def test_the_model_needs_no_denoiser() -> None:
    assert get_models(EMBEDDED).denoiser is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_no_numbers_are_reported(value: float) -> None:
    autoencoder = get_models(EMBEDDED).autoencoder
    pixels, latents = np.zeros((3, 16, 16), np.float32), np.zeros((4, 2, 2), np.float32)
    pixels[1, 2, 3] = latents[1, 1, 0] = value
    with pytest.raises(ModelFailedError, match="the encoder failed: its inputs are not finite"):
        autoencoder.encode(pixels)
    with pytest.raises(ModelFailedError, match="the decoder failed: its inputs are not finite"):
        autoencoder.decode(latents)
    with pytest.raises(ModelFailedError, match="the denoiser failed: its inputs are not finite"):
        compact.CompactDenoiser("cpu").predict_noise(latents, 10.0)


def test_what_onnxruntime_raises_is_reported_and_nothing_else_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelFailedError, match=r"the encoder failed .*InvalidArgument"):
        get_models(EMBEDDED).autoencoder.encode(noise(4, 16, 16))
    assert capfd.readouterr() == ("", "")


def test_the_decoder_heeds_the_noise_variance() -> None:
    autoencoder = get_models(EMBEDDED).autoencoder
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
    print(image.info["sdc"]["model"], error < 6, bool({"torch", "diffusers", "transformers"} & sys.modules.keys()))
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
    denoiser = compact.CompactDenoiser("cpu")
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
    predicted = compact.CompactDenoiser("cpu").predict_noise(diffused, timestep)
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
