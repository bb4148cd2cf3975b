"""Which model settings come to, as a value that all who need it share."""

import dataclasses
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pillow_sdc.models import ModelChoice, choose_model, clear_cache, compact, devices, get_models, loading
from pillow_sdc.models.diffusion.hub import DEFAULT_MODEL
from pillow_sdc.models.kinds import DIFFUSERS, EMBEDDED, kind_of
from pillow_sdc.options import Settings


@pytest.fixture(autouse=True)
def _nothing_loaded_or_cached(hub_cache: Path) -> Iterator[None]:
    clear_cache()
    yield
    clear_cache()


@pytest.fixture
def cached_default(tiny_pipeline: Path, hub_cache: Path) -> Path:
    """The folder of the default model in the hub's cache, which holds a small one."""
    repository = hub_cache / "hub" / "models--CompVis--stable-diffusion-v1-4"
    shutil.copytree(tiny_pipeline, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    return repository


def test_the_choice_of_a_model_that_is_named_has_no_reason_and_no_substitute(tiny_pipeline: Path) -> None:
    choice = choose_model(Settings(model=str(tiny_pipeline), device="cpu", dtype="bfloat16", compile=True))
    assert choice == ModelChoice(str(tiny_pipeline), "cpu", "bfloat16", compiled=True)
    assert choose_model(Settings(model="compact", device="cpu")) == ModelChoice("compact", "cpu", "int8", False)


def test_choosing_loads_nothing_and_logs_nothing(cached_default: Path, caplog: pytest.LogCaptureFixture) -> None:
    (cached_default / "refs" / "main").write_text("no commit")
    with caplog.at_level(logging.INFO, "pillow_sdc"):
        choice = choose_model(Settings(device="cpu"))
    assert (choice.model, choice.is_fault, choice.substitute) == ("compact", True, None)
    assert "which is not a commit" in choice.reason
    assert caplog.records == []
    assert not loading._models
    assert not loading._networks


def test_what_auto_stands_for_has_the_embedded_model_as_its_substitute(cached_default: Path) -> None:
    choice = choose_model(Settings(device="cpu"))
    assert (choice.model, choice.reason, choice.is_fault) == (DEFAULT_MODEL, "it is in the hub's local cache", False)
    assert choice.substitute == ModelChoice("compact", "cpu", "int8", False)
    substituted = choice.substituted("it broke")
    assert substituted == ModelChoice("compact", "cpu", "int8", False, "it broke", is_fault=True)
    assert substituted is not None
    assert substituted.substituted("it broke, too") is None


def test_models_have_the_choice_that_they_were_loaded_for(cached_default: Path) -> None:
    for settings in (Settings(device="cpu"), Settings(model="compact", device="cpu", compile=True)):
        models = get_models(settings)
        assert models.choice == choose_model(settings)
        choice = models.choice
        assert (models.name, models.device, models.dtype, models.compiled) == dataclasses.astuple(choice)[:4]


def test_a_choice_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        choose_model(Settings(model="compact", device="cpu")).device = "cuda"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("setting", "device", "dtype"),
    [("auto", "cpu", "float32"), ("auto", "cuda:1", "float16"), ("float32", "cuda", "float32")],
)
def test_dtypes_are_half_where_the_device_is_cuda_and_nothing_else_is_set(
    setting: str, device: str, dtype: str
) -> None:
    assert devices.choose_dtype(setting, device) == dtype


def test_the_embedded_model_is_a_kind_of_its_own(tiny_pipeline: Path) -> None:
    assert kind_of(compact.NAME) is EMBEDDED
    assert kind_of(str(tiny_pipeline)) is kind_of("someone/model") is DIFFUSERS
    assert EMBEDDED.missing_parts(compact.NAME, devices.precision_for("float32")) == ()
