"""How far the work on one picture is: what the callback is given, what is logged, and what a terminal shows."""

import io
import logging
import re
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from plain_models import ZeroDenoiser, blocks, decoded, encoded, in_use, models

import pillow_sdc
from pillow_sdc import progress
from pillow_sdc.cli import progress as bars
from pillow_sdc.format.codecs import ContextCodec, LatentCodec, PaletteCodec, Uint8Codec
from pillow_sdc.format.context import kernel as context_kernel
from pillow_sdc.format.context.kernel import Kernel, KernelSelection
from pillow_sdc.jobs.manifest import ManifestRow
from pillow_sdc.jobs.progress import Progress, Reporter
from pillow_sdc.jobs.tasks import Packing, Task

Call = tuple[int, int]

TALL = 2 * 8 * progress.ROWS + 8
"""Pixels of a height that a codec takes in three steps, and a network in four tiles."""

CODECS: list[tuple[LatentCodec, int, int]] = [(PaletteCodec(), 12, 0), (ContextCodec(), 3, 3), (Uint8Codec(), 0, 0)]
"""Codecs, and their steps of encoding and decoding such a height."""


@pytest.fixture
def calls() -> list[Call]:
    return []


@pytest.fixture
def note(calls: list[Call]) -> Callable[[int, int], None]:
    return lambda done, total: calls.append((done, total))


def counted(total: int) -> list[Call]:
    return [(number, total) for number in range(1, total + 1)]


@pytest.mark.parametrize("kernel", ["compiled", "reference"])
@pytest.mark.parametrize(("codec", "encoding", "decoding"), CODECS)
def test_each_tile_and_each_band_is_a_step(
    codec: LatentCodec, encoding: int, decoding: int, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = None
    if kernel == "compiled":
        if not context_kernel.LIBRARY.exists():
            pytest.skip("no kernel is built")
        chosen = Kernel()
    monkeypatch.setattr(context_kernel, "selection", lambda: KernelSelection(chosen, ""))
    calls: list[Call] = []
    data = encoded(blocks(TALL, 16), codec, models(), lambda *call: calls.append(call))
    assert calls == counted(4 + encoding)
    assert data == encoded(blocks(TALL, 16), codec, models())
    calls.clear()
    decoded(data, models(), progress=lambda *call: calls.append(call))
    assert calls == counted(decoding + 4)


def test_each_evaluation_of_the_denoiser_is_a_step(calls: list[Call], note: Callable[[int, int], None]) -> None:
    data = encoded(blocks(TALL, 16), PaletteCodec(palette_size=2), models())
    decoded(data, models(ZeroDenoiser()), 3, note)
    assert calls == counted(4 * 3 + 4)


def test_each_trial_of_a_target_size_adds_steps(calls: list[Call], note: Callable[[int, int], None]) -> None:
    samples = np.random.default_rng(0).integers(0, 256, (TALL, 64, 3), np.uint8)
    with in_use(models()):
        pillow_sdc.encode(samples, target_size=600, progress=note)
    done, totals = zip(*calls, strict=True)
    assert list(done) == list(range(1, len(calls) + 1))
    assert list(totals) == sorted(totals)
    assert calls[-1][0] == calls[-1][1] > 4 + 3 + 3


def test_a_picture_of_few_latents_ends_with_its_last_step(calls: list[Call], note: Callable[[int, int], None]) -> None:
    encoded(np.zeros((16, 16, 3), np.uint8), PaletteCodec(), models(), note)
    assert calls[-1] == (1 + 4, 1 + 4)


def test_encode_and_decode_report_in_the_callers_thread(calls: list[Call]) -> None:
    threads = set()

    def note(done: int, total: int) -> None:
        threads.add(threading.get_ident())
        calls.append((done, total))

    picture = Image.linear_gradient("L").resize((900, 40))
    with pillow_sdc.configure(model="compact", device="cpu"):
        data = pillow_sdc.encode(picture, progress=note, quality=50)
        assert calls == counted(2 + 1)
        calls.clear()
        pillow_sdc.decode(data, progress=note)
        assert calls == counted(1 + 2)
        calls.clear()
        latents = pillow_sdc.encode_latents(picture, progress=note)
        pillow_sdc.decode_latents(latents, progress=note)
        assert calls == counted(2) * 2
    assert threads == {threading.get_ident()}


def test_save_and_an_opened_picture_report_too(
    calls: list[Call], note: Callable[[int, int], None], tmp_path: Path
) -> None:
    with pillow_sdc.configure(model="compact", device="cpu"):
        Image.linear_gradient("L").save(tmp_path / "a.sdc", quality=50, progress=note)
        assert calls == counted(2)
        for shrink in (False, True):
            calls.clear()
            image: Any = Image.open(tmp_path / "a.sdc")
            with image:
                image.on_progress(note)
                if shrink:
                    image.draft(None, (32, 32))
                image.load()
                image.on_progress(note)  # too late, and no harm
                image.load()
            assert calls == ([] if shrink else counted(2))


def test_what_the_callback_raises_ends_the_work(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError("enough")

    with pillow_sdc.configure(model="compact", device="cpu"):
        with pytest.raises(InterruptedError, match="enough"):
            Image.linear_gradient("L").save(tmp_path / "a.sdc", progress=stop)
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(InterruptedError, match="enough"):
            pillow_sdc.decode(pillow_sdc.encode(Image.linear_gradient("L"), quality=50), progress=stop)


def test_a_callback_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ValueError, match="progress is True; it must be a function of two numbers, or None"):
        Image.linear_gradient("L").save(io.BytesIO(), "SDC", progress=True)


def test_what_takes_long_is_logged_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "pillow_sdc")
    steps = progress.CountedSteps("encoding 6000×4000")
    steps.expect(8)
    for _ in range(8):
        now[0] += 2
        steps.done()
    assert [record.getMessage() for record in caplog.records] == [
        "encoding 6000×4000: 3 of 8 steps, 6 s",
        "encoding 6000×4000: 6 of 8 steps, 12 s",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stderr: io.StringIO, *, quiet: bool) -> str:
    """Return what is printed of a run over two files of 10 bytes, interrupted in the second."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", stderr)
    first, second = (Task((name,), 10, Packing.FILES, Packing.FILES) for name in ("a.png", "b.png"))
    state = Progress(20, count=2)
    with suppress(KeyboardInterrupt), bars.shown(lambda progress: "a.sdc", quiet=quiet) as report:
        report(state)
        listener = Reporter(state, report)
        listener.begun(first)
        listener.within(first, 5, 10)
        listener.within(first, 11, 12)
        listener.converted(first, 10, 3)
        listener.add(first, [ManifestRow("a.png", "a.sdc", source_bytes=10, output_bytes=3, seconds=0.1)])
        listener.begun(second)
        listener.within(second, 1, 2)
        raise KeyboardInterrupt
    return stderr.getvalue()


def test_the_bar_moves_within_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    completed: list[float] = []
    from rich.progress import Progress as Bar

    update = Bar.update

    def noted(self: Bar, task: Any, **fields: Any) -> None:
        if "completed" in fields:
            completed.append(fields["completed"])
        update(self, task, **fields)

    monkeypatch.setattr(Bar, "update", noted)
    output = shown(monkeypatch, Terminal(), quiet=False)
    assert completed == [0, 5, 9, 10, 10, 15]
    assert re.search("1/2.*7 bytes saved", output)


def test_a_pipe_gets_the_summary_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    output = shown(monkeypatch, io.StringIO(), quiet=False)
    assert re.fullmatch(r"a\.sdc: 10 bytes in, 3 bytes out \(30\.0%\), [\d.]+ s\n", output)


def test_quiet_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, Terminal(), quiet=True) == ""


def test_many_pictures_have_no_progress_of_one() -> None:
    with pytest.raises(TypeError, match="progress is for a single picture"):
        pillow_sdc.encode_batch([Image.new("L", (8, 8))], progress=print)
