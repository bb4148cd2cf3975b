"""What makes models fast: batches in slices, half precision, layouts, transfers, and compilation.

Tests marked ``cuda`` compute on CUDA where there is one.
"""

import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_pipeline import PROMPT_FEATURES, PROMPT_TOKENS

import pillow_sdc
from pillow_sdc.errors import ModelFailedError, ModelUnavailableError
from pillow_sdc.models import Models, clear_cache, get_models
from pillow_sdc.models.diffusion import diffusers_models, hub, tensors
from pillow_sdc.models.diffusion.diffusers_models import (
    DiffusersAutoencoder,
    DiffusersDenoiser,
    load_autoencoder,
    load_denoiser,
)
from pillow_sdc.models.diffusion.layout import Precision
from pillow_sdc.options import Settings
from pillow_sdc.runtime import compilation
from pillow_sdc.runtime.compilation import CompiledOnRecurrence

Array = NDArray[np.float32]

TOLERANCES = {"float32": 1e-5, "float16": 0.01, "bfloat16": 0.1}
FLOAT32_ON_CUDA = 0.01
"""Convolutions compute in TensorFloat-32 there."""


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def autoencoder_of(model: Path, device: str, dtype: str = "float32") -> DiffusersAutoencoder:
    return load_autoencoder(hub.locate(str(model), "vae", Precision.FULL), device, dtype)


def denoiser_of(model: Path, device: str, dtype: str = "float32") -> DiffusersDenoiser:
    unet, scheduler = (hub.locate(str(model), part, Precision.FULL) for part in ("unet", "scheduler"))
    return load_denoiser(unet, scheduler, noise(PROMPT_TOKENS, PROMPT_FEATURES), device, dtype)


def tolerance(device: str, dtype: str) -> float:
    return FLOAT32_ON_CUDA if (device, dtype) == ("cuda", "float32") else TOLERANCES[dtype]


@pytest.fixture(scope="session")
def device() -> str:
    """CUDA where there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def _nothing_loaded(hub_cache: Path) -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each compilation in the test; what compiles only traces, in moments."""
    import torch

    compile_with = torch.compile
    made: list[dict[str, Any]] = []

    def trace(function: Callable[..., Any], **options: Any) -> Any:
        made.append(options)
        return compile_with(function, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", trace)
    return made


# On its way


@pytest.mark.cuda
def test_arrays_of_any_layout_go_to_the_device_and_back(device: str) -> None:
    import torch

    network = torch.nn.Linear(1, 1, device=device, dtype=torch.float16)
    pictures = np.moveaxis(noise(2, 3, 6, 5, 4), -1, 2).astype(np.float16).astype(np.float32)
    pictures.flags.writeable = False
    batch = tensors.to_batch(pictures, network)
    assert (batch.device.type, batch.dtype, batch.shape) == (device, torch.float16, (6, 4, 6, 5))
    assert batch.is_contiguous()
    laid_out = batch.to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(tensors.to_array(laid_out, pictures), pictures)
    times = tensors.to_tensor(np.array([35.716, 0.001]), network, torch.float32)
    np.testing.assert_array_equal(times.cpu().numpy(), np.array([35.716, 0.001], np.float32))


@pytest.mark.cuda
def test_many_arrays_on_their_way_at_once_are_not_mixed_up(device: str) -> None:
    import torch

    network = torch.nn.Linear(1, 1, device=device)

    def go_and_return(seed: int) -> bool:
        picture = noise(3, 64, 64, seed=seed)
        return np.array_equal(tensors.to_array(tensors.to_batch(picture, network) * 2, picture), picture * 2)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(go_and_return, range(200)))


# Networks on their device


@pytest.mark.cuda
def test_convolutions_on_cuda_have_the_layout_that_they_compute_in(tiny_pipeline: Path, device: str) -> None:
    import torch

    for model in (autoencoder_of(tiny_pipeline, device, "float16"), denoiser_of(tiny_pipeline, device, "float16")):
        kernels = [weights for weights in model._network.parameters() if weights.ndim == 4 and weights.shape[2] > 1]
        assert kernels
        last = [weights.is_contiguous(memory_format=torch.channels_last) for weights in kernels]
        assert all(last) if device == "cuda" else not any(last)


@pytest.mark.parametrize("part", ["vae", "unet"])
def test_attention_is_fused_whatever_diffusers_takes_by_default(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    import diffusers
    import torch

    network_class = {"vae": diffusers.AutoencoderKL, "unet": diffusers.UNet2DConditionModel}[part]
    make = network_class.from_config

    def make_with_plain_attention(*args: Any, **kwargs: Any) -> Any:
        network = make(*args, **kwargs)
        network.set_default_attn_processor()
        return network

    monkeypatch.setattr(network_class, "from_config", make_with_plain_attention)
    fused = torch.nn.functional.scaled_dot_product_attention
    calls: list[torch.Size] = []

    def recorded(query: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(query.shape)
        return fused(query, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", recorded)
    if part == "vae":
        autoencoder = autoencoder_of(tiny_pipeline, "cpu")
        assert autoencoder.decode(noise(4, 3, 5)).shape == (3, 24, 40)
        assert calls == [(1, 1, 15, 8)]  # the middle block's
        autoencoder.encode(noise(3, 24, 40))
        assert calls == [(1, 1, 15, 8)] * 2
    else:
        denoiser = denoiser_of(tiny_pipeline, "cpu")
        denoiser.predict_noise(noise(4, 8, 8), 10.0)
        assert len(calls) == len(denoiser._network.attn_processors)


# Batches


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", TOLERANCES)
def test_a_batch_is_what_its_pictures_are_one_by_one(tiny_pipeline: Path, device: str, dtype: str) -> None:
    autoencoder, denoiser = autoencoder_of(tiny_pipeline, device, dtype), denoiser_of(tiny_pipeline, device, dtype)
    pixels, latents, times = np.tanh(noise(5, 3, 40, 24)), noise(5, 4, 5, 3), np.array([0.0, 5.5, 12.25, 35.716, 80.0])
    variances = np.array([0.0, 0.01, 0.02, 0.03, 0.04])
    allowed = tolerance(device, dtype)
    expected = np.stack([autoencoder.encode(one) for one in pixels])
    np.testing.assert_allclose(autoencoder.encode(pixels), expected, atol=allowed * max(1, np.abs(expected).max()))
    one_by_one = [autoencoder.decode(one, variance) for one, variance in zip(latents, variances, strict=True)]
    np.testing.assert_allclose(autoencoder.decode(latents, variances), np.stack(one_by_one), atol=allowed)
    predicted = [denoiser.predict_noise(one, time) for one, time in zip(latents, times, strict=True)]
    np.testing.assert_allclose(denoiser.predict_noise(latents, times), np.stack(predicted), atol=allowed)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_close_to_full_precision(tiny_pipeline: Path, device: str, dtype: str) -> None:
    pixels, latents = np.tanh(noise(2, 3, 40, 24)), noise(2, 4, 5, 3)
    full, half = autoencoder_of(tiny_pipeline, "cpu"), autoencoder_of(tiny_pipeline, device, dtype)
    np.testing.assert_allclose(half.encode(pixels), full.encode(pixels), atol=TOLERANCES[dtype])
    np.testing.assert_allclose(half.decode(latents), full.decode(latents), atol=TOLERANCES[dtype])
    predicted = [denoiser_of(tiny_pipeline, *how).predict_noise(latents, 35.716) for how in (("cpu",), (device, dtype))]
    np.testing.assert_allclose(*predicted, atol=TOLERANCES[dtype])


@pytest.mark.cuda
def test_of_a_batch_only_what_overflows_in_float16_is_computed_again(
    tiny_pipeline: Path, tmp_path: Path, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    from safetensors.torch import load_file, save_file

    model = Path(shutil.copytree(tiny_pipeline, tmp_path / "copy"))
    file = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights["decoder.conv_in.weight"] *= 1e4  # normalised away afterwards
    save_file(weights, file, metadata={"format": "pt"})
    latents = noise(4, 4, 8, 8)
    latents[2] *= 10
    autoencoder = autoencoder_of(model, device, "float16")
    passes = passes_of(autoencoder._network.decoder)
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        decoded = autoencoder.decode(latents)
    assert "overflowed in torch.float16" in caplog.text
    assert passes == [4, 1]  # the second by its copy in float32
    np.testing.assert_allclose(decoded, autoencoder_of(model, "cpu").decode(latents), atol=0.03)


def passes_of(network: Any) -> list[int]:
    """Return a list that each pass through a network will add its pictures' number to."""
    passes: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    return passes


@pytest.mark.cuda
@pytest.mark.parametrize(("pictures_in_a_pass", "passes"), [(0.5, [1] * 5), (2.9, [2, 2, 1]), (5, [5]), (100, [5])])
def test_autoencoders_take_so_many_pixels_at_a_time_and_the_denoiser_all(
    tiny_pipeline: Path,
    device: str,
    monkeypatch: pytest.MonkeyPatch,
    pictures_in_a_pass: float,
    passes: list[int],
) -> None:
    autoencoder, denoiser = autoencoder_of(tiny_pipeline, device), denoiser_of(tiny_pipeline, device)
    pixels, latents = np.tanh(noise(5, 3, 40, 24)), noise(5, 4, 5, 3)
    encoded, decoded = autoencoder.encode(pixels), autoencoder.decode(latents)
    name = f"PIXELS_IN_A_PASS_ON_{'ACCELERATORS' if device == 'cuda' else 'THE_CPU'}"
    monkeypatch.setattr(diffusers_models, name, int(40 * 24 * pictures_in_a_pass))
    network = autoencoder._network
    of_encoder, of_decoder, of_unet = (passes_of(n) for n in (network.encoder, network.decoder, denoiser._network))
    allowed = tolerance(device, "float32")
    np.testing.assert_allclose(autoencoder.encode(pixels), encoded, atol=allowed)
    np.testing.assert_allclose(autoencoder.decode(latents), decoded, atol=allowed)
    denoiser.predict_noise(latents, 10.0)
    assert (of_encoder, of_decoder, of_unet) == (passes, passes, [5])


@pytest.mark.cuda
@pytest.mark.usefixtures("_nothing_loaded")
@pytest.mark.parametrize("compiled", [False, True])
def test_files_of_a_batch_are_those_of_single_pictures(
    tiny_pipeline: Path, device: str, compilations: list[dict[str, Any]], compiled: bool
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (6, 24, 40, 3), np.uint8)
    with pillow_sdc.configure(model=tiny_pipeline, device=device, dtype="float32", denoise_steps=2):
        one_by_one = [pillow_sdc.encode(picture, codec="uint8") for picture in samples]
        latents = [pillow_sdc.read_latents(file) for file in one_by_one]
        noisy = [pillow_sdc.decode_latents(one, noise_variance=0.03) for one in latents]
        with pillow_sdc.configure(compile=compiled):
            files = pillow_sdc.encode_batch(samples, batch_size=2, codec="uint8")
            again = [pillow_sdc.decode_latents(one, noise_variance=0.03) for one in latents]
    for file, expected in zip(files, latents, strict=True):
        np.testing.assert_allclose(pillow_sdc.read_latents(file), expected, atol=0.034)  # a step of the codec
    for picture, reference in zip(again, noisy, strict=True):
        np.testing.assert_allclose(np.asarray(picture, int), np.asarray(reference, int), atol=1 + (device == "cuda"))
    assert bool(compilations) is compiled


# Compilation


class Recorder:
    """A function of a network and tensors, and stand-in for ``torch.compile``, that tells its runs from compiled ones.

    Attributes:
        uncompiled: The sizes of the first tensors of uncompiled runs.
        compiled: Likewise of compiled ones, their first runs included.
        compilations: How many there were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uncompiled: list[int] = []
        self.compiled: list[int] = []
        self.compilations = 0
        monkeypatch.setattr("torch.compile", self.compile)

    def run(self, network: Any, *given: Any) -> Any:
        self.uncompiled.append(len(given[0]))
        return network(*given)

    def compile(self, function: Any, **options: Any) -> Any:
        assert function == self.run
        assert options == {"fullgraph": True, "dynamic": False}
        self.compilations += 1

        def compiled(network: Any, *given: Any) -> Any:
            self.compiled.append(len(given[0]))
            return network(*given)

        return compiled


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    return Recorder(monkeypatch)


def ones(length: int) -> Any:
    import torch

    return torch.ones(length)


def double(tensor: Any) -> Any:
    return 2 * tensor


def test_a_shape_is_compiled_when_it_comes_again(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run)
    for length in (8, 8, 8, 3):
        assert function(double, ones(length)).tolist() == [2] * length
    assert recorder.uncompiled == [8, 3]
    assert recorder.compiled == [8, 8, 8]  # once to compile it
    assert recorder.compilations == 1


def test_a_shape_may_have_to_come_more_often(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run, uncompiled_runs=4)
    for length in (5, 6, 5, 5, 5, 5):
        function(double, ones(length))
    assert recorder.uncompiled == [5, 6, 5, 5, 5]
    assert recorder.compilations == 1


def test_only_so_many_shapes_are_compiled(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run)
    lengths = range(1, compilation.MOST_SHAPES + 3)
    for _ in range(3):
        for length in lengths:
            assert len(function(double, ones(length))) == length
    assert recorder.compilations == compilation.MOST_SHAPES
    assert recorder.uncompiled[len(lengths) :] == 2 * list(lengths[compilation.MOST_SHAPES :])


def test_shapes_that_came_long_ago_are_forgotten(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run)
    for length in (*range(compilation.RECENT_RUNS + 1), 0):
        function(double, ones(length))
    assert recorder.compilations == 0


def test_runs_that_fail_do_not_count(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run)

    def fail(tensor: Any) -> Any:
        raise RuntimeError("no such shape")

    for _ in range(3):
        with pytest.raises(RuntimeError, match="no such shape"):
            function(fail, ones(2))
    assert recorder.compilations == 0


def test_numbers_of_threads_and_types_are_compiled_for_each(recorder: Recorder) -> None:
    import torch

    function = CompiledOnRecurrence(recorder.run)
    threads = torch.get_num_threads()
    try:
        for _ in range(2):
            for count in (threads, threads + 1):
                torch.set_num_threads(count)
                function(double, ones(2))
                function(double, ones(2).half())
    finally:
        torch.set_num_threads(threads)
    assert recorder.compilations == 4


def test_nothing_runs_while_another_thread_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, running, compiling, compiled_for = threading.Lock(), 0, False, []

    def network(tensor: Any) -> Any:
        nonlocal running
        with lock:
            assert not compiling
            running += 1
        time.sleep(0.001)
        with lock:
            running -= 1
        return tensor

    def run(network: Any, tensor: Any) -> Any:
        return network(tensor)

    def slow_compile(function: Any, **options: Any) -> Any:
        def first_run(network: Any, tensor: Any) -> Any:
            nonlocal compiling
            with lock:
                assert not running
                compiling = True
            time.sleep(0.01)
            with lock:
                compiling = False
            compiled_for.append(len(tensor))
            return run(network, tensor)

        runs = iter([first_run])
        return lambda *given: next(runs, run)(*given)

    monkeypatch.setattr("torch.compile", slow_compile)
    functions = [CompiledOnRecurrence(run) for _ in range(2)]

    def work(seed: int) -> int:
        lengths = np.random.default_rng(seed).integers(1, 5, 60)
        return sum(len(functions[length % 2](network, ones(length))) == length for length in lengths)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [60] * 8
    assert sorted(compiled_for) == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [RuntimeError("no C++ compiler\nat all"), ImportError("no Triton"), OSError("full")])
def test_a_compiler_that_fails_is_reported_with_the_setting_that_wants_it(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("torch.compile", lambda function, **options: fail)
    autoencoder = autoencoder_of(tiny_pipeline, "cpu")
    autoencoder.compile()
    latents = noise(4, 2, 2)
    autoencoder.decode(latents)
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match=r"cannot be compiled here .*compile=False") as caught:
            autoencoder.decode(latents)
        assert "PILLOW_SDC_COMPILE=0" in str(caught.value)
        assert "at all" not in str(caught.value)
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "RuntimeError"])
def test_want_of_memory_while_compiling_is_no_fault_of_the_compiler(
    tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import torch

    def exhaust(*args: Any) -> Any:
        raise getattr(torch, kind, RuntimeError)("MPS backend out of memory: none left")

    monkeypatch.setattr("torch.compile", lambda function, **options: exhaust)
    autoencoder = autoencoder_of(tiny_pipeline, "cpu")
    autoencoder.compile()
    autoencoder.decode(noise(4, 2, 2))
    with pytest.raises(ModelFailedError, match=r"the autoencoder failed .*none left"):
        autoencoder.decode(noise(4, 2, 2))


@pytest.mark.usefixtures("_nothing_loaded")
def test_compiled_models_are_others_than_uncompiled_ones(tiny_pipeline: Path, recorder: Recorder) -> None:
    settings = Settings(model=str(tiny_pipeline), device="cpu")
    models, compiled = get_models(settings), get_models(settings._replace(compile=True))
    assert (models.compiled, compiled.compiled) == (False, True)
    assert get_models(settings._replace(compile=True)) is compiled
    for _ in range(3):
        models.autoencoder.encode(noise(3, 8, 8))
    assert recorder.compilations == 0


@pytest.mark.cuda
@pytest.mark.usefixtures("_nothing_loaded")
def test_every_network_is_traced_as_a_whole(
    tiny_pipeline: Path, device: str, compilations: list[dict[str, Any]]
) -> None:
    def use(models: Models) -> list[Array]:
        assert models.denoiser is not None
        autoencoder, predict = models.autoencoder, models.denoiser.predict_noise
        latents, times = noise(2, 4, 2, 3), np.array([3.5, 20.0])
        return [
            autoencoder.encode(np.tanh(noise(2, 3, 16, 24))),
            autoencoder.decode(latents, 0.01),
            predict(latents, times),
        ]

    for model, names in ((tiny_pipeline, 3), (tiny_pipeline / "vae", 2)):
        settings = Settings(model=str(model), device=device, dtype="float32")
        expected, compiled = use(get_models(settings)), get_models(settings._replace(compile=True))
        del compilations[:]
        for _ in range(Settings().denoise_steps + 1):
            results = use(compiled)
        assert compilations == [{"fullgraph": True, "dynamic": False}] * names
        for result, reference in zip(results, expected, strict=True):
            np.testing.assert_allclose(result, reference, atol=tolerance(device, "float32"))


def test_the_steps_of_one_picture_compile_nothing(
    tiny_pipeline: Path, compilations: list[dict[str, Any]], hub_cache: Path
) -> None:
    with pillow_sdc.configure(model=tiny_pipeline, device="cpu", compile=True):
        pillow_sdc.decode_latents(noise(4, 3, 3), noise_variance=0.03)
        assert compilations == []
    clear_cache()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_in_a_forked_child_nothing_is_compiled(recorder: Recorder) -> None:
    function = CompiledOnRecurrence(recorder.run)
    for _ in range(2):
        function(double, ones(2))

    def run_in_child() -> None:
        for _ in range(3):
            function(double, ones(2))
            function(double, ones(3))
        assert recorder.compiled == [2, 2]
        assert recorder.uncompiled == [2] + [2, 3] * 3

    child = multiprocessing.get_context("fork").Process(target=run_in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.cuda
def test_torchs_own_compiler_gives_the_same_results(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if device == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("there is no C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    network = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.SiLU()).requires_grad_(False)
    network, given = network.to(device), torch.from_numpy(noise(2, 4, 8, 8)).to(device)
    expected = network(given).cpu()
    function = CompiledOnRecurrence(lambda network, tensor: network(tensor))
    for _ in range(3):
        np.testing.assert_allclose(function(network, given).cpu(), expected, atol=tolerance(device, "float32"))
    assert function._compiled
