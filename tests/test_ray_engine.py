"""Runs on a small Ray cluster of this machine, with workers that are killed."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import deadly_pictures
import pytest
from deadly_pictures import deadly
from PIL import Image
from small_runs import (
    ENCODING,
    SETTINGS,
    check_that_a_failed_shard_is_made_anew,
    files_of,
    make_pictures,
    members_of,
    picture,
    row_of,
    rows_of,
)
from typer.testing import CliRunner

import pillow_sdc
from pillow_sdc.cli import app
from pillow_sdc.errors import ModelUnavailableError
from pillow_sdc.jobs.executors.ray import MAX_WORKER_DEATHS, Pool, RayEngine
from pillow_sdc.jobs.runner import run
from pillow_sdc.jobs.tasks import Conversion

ray = pytest.importorskip("ray")

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",  # some releases of Ray leave their log files to the garbage collector
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::DeprecationWarning:ray",  # and some use what they themselves call deprecated
)

# Ctrl-C works here even where whoever runs the tests ignores it, as shells do for what runs in the background.
COMMAND = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from pillow_sdc.cli import app
app(prog_name="sdc")
"""
TIMEOUT = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """A cluster with room for two workers, to which this process is connected."""
    ray.cloudpickle.register_pickle_by_value(deadly_pictures)  # which workers do not find in their path
    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=80 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"worker_process_setup_hook": deadly_pictures.register},
    )
    yield
    ray.shutdown()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(process_group: int) -> bool:
    try:
        os.killpg(process_group, 0)
    except ProcessLookupError:
        return False
    return True


def contents_of(target: Path) -> dict[str, bytes]:
    return {name: (target / name).read_bytes() for name in files_of(target)}


def encoded(*numbers: int) -> dict[str, bytes]:
    images = {f"{number:02}.sdc": Image.open(io.BytesIO(picture(number))) for number in numbers}
    with pillow_sdc.configure(**SETTINGS):
        return {name: pillow_sdc.encode(image) for name, image in images.items()}


@pytest.mark.usefixtures("cluster")
def test_two_actors_write_what_encode_gives_and_a_second_run_finds_it_done(tmp_path: Path) -> None:
    source, target = make_pictures(tmp_path / "in", 40), tmp_path / "out"
    (source / "broken.png").write_bytes(b"no picture")
    (source / "truncated.png").write_bytes(picture()[:60])
    reports: list[int] = []
    engine = RayEngine(2)
    progress = run(str(source), str(target), ENCODING, engine, report=lambda progress: reports.append(progress.done))
    assert contents_of(target) == encoded(*range(40))
    assert (progress.pictures, progress.failed) == (40, 2)
    assert reports == sorted(reports)
    assert len(set(reports)) > 2  # not at first and at the end alone; how many there is time for depends on the machine
    rows = rows_of(target)
    assert sorted(row.source for row in rows) == sorted(map(str, source.iterdir()))
    assert {Path(row.source).name for row in rows if row.error} == {"broken.png", "truncated.png"}
    assert sorted(row.output for row in rows if row.output) == sorted(files_of(target))

    (source / "broken.png").unlink()
    (source / "truncated.png").unlink()
    again = run(str(source), str(target), ENCODING, engine)
    assert (again.total, again.pictures, again.found, again.failed) == (0, 0, 40, 0)


@pytest.mark.usefixtures("cluster")
def test_a_shard_of_which_a_picture_failed_is_made_anew(tmp_path: Path) -> None:
    check_that_a_failed_shard_is_made_anew(RayEngine(1), tmp_path)


@pytest.mark.usefixtures("cluster")
def test_tasks_of_killed_actors_are_done_again_and_what_always_kills_fails_alone(tmp_path: Path) -> None:
    source, target = make_pictures(tmp_path / "in", 20), tmp_path / "out"
    (source / "03.png").write_bytes(deadly(100, tmp_path / "always", b""))
    (source / "18.png").write_bytes(deadly(1, tmp_path / "once", picture(18)))
    progress = run(str(source), str(target), ENCODING, RayEngine(2))
    assert len(list((tmp_path / "once").iterdir())) == 1
    assert len(list((tmp_path / "always").iterdir())) == MAX_WORKER_DEATHS + 1
    assert progress.done == progress.total
    assert progress.failed == 1
    assert contents_of(target) == encoded(*(number for number in range(20) if number != 3))
    assert sorted(row.source for row in rows_of(target)) == sorted(map(str, source.iterdir()))
    error = row_of(target, "03.png").error
    assert error is not None
    assert error.startswith("its worker died")


@pytest.mark.usefixtures("cluster")
def test_the_command_packs_shards_by_workers_that_may_become_more(tmp_path: Path) -> None:
    source, target = make_pictures(tmp_path / "in", 5), tmp_path / "out"
    workers = ["--engine", "ray", "--workers", "1", "--max-workers", "2"]
    arguments = [*workers, "--to", "tar", "--shard-size", "2", "--model", "compact", "--device", "cpu"]
    result = CliRunner().invoke(app, ["batch", str(source), str(target), *arguments])
    assert result.exit_code == 0, result.output
    assert "5 pictures: " in result.stderr
    shards = contents_of(target)
    assert sorted(shards) == ["000000.tar", "000001.tar", "000002.tar"]
    members = {name: data for shard in shards.values() for name, data in members_of(shard).items()}
    assert members == encoded(*range(5))


def test_an_interrupt_ends_the_run_and_the_cluster_that_was_started_for_it(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    photo = Image.effect_mandelbrot((256, 256), (-2, -1.5, 1, 1.5), 50)
    for number in range(500):
        photo.save(source / f"{number:03}.png", compress_level=1)
    child = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "batch", source, target, "--engine", "ray", "--workers", "1"],
        env={**os.environ, "PILLOW_SDC_MODEL": "compact", "RAY_ADDRESS": "local"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until(lambda: any(target.glob("*.sdc")) or child.poll() is not None)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=TIMEOUT)
    assert child.returncode == 130
    summary, message = errors.splitlines()  # and not a line of Ray's own
    assert 0 < int(summary.partition(" ")[0]) <= len(list(target.glob("*.sdc"))) < 500
    assert message.startswith("sdc: interrupted; ")
    until(lambda: not is_alive(child.pid))


@pytest.mark.usefixtures("cluster")
def test_a_model_that_is_not_there_ends_the_run_with_its_error(tmp_path: Path) -> None:
    source = make_pictures(tmp_path / "in", 1)
    conversion = Conversion(decode=False, settings={"model": str(tmp_path / "nowhere")})
    with pytest.raises(ModelUnavailableError, match="nowhere"):
        run(str(source), str(tmp_path / "out"), conversion, RayEngine(1))


@pytest.mark.parametrize(
    ("engine", "device", "resources", "pool"),
    [
        (RayEngine(), "auto", {"CPU": 8.0}, Pool(8, 8, 0, "cpu")),
        (RayEngine(), "auto", {"CPU": 8.0, "GPU": 2.0}, Pool(2, 2, 1, "cuda")),
        (RayEngine(gpus_per_worker=0.3), "cuda:1", {"CPU": 8.0, "GPU": 2.0}, Pool(6, 6, 0.3, "cuda")),
        (RayEngine(gpus_per_worker=0.25), "auto", {"CPU": 8.0}, Pool(1, 1, 0.25, "cuda")),
        (RayEngine(gpus_per_worker=0), "auto", {"CPU": 8.0, "GPU": 2.0}, Pool(8, 8, 0, "cpu")),
        (RayEngine(), "cpu", {"CPU": 8.0, "GPU": 2.0}, Pool(8, 8, 0, "cpu")),
        (RayEngine(), "cuda", {"CPU": 8.0}, Pool(8, 8, 0, "cuda")),
        (RayEngine(3), "auto", {"CPU": 8.0}, Pool(3, 3, 0, "cpu")),
        (RayEngine(3, max_workers=100), "auto", {"CPU": 8.0}, Pool(3, 100, 0, "cpu")),
        (RayEngine(max_workers=100), "auto", {"CPU": 8.0}, Pool(8, 100, 0, "cpu")),
        (RayEngine(max_workers=4), "auto", {"CPU": 8.0}, Pool(4, 4, 0, "cpu")),
        (RayEngine(max_workers=4), "auto", {}, Pool(1, 4, 0, "cpu")),
        (RayEngine(), "auto", {}, Pool(1, 1, 0, "cpu")),
    ],
)
def test_workers_are_as_many_as_the_cluster_has_room_for(
    engine: RayEngine, device: str, resources: dict[str, float], pool: Pool
) -> None:
    assert engine.pool(resources, device) == pool


def test_workers_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="max_workers is 2; it must be at least 3"):
        RayEngine(3, max_workers=2)
    with pytest.raises(ValueError, match=r"gpus_per_worker is 1\.5; it must be from 0 to 1"):
        RayEngine(gpus_per_worker=1.5)
    with pytest.raises(ValueError, match=r"gpus_per_worker is 0\.5, but the device is cpu"):
        RayEngine(gpus_per_worker=0.5).pool({"GPU": 1.0}, "cpu")
