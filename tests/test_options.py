import asyncio
import io
import multiprocessing
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pillow_sdc
from pillow_sdc import OptionError, Settings, configure, encode, encode_batch, options, settings
from pillow_sdc.format.codecs import CODECS, ContextCodec


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("MODEL", "DEVICE", "DTYPE", "DENOISE_STEPS", "COMPILE", "CODEC", "QUALITY"):
        monkeypatch.delenv(f"PILLOW_SDC_{variable}", raising=False)
    monkeypatch.setattr(options, "_process", options._ProcessSettings())


def in_new_thread() -> Settings:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(settings).result()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_can_be_started_with_their_parents_settings(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    configure(model="some/model", dtype="bfloat16")
    start = partial(configure, **settings()._asdict())
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context, initializer=start) as pool:
        assert pool.submit(settings).result() == settings()


def test_spawned_workers_inherit_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_DENOISE_STEPS", "7")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(settings).result() == Settings(denoise_steps=7)


def test_defaults() -> None:
    assert settings() == Settings("auto", None, "auto", "auto", 4, False, None, None)


def test_environment_variables_set_what_no_call_has_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_MODEL", "some/model")
    monkeypatch.setenv("PILLOW_SDC_DENOISE_STEPS", "7")
    assert settings() == Settings(model="some/model", denoise_steps=7)
    configure(model="other/model")
    assert settings() == Settings(model="other/model", denoise_steps=7)


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("true", True), ("True", True), ("0", False), ("FALSE", False), ("", False)]
)
def test_compilation_is_switched_by_an_environment_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, value: bool
) -> None:
    monkeypatch.setenv("PILLOW_SDC_COMPILE", text)
    assert settings().compile is value
    configure(compile=not value)
    assert settings().compile is not value


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(("DENOISE_STEPS", value) for value in ("few", "-1", "1001", "2.5", "9" * 5000)),
        *(("QUALITY", value) for value in ("best", "0", "101", "75.5")),
        *(("CODEC", value) for value in ("jpeg", "Palette", " context")),
        *(("COMPILE", value) for value in ("2", "on")),
        ("DTYPE", "int8"),
    ],
)
def test_environment_variables_outside_their_range_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(f"PILLOW_SDC_{variable}", value)
    with pytest.raises(OptionError, match=f"^PILLOW_SDC_{variable} is .*{value}.*; it must be "):
        settings()


# Codec and quality


def test_the_qualities_and_codecs_of_settings_are_those_of_the_codecs() -> None:
    for codec in CODECS:
        configure(codec=codec.name)
        assert settings().codec == codec.name
    for quality in (1, 100):
        configure(quality=quality)
        assert CODECS.choose(settings().codec_options) is ContextCodec


def codec_and_quality() -> tuple[str | None, int | None]:
    return settings().codec, settings().quality


def test_codec_and_quality_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codec_and_quality() == (None, None)
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "40")
    assert codec_and_quality() == (None, 40)
    monkeypatch.setenv("PILLOW_SDC_CODEC", "context")
    assert codec_and_quality() == ("context", 40)
    with configure(quality=np.int64(70)):  # type: ignore[arg-type]
        assert codec_and_quality() == ("context", 70)
    configure(codec=None, quality=None)
    assert codec_and_quality() == (None, None)


def test_of_a_codec_and_a_quality_that_exclude_each_other_the_later_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_CODEC", "palette")
    configure(quality=40)
    assert codec_and_quality() == (None, 40)
    configure(codec="uint8")
    assert codec_and_quality() == ("uint8", None)
    with configure(quality=70):
        assert codec_and_quality() == (None, 70)
        with configure(codec="palette"):
            assert codec_and_quality() == ("palette", None)
        configure(codec="context")
        assert codec_and_quality() == ("context", 70)
    assert codec_and_quality() == ("uint8", None)
    configure(codec="context", quality=3)
    assert codec_and_quality() == ("context", 3)


def test_a_codec_and_a_quality_of_one_call_that_exclude_each_other_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"^quality is for the codec context, and codec is 'palette'"):
        configure(codec="palette", quality=40)
    monkeypatch.setenv("PILLOW_SDC_CODEC", "uint8")
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "40")
    with pytest.raises(OptionError, match=r"^PILLOW_SDC_QUALITY is for .*, and PILLOW_SDC_CODEC is 'uint8'"):
        settings()


PICTURE = Image.linear_gradient("L").resize((48, 40))


def saved(**save_options: Any) -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "SDC", model="compact", **save_options)
    return file.getvalue()


def test_settings_choose_what_a_plain_save_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    palette, context, fine, uint8 = saved(), saved(codec="context"), saved(quality=80), saved(codec="uint8")
    assert len({palette, context, fine, uint8}) == 4
    with configure(quality=80):
        assert saved() == fine == encode(PICTURE, model="compact") == encode_batch([PICTURE], model="compact")[0]
    with configure(codec="context"):
        assert saved() == context
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "80")
    assert saved() == fine
    monkeypatch.setenv("PILLOW_SDC_CODEC", "uint8")
    monkeypatch.delenv("PILLOW_SDC_QUALITY")
    assert saved() == uint8
    assert pillow_sdc.info(saved()).codec == "uint8"


@pytest.mark.parametrize(
    "save_options",
    [
        {"codec": "palette"},
        {"palette_size": 8},
        {"dither": 0},
        {"codec": "context"},
        {"quality": 5},
        {"target_size": 300},
    ],
)
def test_what_save_is_given_of_a_codec_holds_as_a_whole(save_options: dict[str, Any]) -> None:
    expected = saved(**save_options)
    configured: tuple[Any, ...] = {"quality": 90}, {"codec": "uint8"}, {"codec": "context", "quality": 90}
    for changes in configured:
        with configure(**changes):
            assert saved(**save_options) == expected


def test_a_bad_variable_is_an_error_of_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILLOW_SDC_QUALITY", "best")
    with pytest.raises(OptionError, match="PILLOW_SDC_QUALITY is 'best'; it must be a whole number from 1 to 100"):
        saved()


def test_a_plain_call_holds_for_all_threads() -> None:
    configure(denoise_steps=1)
    configure(model=Path("folder"))
    assert settings() == Settings(model="folder", denoise_steps=1)
    assert in_new_thread() == settings()


def test_a_block_ends_with_its_changes() -> None:
    configure(denoise_steps=1)
    with configure(denoise_steps=2) as inner:
        assert inner.denoise_steps == settings().denoise_steps == 2
        with configure(model="m"):
            assert settings() == Settings(model="m", denoise_steps=2)
        assert settings().model == "auto"
    assert settings().denoise_steps == 1


def test_a_block_ends_with_its_changes_when_it_raises() -> None:
    with pytest.raises(KeyError), configure(denoise_steps=2):
        raise KeyError
    assert settings() == Settings()


def test_a_plain_call_within_a_block_ends_with_the_block() -> None:
    with configure(denoise_steps=2):
        configure(denoise_steps=3)
        assert settings().denoise_steps == 3
    assert settings().denoise_steps == 4


def test_the_later_of_two_plain_calls_holds_whichever_thread_made_it() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(configure, denoise_steps=5).result()
    configure(denoise_steps=8)
    configure(dtype="float32")
    assert settings() == Settings(dtype="float32", denoise_steps=8)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(configure, denoise_steps=6).result()
    assert settings().denoise_steps == 6


def test_a_block_is_entered_only_where_it_is_made_and_once() -> None:
    process_wide = configure(denoise_steps=7)
    with configure(denoise_steps=2):
        with pytest.raises(RuntimeError, match="only by the with statement"), process_wide:
            pass
        assert settings().denoise_steps == 2
    configure(dtype="float32")
    with pytest.raises(RuntimeError), process_wide:
        pass
    once = configure(denoise_steps=3)
    with once:
        pass
    with pytest.raises(RuntimeError), once:
        pass
    assert settings() == Settings(dtype="float32", denoise_steps=7)


def test_numbers_of_numpy_are_numbers() -> None:
    configure(denoise_steps=np.int64(3))  # type: ignore[arg-type]
    assert settings().denoise_steps == 3


def test_blocks_of_threads_do_not_disturb_each_other() -> None:
    barrier = threading.Barrier(8)

    def work(steps: int) -> bool:
        for _ in range(200):
            with configure(denoise_steps=steps):
                if settings().denoise_steps != steps:
                    return False
        barrier.wait()
        return settings() == Settings()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    assert settings() == Settings()


def test_a_block_is_not_seen_by_other_threads() -> None:
    with configure(denoise_steps=2):
        assert in_new_thread() == Settings()


def test_blocks_of_tasks_do_not_disturb_each_other() -> None:
    async def work(steps: int) -> bool:
        with configure(denoise_steps=steps):
            await asyncio.sleep(0)
            return settings().denoise_steps == steps

    async def gather() -> list[bool]:
        return await asyncio.gather(*(work(steps) for steps in range(20)))

    assert all(asyncio.run(gather()))


@pytest.mark.parametrize(
    "changes",
    [
        {"denoise_steps": -1},
        {"denoise_steps": 1001},
        {"denoise_steps": True},
        {"denoise_steps": 2.5},
        {"compile": 1},
        {"compile": "true"},
        {"compile": None},
        {"dtype": "float64"},
        {"device": ""},
        {"model": ""},
        {"model": 3},
        {"codec": "jpeg"},
        {"codec": 2},
        {"quality": 0},
        {"quality": 75.5},
        {"quality": "40"},
    ],
)
def test_values_outside_their_range_are_refused_and_change_nothing(changes: Any) -> None:
    with pytest.raises(OptionError, match=next(iter(changes))):
        configure(**changes)
    assert settings() == Settings()


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(TypeError, match="'modle'; the settings are model, vae, device, dtype, denoise_steps, compile"):
        configure(modle="x")  # type: ignore[call-arg]


def test_settings_work_in_a_forked_child_of_a_busy_parent() -> None:
    if sys.platform == "win32":
        pytest.skip("there is no fork on Windows")
    script = """
import os, threading
from pillow_sdc import configure, options, settings
configure(denoise_steps=9)
holder = threading.Thread(target=options._process._lock.__enter__)  # takes the lock and never lets go
holder.start()
holder.join()
child = os.fork()
if not child:
    os._exit(0 if settings().denoise_steps == 9 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
