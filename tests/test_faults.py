"""Workers, commands and stores that fail in the midst of a run: nothing is lost, half-written or done twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
from faulty_file_system import register, set_faults
from PIL import Image
from small_runs import (
    ENCODING,
    SIZE,
    InlineEngine,
    check_that_a_failed_shard_is_made_anew,
    files_of,
    make_pictures,
    row_of,
    rows_of,
    unfinished,
)

from pillow_sdc.jobs.executors import processes as local_engine
from pillow_sdc.jobs.executors.processes import CriticalSections, LocalEngine
from pillow_sdc.jobs.progress import Progress
from pillow_sdc.jobs.runner import run
from pillow_sdc.jobs.tasks import Packing

TIMEOUT = 120

# Ctrl-C works here even where whoever runs the tests ignores it, as shells do for what runs in the background.
RUN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pillow_sdc.cli import app
app(prog_name="sdc")
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@dataclass(frozen=True)
class Place:
    """Where pictures are, and are to be, both by paths and by the URLs of a file system with faults."""

    source: Path
    target: Path

    @property
    def source_url(self) -> str:
        return f"faulty://{self.source}"

    @property
    def target_url(self) -> str:
        return f"faulty://{self.target}"

    def check(self, count: int, failed: int = 0) -> None:
        """See that all is there, whole, and accounted for once, but for some that failed."""
        assert len(rows_of(self.target)) == len({row.source for row in rows_of(self.target)}) == count
        assert sum(row.error is not None for row in rows_of(self.target)) == failed
        files = files_of(self.target)
        assert sorted(row.output for row in rows_of(self.target) if row.output) == files
        assert len(files) == count - failed
        for path in files:
            with Image.open(self.target / path) as image:
                assert image.size == SIZE
                image.verify()
        assert unfinished(self.target) == []


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (tmp_path / "registered").mkdir()
    register(monkeypatch, tmp_path / "registered")
    monkeypatch.setenv("PILLOW_SDC_MODEL", "compact")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return Place(tmp_path / "in", tmp_path / "out")


def test_the_death_of_a_worker_is_made_good_and_so_are_faults_of_the_stores(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(place.source, 48)
    set_faults(monkeypatch, failing={"07.png": 1, "05.sdc": 2, "40.sdc": 1})
    killed = []

    def kill(progress: Progress) -> None:
        if progress.pictures and not killed:
            workers = psutil.Process().children()
            killed.extend(worker for worker in workers if "spawn_main" in " ".join(worker.cmdline()))
            killed[0].kill()

    progress = run(place.source_url, place.target_url, ENCODING, LocalEngine(2), report=kill)
    assert killed
    assert progress.failed == 0
    assert progress.pictures + progress.found == 48
    assert progress.done == progress.total
    place.check(48)


def test_a_picture_that_workers_die_of_fails_alone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(place.source, 2)
    set_faults(monkeypatch, deadly=["01.png"])
    monkeypatch.setattr(local_engine, "DEATHS_BEFORE_ISOLATION", 1)
    progress = run(place.source_url, place.target_url, ENCODING, LocalEngine(1))
    assert (progress.pictures + progress.found, progress.failed) == (1, 1)
    assert progress.done == progress.total
    row = row_of(place.target, "01.png")
    assert (row.error, row.output) == ("its worker died, killed because memory ran out or by a crash", None)
    place.check(2, failed=1)


def test_a_picture_that_workers_die_of_does_not_keep_others_out_of_shards(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(place.source, 2)
    set_faults(monkeypatch, deadly=["00.png"])
    monkeypatch.setattr(local_engine, "DEATHS_BEFORE_ISOLATION", 1)
    progress = run(place.source_url, place.target_url, ENCODING, LocalEngine(1), to=Packing.TAR)
    assert (progress.pictures, progress.failed) == (1, 1)
    assert files_of(place.target) == ["000000-1.tar"]
    assert row_of(place.target, "00.png").error == "its worker died, killed because memory ran out or by a crash"
    assert row_of(place.target, "01.png").output == "000000-1.tar::01.sdc"
    assert unfinished(place.target) == []


def test_a_shard_of_which_a_picture_failed_is_made_anew(tmp_path: Path) -> None:
    check_that_a_failed_shard_is_made_anew(LocalEngine(1), tmp_path)


@pytest.fixture
def begun(place: Place, monkeypatch: pytest.MonkeyPatch) -> subprocess.Popen[str]:
    """A command in a process group of its own that has done some pictures, and waits in the midst of the others."""
    make_pictures(place.source, 40)
    set_faults(monkeypatch, gated=["28.png"], gate=str(place.source / "never"))
    command = [sys.executable, "-c", RUN, "batch", place.source_url, place.target_url, "--workers", "1"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: (place.target / "18.sdc").exists() or child.poll() is not None)
    return child


def test_the_death_of_the_command_ends_its_workers_and_the_next_run_goes_on(
    place: Place, begun: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = psutil.Process(begun.pid).children(recursive=True)
    assert workers
    begun.kill()
    begun.communicate(timeout=TIMEOUT)
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    with pytest.raises(OSError, match="another run is writing"):  # which only who removes the lock can know better
        run(place.source_url, place.target_url, ENCODING, InlineEngine())
    set_faults(monkeypatch)
    assert not (place.target / "28.sdc").exists()
    progress = run(str(place.source), str(place.target), ENCODING, InlineEngine())
    assert progress.found >= 17
    assert progress.found + progress.pictures == 40
    place.check(40)


@pytest.mark.parametrize("to", list(Packing))
def test_a_full_disk_ends_the_command_with_a_line_and_the_next_run_goes_on(
    place: Place, to: Packing, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pictures(place.source, 40)
    set_faults(monkeypatch, full=["30.sdc", "000000.tar", "000000.parquet"])
    command = [sys.executable, "-c", RUN, "batch", place.source_url, place.target_url, "--workers", "1", "--to", to]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert ended.returncode == 1
    summary, line = ended.stderr.splitlines()
    count = len(files_of(place.target))
    assert summary.startswith(f"{count} pictures: ")
    assert line == (
        f"sdc: {place.target_url}: No space left on device; make room, and the same command goes on from here"
    )
    set_faults(monkeypatch)
    progress = run(place.source_url, place.target_url, ENCODING, InlineEngine(), to=to)
    assert (progress.found, progress.pictures, progress.failed) == (count, 40 - count, 0)


def test_pictures_are_reported_as_they_are_done_and_once(place: Place) -> None:
    make_pictures(place.source, 20)
    reports: list[tuple[int, int]] = []

    def report(progress: Progress) -> None:
        reports.append((progress.pictures, progress.done))

    progress = run(str(place.source), str(place.target), ENCODING, LocalEngine(2), report=report)
    pictures, done = ([report[part] for report in reports] for part in range(2))
    assert pictures == sorted(pictures)
    assert done == sorted(done)
    assert len(set(pictures)) > 10  # of two tasks
    assert (pictures[-1], done[-1]) == (20, progress.total)


def test_a_worker_ends_when_the_picture_at_hand_is_written_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    sections, events = CriticalSections(), list[str]()
    with sections.section():
        ending = threading.Thread(target=sections.end, args=[lambda: events.append("left")])
        ending.start()
        ending.join(0.1)
        events.append("reported")
    ending.join(TIMEOUT)
    assert events == ["reported", "left"]
    monkeypatch.setattr(local_engine, "SHUTDOWN_GRACE_SECONDS", 0.01)
    with sections.section():
        sections.end(lambda: events.append("left all the same"))
    assert events[-1] == "left all the same"


def test_an_interrupt_ends_with_code_130_and_the_next_run_goes_on(
    place: Place, begun: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = psutil.Process(begun.pid).children(recursive=True)
    os.killpg(begun.pid, signal.SIGINT)
    _, stderr = begun.communicate(timeout=TIMEOUT)
    assert begun.returncode == 130
    assert "Traceback" not in stderr
    assert stderr.splitlines()[-1] == "sdc: interrupted; what is done is done, and the same command goes on from here"
    count = len(files_of(place.target))
    assert 16 < count <= 28
    assert stderr.startswith(f"{count} pictures: ")
    until(lambda: not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers))
    assert len(rows_of(place.target)) == 16
    assert unfinished(place.target) == []
    set_faults(monkeypatch)
    other = replace(ENCODING, save_options={"quality": 20})
    progress = run(place.source_url, place.target_url, other, InlineEngine())
    assert (progress.found, progress.pictures) == (count, 40 - count)
    assert progress.made_with_other_options == {
        ENCODING.described(): count
    }  # those of which the manifest did not know, too
    place.check(40)
