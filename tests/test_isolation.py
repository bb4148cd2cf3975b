"""What the caller has set in torch does not matter to us, and what we do with torch does not matter to the caller."""

import multiprocessing
import os
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hub_stand_in import run_against
from numpy.typing import NDArray
from PIL import Image
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import pillow_sdc
from pillow_sdc.models import clear_cache, compact
from pillow_sdc.models.diffusion import checkpoint, diffusers_models
from pillow_sdc.runtime.torch_state import isolated

MODELS = "compact", "pipeline", "autoencoder"
"""The last has the embedded denoiser behind another autoencoder."""

every_model = pytest.mark.parametrize("model", MODELS, indirect=True)


class Outcome(NamedTuple):
    """The results for a picture on its way into a file and back."""

    latents: NDArray[np.float32]
    file: bytes
    pixels: NDArray[np.uint8]


@pytest.fixture
def model(request: pytest.FixtureRequest, tiny_pipeline: Path, hub_cache: Path) -> str:
    return {"compact": "compact", "pipeline": str(tiny_pipeline), "autoencoder": str(tiny_pipeline / "vae")}[
        request.param
    ]


@pytest.fixture(autouse=True)
def _nothing_loaded() -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


def load_and_use(model: str) -> Outcome:
    clear_cache()
    y, x = np.mgrid[:56, :72]
    picture = Image.fromarray(np.stack([3 * x, 4 * y, x * y // 16], -1).astype(np.uint8))
    with pillow_sdc.configure(model=model, device="cpu", denoise_steps=2):
        latents = pillow_sdc.encode_latents(picture)
        file = pillow_sdc.encode(picture, codec="uint8")
        decoded = pillow_sdc.decode_latents(pillow_sdc.read_latents(file), noise_variance=0.03)
    return Outcome(latents, file, np.asarray(decoded))


def assert_same(outcome: Outcome, expected: Outcome) -> None:
    assert outcome.file == expected.file
    np.testing.assert_array_equal(outcome.pixels, expected.pixels)
    np.testing.assert_array_equal(outcome.latents, expected.latents)


def assert_same_but_for_rounding(outcome: Outcome, expected: Outcome) -> None:
    np.testing.assert_allclose(outcome.latents, expected.latents, rtol=0, atol=1e-5)
    np.testing.assert_allclose(outcome.pixels.astype(int), expected.pixels.astype(int), rtol=0, atol=1)


# The caller's settings


@contextmanager
def reset(change: Callable[[Any], object], value: Any, usual: Any) -> Iterator[None]:
    change(value)
    try:
        yield
    finally:
        change(usual)


class Spoiling(TorchFunctionMode):
    """Adds one to the results of torch's functions."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return result + 1 if isinstance(result, torch.Tensor) and result.is_floating_point() else result


class SpoilingBelow(TorchDispatchMode):
    """Adds one to the results of torch's operators."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        return result + 1 if isinstance(result, torch.Tensor) and result.is_floating_point() else result


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "device": lambda: torch.device("meta"),
    "default device": lambda: reset(torch.set_default_device, "meta", None),
    "default dtype float64": lambda: reset(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: reset(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "anomaly": torch.autograd.detect_anomaly,
    "deterministic": lambda: reset(torch.use_deterministic_algorithms, True, False),
    "precision medium": lambda: reset(torch.set_float32_matmul_precision, "medium", "highest"),
    "precision high": lambda: reset(torch.set_float32_matmul_precision, "high", "highest"),
    "attention by a formula": lambda: sdpa_kernel(SDPBackend.MATH),
    "attention that is not here": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
    "function mode": Spoiling,
    "dispatch mode": SpoilingBelow,
    "fake tensors": FakeTensorMode,
    "forward gradients": torch.autograd.forward_ad.dual_level,
}

SETTINGS_THAT_ROUND: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "one thread": lambda: reset(torch.set_num_threads, 1, torch.get_num_threads()),
    "three threads": lambda: reset(torch.set_num_threads, 3, torch.get_num_threads()),
    "without oneDNN": lambda: torch.backends.mkldnn.flags(enabled=False),
}

TRANSFORMATIONS: dict[str, Callable[..., Any]] = {
    "vmap": torch.func.vmap,
    "grad": torch.func.grad,
    "jvp": lambda function: lambda ones: torch.func.jvp(function, (ones,), (ones,)),
    "functionalize": torch.func.functionalize,
}


def state_of_torch() -> dict[str, Any]:
    cuda = torch.backends.cuda
    return {
        "modes": torch.overrides._get_current_function_mode_stack(),
        "dispatch modes": torch.utils._python_dispatch._get_current_dispatch_mode_stack(),
        "transformation": torch._C._functorch.peek_interpreter_stack() is not None,
        "default dtype": torch.get_default_dtype(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "attention": (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled()),
        "threads": torch.get_num_threads(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "functions": (torch.nn.init.kaiming_uniform_, torch.nn.Module.register_parameter, torch.linspace),
    }


@every_model
def test_what_the_caller_has_set_does_not_matter_and_stays(model: str) -> None:
    expected, failures = load_and_use(model), []
    for name, enter in {**SETTINGS, **SETTINGS_THAT_ROUND}.items():
        try:
            with enter():
                before = state_of_torch()
                outcome = load_and_use(model)
                assert state_of_torch() == before
            (assert_same_but_for_rounding if name in SETTINGS_THAT_ROUND else assert_same)(outcome, expected)
        except Exception as error:
            failures.append(f"{name}: {type(error).__name__}: {str(error)[:300]}")
    assert not failures, "\n".join(failures)


@every_model
def test_a_transformation_of_the_caller_does_not_matter(model: str) -> None:
    expected, outcomes = load_and_use(model), []

    def function(tensor: torch.Tensor) -> torch.Tensor:
        before = state_of_torch()
        outcomes.append(load_and_use(model))
        assert state_of_torch() == before
        return tensor.sum()

    for transform in TRANSFORMATIONS.values():
        transform(function)(torch.ones(2))
        assert_same(outcomes[-1], expected)
    assert len(outcomes) == len(TRANSFORMATIONS)


@every_model
def test_models_loaded_before_do_not_mind_either(model: str) -> None:
    latents = np.random.default_rng(0).standard_normal((4, 7, 9)).astype(np.float32)
    with pillow_sdc.configure(model=model, device="cpu", denoise_steps=2):
        expected = np.asarray(pillow_sdc.decode_latents(latents, noise_variance=0.03))
        for enter in SETTINGS.values():
            with enter():
                decoded = pillow_sdc.decode_latents(latents, noise_variance=0.03)
            np.testing.assert_array_equal(np.asarray(decoded), expected)


@every_model
@pytest.mark.parametrize("name", ["device", "default dtype bfloat16", "autocast", "precision medium"])
def test_batches_and_other_threads_do_not_mind_either(model: str, name: str) -> None:
    expected = load_and_use(model)
    picture = Image.fromarray(expected.pixels)

    def use_in_batch() -> tuple[bytes, Image.Image]:
        (file,) = pillow_sdc.encode_batch([picture], codec="uint8")
        (decoded,) = pillow_sdc.decode_batch([file])
        return file, decoded

    def use_in_thread() -> Outcome:
        with SETTINGS[name]():
            return load_and_use(model)

    with pillow_sdc.configure(model=model, device="cpu"):
        file, decoded = use_in_batch()
        clear_cache()
        with SETTINGS[name]():
            assert use_in_batch() == (file, decoded)
    with ThreadPoolExecutor(1) as thread:
        assert_same(thread.submit(use_in_thread).result(), expected)


@pytest.mark.parametrize("model", ["compact", "pipeline"], indirect=True)
def test_random_numbers_are_those_that_they_would_be_without_us(model: str, tmp_path: Path) -> None:
    """In a fresh process, for the first picture imports the libraries."""
    code = """
        import random
        import sys
        import numpy as np
        import torch
        from PIL import Image
        import pillow_sdc

        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        before = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
        with pillow_sdc.configure(model=sys.argv[1], device="cpu", denoise_steps=2):
            file = pillow_sdc.encode(Image.linear_gradient("L").resize((24, 16)))
            pillow_sdc.decode_latents(pillow_sdc.read_latents(file), noise_variance=0.03)
        after = random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()
        print([x == y for x, y in zip(before, after)], file.hex())
    """
    code = f"import sys; sys.argv[1:] = [{model!r}]\n" + textwrap.dedent(code)
    same, _, file = run_against("http://127.0.0.1:9", tmp_path / "home", code).rpartition(" ")
    assert same == "[True, True, True]"
    with pillow_sdc.configure(model=model, device="cpu"):
        assert pillow_sdc.encode(Image.linear_gradient("L").resize((24, 16))).hex() == file.strip()


# Other threads of the caller


@pytest.mark.parametrize("model", ["pipeline", "autoencoder"], indirect=True)
def test_while_a_model_is_loaded_other_threads_can_make_networks(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def look() -> None:
        network = torch.nn.Linear(8, 8)
        seen.append((network.weight.device.type, network.weight.dtype, bool(network.weight.detach().std() > 0.01)))

    def look_elsewhere(act: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*args: Any, **kwargs: Any) -> Any:
            result = act(*args, **kwargs)
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return result

        return looked

    load_state_dict = torch.nn.Module.load_state_dict
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", look_elsewhere(load_state_dict))
    for module, name in ((diffusers_models, "check_tensors"), (checkpoint, "check_tensors")):
        monkeypatch.setattr(module, name, look_elsewhere(getattr(module, name)))
    with reset(torch.set_default_dtype, torch.float64, torch.float32):
        load_and_use(model)
    assert len(seen) >= 2
    assert set(seen) == {("cpu", torch.float64, True)}


def test_settings_of_the_process_come_back_when_the_last_thread_has_computed() -> None:
    entered, leave = threading.Barrier(2), [threading.Event(), threading.Event()]

    def compute(number: int) -> None:
        with isolated():
            entered.wait()
            leave[number].wait()

    with reset(torch.set_float32_matmul_precision, "medium", "highest"), sdpa_kernel(SDPBackend.MATH):
        before = state_of_torch()
        threads = [threading.Thread(target=compute, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for number, thread in enumerate(threads):
            leave[number].set()
            thread.join()
            if number == 0:
                assert torch.get_float32_matmul_precision() == "highest"
                assert torch.backends.cuda.flash_sdp_enabled()
        assert state_of_torch() == before


def test_what_the_caller_sets_while_we_compute_holds() -> None:
    with reset(torch.set_float32_matmul_precision, "medium", "highest"):
        with isolated():
            torch.set_float32_matmul_precision("high")
        assert torch.get_float32_matmul_precision() == "high"


def test_a_precision_that_was_set_for_one_library_alone_is_left_as_it_is(tiny_pipeline: Path, hub_cache: Path) -> None:
    backend = pytest.importorskip("torch.backends.mkldnn").matmul
    if not hasattr(backend, "fp32_precision"):
        pytest.skip("this torch has one precision for all libraries")
    with reset(lambda value: setattr(backend, "fp32_precision", value), "bf16", "none"):
        load_and_use(str(tiny_pipeline))
        assert backend.fp32_precision == "bf16"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_after_torch_has_computed_in_threads_loads_and_does_not_hang() -> None:
    """Casting large weights is a parallel region of torch's, whose workers the child does not have."""
    weights = torch.ones(1_000_000)

    def cast() -> None:
        with isolated():
            weights.to(torch.float16)

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        weights.mul(2)  # starts the workers
        child = multiprocessing.get_context("fork").Process(target=cast)
        child.start()
        child.join(30)
        hung = child.is_alive()
        child.kill()
        child.join()
    finally:
        torch.set_num_threads(threads)
    assert not hung
    assert child.exitcode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_forked_while_a_thread_computes_has_the_callers_settings() -> None:
    computing, done = threading.Event(), threading.Event()

    def compute() -> None:
        with isolated():
            computing.set()
            done.wait()

    def check_in_child() -> None:
        assert torch.get_float32_matmul_precision() == "medium"
        with isolated():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "medium"

    with reset(torch.set_float32_matmul_precision, "medium", "highest"):
        thread = threading.Thread(target=compute)
        thread.start()
        computing.wait()
        child = multiprocessing.get_context("fork").Process(target=check_in_child)
        child.start()
        child.join(60)
        done.set()
        thread.join()
        assert child.exitcode == 0
        assert torch.get_float32_matmul_precision() == "medium"


def test_errors_leave_the_callers_settings_as_they_were() -> None:
    with torch.device("meta"), Spoiling(), torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        before = state_of_torch()
        with pytest.raises(ZeroDivisionError), isolated():
            1 / 0  # noqa: B018
        assert state_of_torch() == before
    assert compact.CompactAutoencoder("cpu").decode(np.zeros((4, 1, 1), np.float32)).shape == (3, 8, 8)
