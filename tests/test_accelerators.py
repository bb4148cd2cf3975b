"""Accelerators besides CUDA, by a stand-in: the CPU under an accelerator's name. None was tried on hardware."""

import logging
import os
import re
import subprocess
import sys
import weakref
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from locations import ROOT
from PIL import Image
from small_runs import ENCODING

import pillow_sdc
from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.jobs.executors import processes
from pillow_sdc.jobs.executors.ray import RayEngine
from pillow_sdc.models import choose_model, clear_cache, devices, get_models, loading
from pillow_sdc.models.diffusion.diffusers_models import DiffusersAutoencoder
from pillow_sdc.models.diffusion.hub import DEFAULT_MODEL
from pillow_sdc.options import Settings
from pillow_sdc.runtime import accelerators

KINDS = ("mps", "xpu", "privateuseone")


class StandIn:
    """What torch has of a type of device, and what was asked of it."""

    def __init__(self, count: int = 1) -> None:
        self.count = count
        self.released = 0

    def device_count(self) -> int:
        return self.count

    def empty_cache(self) -> None:
        self.released += 1

    def get_device_name(self) -> str:
        return "a stand-in"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stand_in(kind: str, monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> Iterator[StandIn]:
    """An accelerator of the kind; networks that are moved to it stay on the CPU."""
    import torch

    module, move = StandIn(), torch.nn.Module.to

    def move_nowhere(self: Any, *arguments: Any, **options: Any) -> Any:
        return self if arguments == (kind,) else move(self, *arguments, **options)

    monkeypatch.setattr(torch.nn.Module, "to", move_nowhere)
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: SimpleNamespace(type=kind))
    monkeypatch.setattr(devices, "_try_device", lambda name: None)
    monkeypatch.setattr(devices, "_computes_in", lambda dtype, device: dtype == "bfloat16")
    clear_cache()
    yield module
    clear_cache()


@pytest.fixture
def _no_float64(kind: str) -> Iterator[None]:
    """Have layers refuse what MPS has no numbers for."""
    import torch
    from torch.nn.modules import module

    def refuse(layer: Any, arguments: Any, result: Any = None) -> None:
        for value in (*arguments, result):
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.float64, layer

    hooks = module.register_module_forward_pre_hook(refuse), module.register_module_forward_hook(refuse)
    yield
    for hook in hooks:
        hook.remove()


def gradient() -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").resize((16, 16)), *[Image.new("L", (16, 16), 90)] * 2])


# The choice


def test_auto_takes_the_accelerator_and_the_half_precision_that_it_has(
    stand_in: StandIn, kind: str, tiny_pipeline: Path
) -> None:
    choice = choose_model(Settings(model=str(tiny_pipeline)))
    assert (choice.device, choice.dtype) == (kind, "bfloat16" if kind == "privateuseone" else "float16")
    assert choose_model(Settings(model=str(tiny_pipeline), dtype="float32")).dtype == "float32"
    assert choose_model(Settings(model=str(tiny_pipeline), device="cpu")).device == "cpu"


def test_auto_downloads_nothing_for_an_accelerator_that_is_not_cuda(stand_in: StandIn) -> None:
    choice = choose_model(Settings())
    assert choice.model == "compact"
    assert choice.reason == f"the device is not CUDA, and {DEFAULT_MODEL} is not in the hub's local cache"


def test_auto_is_the_cpu_where_the_accelerator_does_not_work(
    stand_in: StandIn, kind: str, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("no driver")

    monkeypatch.setattr(devices, "_try_device", fail)
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        assert choose_model(Settings(model=str(tiny_pipeline))).device == "cpu"
    assert f"computing on the CPU, for {kind} cannot be used here: RuntimeError: no driver" in caplog.text
    with pytest.raises(
        ModelUnavailableError, match=f"{kind}. cannot be used here: RuntimeError: no driver; torch computes on"
    ):
        choose_model(Settings(model=str(tiny_pipeline), device=kind))


@pytest.mark.parametrize("name", ["mps", "xpu", "hpu", "mtia", "meta"])
def test_a_device_that_is_not_here_is_an_error_that_says_what_is(name: str, tiny_pipeline: Path) -> None:
    import torch

    if torch.accelerator.is_available():
        pytest.skip("there is an accelerator")
    with pytest.raises(ModelUnavailableError) as caught:
        choose_model(Settings(model=str(tiny_pipeline), device=name))
    message = str(caught.value)
    assert message.startswith(f"device {name!r} cannot be used here: ")
    assert re.search(r"torch( [\w.+]+)? computes on the CPU alone here; name another", message)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("dtype", "device", "computes"),
    [("float16", "cpu", True), ("bfloat16", "cpu", True), ("float16", "meta", False), ("float8_e4m3fn", "cpu", False)],
)
def test_a_dtype_is_tried_by_a_convolution(dtype: str, device: str, computes: bool) -> None:
    assert devices._computes_in(dtype, device) == computes


@pytest.mark.parametrize(
    ("halves", "chosen"), [(("float16", "bfloat16"), "float16"), (("bfloat16",), "bfloat16"), ((), "float32")]
)
def test_of_an_accelerator_that_is_not_known_the_first_half_precision_that_works_is_taken(
    halves: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_computes_in", lambda dtype, device: dtype in halves)
    assert devices.choose_dtype("auto", "privateuseone:1") == chosen


# Without torch


@pytest.mark.parametrize(
    ("version", "platform", "machine", "driver", "expected"),
    [
        ("cuda = None\nxpu = None", "linux", "x86_64", True, False),
        ("cuda = '13.0'", "linux", "x86_64", True, True),
        ("cuda = '13.0'", "linux", "x86_64", False, False),
        ("hip = '7.1'\ncuda = None", "linux", "x86_64", False, True),
        ("xpu = '20260101'\ncuda = None", "win32", "AMD64", False, True),
        ("cuda = None", "darwin", "arm64", False, True),
        ("cuda = None", "darwin", "x86_64", False, False),
        ("raise ImportError", "linux", "x86_64", True, True),
        ("raise ImportError", "linux", "x86_64", False, False),
    ],
)
def test_whether_there_may_be_an_accelerator_is_seen_without_importing_torch(
    version: str,
    platform: str,
    machine: str,
    driver: bool,
    expected: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "version.py").write_text(version)
    spec = ModuleSpec("torch", None, origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(accelerators, "find_spec", lambda name: spec)
    monkeypatch.setattr(accelerators, "has_cuda_driver", lambda: driver)
    monkeypatch.setattr(accelerators, "_built_for", accelerators._built_for.__wrapped__)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert accelerators.may_be_there() == expected
    monkeypatch.setattr(accelerators, "find_spec", lambda name: None)
    assert not accelerators.may_be_there()


def test_torch_says_itself_what_it_was_built_for() -> None:
    import torch

    built_for = accelerators._built_for()
    assert built_for is not None
    assert ("cuda" in built_for) == (torch.version.cuda is not None)


def test_auto_imports_no_torch_on_a_mac_for_the_embedded_model(tmp_path: Path) -> None:
    program = f"""
import os, sys
os.environ.update(HF_HOME={str(tmp_path)!r}, PILLOW_SDC_AUTOLOAD="0")
from pillow_sdc.models import choose_model
from pillow_sdc.options import Settings
from pillow_sdc.runtime import accelerators
class System:
    platform, modules = "darwin", sys.modules
accelerators.sys = System
accelerators.platform.machine = lambda: "arm64"
assert accelerators.may_be_there()
print(choose_model(Settings()).model, "torch" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["compact", "False"]


# Computing


@pytest.mark.usefixtures("_no_float64")
def test_pictures_go_through_it_in_half_precision(stand_in: StandIn, kind: str, tiny_pipeline: Path) -> None:
    exact = Settings(model=str(tiny_pipeline), device="cpu")
    with pillow_sdc.configure(**exact._asdict()):
        expected = pillow_sdc.decode(pillow_sdc.encode(gradient(), codec="uint8"))
    with pillow_sdc.configure(model=str(tiny_pipeline), denoise_steps=2):
        picture = pillow_sdc.decode(pillow_sdc.encode(gradient(), codec="uint8"))
        pillow_sdc.decode(pillow_sdc.encode(gradient(), palette_size=16))  # of which the noise is taken away
        models = get_models(pillow_sdc.settings())
    assert (models.device, models.dtype) == (kind, "bfloat16" if kind == "privateuseone" else "float16")
    error = np.abs(np.asarray(picture, int) - np.asarray(expected, int))
    assert error.max() <= 32  # bfloat16 has 8 bits, and the network is one of chance
    assert error.mean() <= 6


@pytest.mark.parametrize("kind", ["mps"])
def test_what_overflows_on_it_is_computed_again_in_float32(
    stand_in: StandIn, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from diffusers import AutoencoderKL

    decode = AutoencoderKL.decode

    def overflow(self: Any, latents: Any, *rest: Any) -> Any:
        result = decode(self, latents, *rest)
        if latents.dtype == torch.float16:
            result.sample.fill_(torch.nan)
        return result

    monkeypatch.setattr(AutoencoderKL, "decode", overflow)
    autoencoder = get_models(Settings(model=str(tiny_pipeline))).autoencoder
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        assert np.isfinite(autoencoder.decode(np.zeros((4, 2, 2), np.float32))).all()
    assert "the autoencoder overflowed in torch.float16; computing again in float32" in caplog.text


@pytest.mark.parametrize("kind", ["mps"])
def test_where_its_memory_runs_out_batches_are_halved(
    stand_in: StandIn, tiny_pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, sizes = DiffusersAutoencoder.encode, []

    def run_out(network: Any, pixels: Any) -> Any:
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, max allowed: 18.13 GB).")
        return pixels[:, :1, ::8, ::8].expand(-1, 4, -1, -1).float()

    autoencoder: Any = get_models(Settings(model=str(tiny_pipeline))).autoencoder
    assert type(autoencoder).encode is encode
    autoencoder._encode = run_out
    with pillow_sdc.configure(model=str(tiny_pipeline)):
        files = pillow_sdc.encode_batch([gradient()] * 8, codec="uint8")
    assert sizes == [8, 4, 2, 2, 4, 2, 2]  # eight at a time, for it is an accelerator
    assert len(files) == 8


@pytest.mark.parametrize("kind", ["mps"])
def test_what_a_failed_batch_had_allocated_is_gone_when_its_halves_are_tried(
    stand_in: StandIn, tiny_pipeline: Path
) -> None:
    left: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def run_out(network: Any, pixels: Any) -> Any:
        alive.append(sum(reference() is not None for reference in left))
        if len(pixels) > 1:
            activations = pixels.repeat(1, 4, 1, 1)
            left.extend(map(weakref.ref, (pixels, activations)))
            raise RuntimeError("MPS backend out of memory (MPS allocated: 17.00 GB, max allowed: 18.13 GB).")
        return pixels[:, :1, ::8, ::8].expand(-1, 4, -1, -1).float()

    autoencoder: Any = get_models(Settings(model=str(tiny_pipeline))).autoencoder
    autoencoder._encode = run_out
    with pillow_sdc.configure(model=str(tiny_pipeline)):
        assert len(pillow_sdc.encode_batch([gradient()] * 4, codec="uint8")) == 4
    assert len(left) == 6
    assert alive == [0] * 7


@pytest.mark.parametrize("kind", ["mps"])
def test_clearing_the_cache_gives_its_memory_back(stand_in: StandIn, tiny_pipeline: Path) -> None:
    get_models(Settings(model=str(tiny_pipeline), device="cpu"))
    clear_cache()
    assert stand_in.released == 0
    get_models(Settings(model=str(tiny_pipeline)))
    clear_cache()
    assert stand_in.released == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("kind", ["xpu"])
def test_it_does_not_survive_a_fork(stand_in: StandIn, tiny_pipeline: Path) -> None:
    for device in ("auto", "cpu"):
        models = get_models(Settings(model=str(tiny_pipeline), device=device))
        assert models.autoencoder
    loading._forget_accelerated_models()
    assert [models.device for models in loading._models.values()] == ["cpu"]
    assert {key[2] for key in loading._networks} == {"cpu"}


# Many files


@pytest.mark.parametrize("kind", ["xpu"])
@pytest.mark.parametrize(("count", "places"), [(0, ["xpu"]), (1, ["xpu:0"]), (2, ["xpu:0", "xpu:1"])])
def test_a_batch_has_a_worker_for_each_device(
    stand_in: StandIn, tiny_pipeline: Path, count: int, places: list[str]
) -> None:
    stand_in.count = count
    conversion = replace(ENCODING, settings={"model": str(tiny_pipeline)})
    assert processes._places(conversion) == places
    for device in ("xpu:1", "cpu"):
        settings = {"model": str(tiny_pipeline), "device": device}
        assert set(processes._places(replace(ENCODING, settings=settings))) == {device}


def test_rays_gpus_are_cudas() -> None:
    with pytest.raises(ValueError, match="gpus_per_worker is 1, but the device is mps"):
        RayEngine(gpus_per_worker=1).pool({"CPU": 8.0}, "mps")
