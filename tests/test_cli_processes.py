"""``sdc`` as a process of its own: pipes, exit codes, Ctrl-C, terminals, and disks that are full."""

import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from locations import GOLDEN
from PIL import Image
from sdc_process import ENVIRONMENT, TIMEOUT, command, on_a_terminal

import pillow_sdc
from pillow_sdc.jobs.storage.writing import undisturbed, write_whole

NO_FILE_OVER_1000_BYTES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    samples = random.Random(0).randbytes(64 * 64 * 3)
    Image.frombytes("RGB", (64, 64), samples).resize((256, 256)).save(path)
    return path


def test_pipes_carry_pictures_both_ways(photo: Path) -> None:
    with photo.open("rb") as file:
        encoding = subprocess.Popen(command("encode", "-"), stdin=file, stdout=subprocess.PIPE, env=ENVIRONMENT)
    done = subprocess.run(
        command("decode", "-", "-o", "-"), stdin=encoding.stdout, capture_output=True, env=ENVIRONMENT, timeout=TIMEOUT
    )
    assert encoding.stdout is not None
    encoding.stdout.close()
    assert encoding.wait(TIMEOUT) == 0
    assert done.returncode == 0
    assert done.stderr.startswith(b"standard output: ")
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert (image.format, image.size) == ("PNG", (256, 256))


@pytest.fixture
def traps(tmp_path: Path) -> Path:
    """A folder of packages that leave a file behind when they are imported."""
    folder = tmp_path / "traps"
    for name in ("torch", "diffusers", "transformers"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"import pathlib, sys; (pathlib.Path({str(folder)!r}) / '{name}.imported').write_text(str(sys.argv))"
        )
    return folder


@pytest.mark.parametrize("model", ["compact", "auto"])
def test_neither_commands_nor_workers_import_torch_where_the_embedded_model_does_the_work(
    photo: Path, traps: Path, model: str
) -> None:
    path = os.pathsep.join(filter(None, [str(traps), os.environ.get("PYTHONPATH", str(Path(__file__).parent.parent))]))
    variables = {"PYTHONPATH": path, "HF_HOME": str(photo.parent / "hf"), "CUDA_VISIBLE_DEVICES": ""}
    environment = ENVIRONMENT | variables | {"PILLOW_SDC_MODEL": model}
    file, source, coded = photo.with_suffix(".sdc"), photo.parent / "source", photo.parent / "coded"
    source.mkdir()
    for number in range(2):
        shutil.copy(photo, source / f"{number}.png")
    commands = [
        ["encode", photo],
        ["info", file],
        ["decode", file, "-o", photo.with_name("decoded.png")],
        ["view", file, "-o", photo.with_name("sheet.png")],
        ["batch", source, coded, "--workers", "2"],
        ["batch", coded, photo.parent / "pixels", "--decode", "--workers", "2"],
    ]
    for arguments in commands:
        subprocess.run(command(*arguments), env=environment, capture_output=True, check=True, timeout=TIMEOUT)
    assert [trap.read_text() for trap in traps.glob("*.imported")] == []
    probe = [sys.executable, "-c", "import torch; print(torch.__file__)"]
    found = subprocess.run(probe, env=environment, capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
    assert Path(found.strip()).parent == traps / "torch"  # where the commands would have found it, too


@pytest.mark.parametrize("arguments", [["encode", "photo.png"], ["decode", "photo.sdc", "-o", "new.png"]])
def test_single_files_need_neither_stores_nor_tables_nor_processes(photo: Path, arguments: list[str]) -> None:
    with pillow_sdc.configure(model="compact"):
        photo.with_suffix(".sdc").write_bytes(pillow_sdc.encode(photo))
    first = "import atexit, sys; atexit.register(lambda: print(*sys.modules))"
    done = subprocess.run(
        command(*arguments, "-q", "-f", first=first),
        cwd=photo.parent,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert "onnxruntime" in loaded
    assert not loaded & {"fsspec", "pyarrow", "tenacity", "filelock", "multiprocessing", "ray", "tarfile"}
    assert not list(photo.parent.rglob("_manifest"))


def test_a_reader_that_has_gone_is_no_reason_for_a_traceback() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = command("info", GOLDEN / "palette-l-1x1.sdc")
    done = subprocess.run(arguments, stdout=writing, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=TIMEOUT)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_an_interrupt_leaves_whole_files_only_and_ends_with_code_130(photo: Path) -> None:
    sources = photo.parent / "in"
    sources.mkdir()
    for number in range(300):
        shutil.copy(photo, sources / f"{number:03}.png")
    target = photo.parent / "out"
    child = subprocess.Popen(
        command("encode", sources, "-o", target), stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    until(lambda: (target / "001.sdc").exists() or child.poll() is not None)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=TIMEOUT)
    assert child.returncode == 130
    assert "Traceback" not in stderr
    assert re.fullmatch(r"sdc: interrupted; \d+ of 300 files were not done", stderr.splitlines()[-1])
    written = sorted(target.iterdir())
    assert 2 <= len(written) < 300
    assert f"{len(written)} files in {target}/: " in stderr
    for path in written:
        assert path.suffix == ".sdc"
        Image.open(path).verify()


def test_an_interrupt_while_it_waits_for_input_ends_with_code_130(photo: Path) -> None:
    pipe = photo.parent / "pipe"
    os.mkfifo(pipe)
    child = subprocess.Popen(command("encode", "-"), stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert child.stdin is not None
    child.stdin.write(photo.read_bytes()[:100])
    child.stdin.flush()
    until(lambda: is_reading_a_pipe(child.pid) or child.poll() is not None)
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=TIMEOUT)
    assert child.returncode == 130
    assert b"Traceback" not in stderr


def is_reading_a_pipe(process: int) -> bool:
    try:
        return "pipe" in Path(f"/proc/{process}/wchan").read_text("ascii")
    except OSError:
        return True


def test_a_disk_that_is_full_leaves_nothing_and_what_was_there_untouched(tmp_path: Path) -> None:
    source, old = tmp_path / "photo.sdc", tmp_path / "sheet.png"
    shutil.copy(GOLDEN / "palette-rgb-200x150.sdc", source)
    old.write_bytes(b"old")
    done = subprocess.run(
        command("view", source, "-o", old, "--force", first=NO_FILE_OVER_1000_BYTES),
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=TIMEOUT,
    )
    assert done.returncode == 1
    assert done.stderr == f"sdc: {source}: cannot write {old}: File too large\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.sdc", "sheet.png"]
    assert old.read_bytes() == b"old"


def test_an_interrupt_while_a_file_is_written_comes_after_it(tmp_path: Path) -> None:
    def write_and_be_interrupted() -> None:
        with undisturbed():
            signal.raise_signal(signal.SIGINT)
            write_whole(tmp_path / "a.sdc", b"whole", force=False)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            write_and_be_interrupted()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.sdc"]


def test_a_terminal_gets_a_progress_bar(photo: Path) -> None:
    code, output = on_a_terminal(command("encode", photo))
    assert code == 0
    assert "1/1" in output
    assert "bytes saved" in output
    assert pillow_sdc.info(photo.with_suffix(".sdc")).width == 256


def test_a_terminal_gets_errors_alone_where_it_is_to_be_quiet(photo: Path) -> None:
    code, output = on_a_terminal(command("encode", photo.with_name("missing.png"), "--quiet"))
    assert code == 1
    assert output == f"sdc: {photo.with_name('missing.png')}: No such file or directory\r\n"


def test_pictures_are_not_written_to_a_terminal(photo: Path) -> None:
    code, output = on_a_terminal(command("encode", photo, "-o", "-"))
    assert code == 2
    assert output.startswith("sdc: a picture is not written to a terminal")


def test_a_picture_that_goes_into_a_pipe_gets_no_bar(photo: Path, tmp_path: Path) -> None:
    with (tmp_path / "piped.sdc").open("wb") as file:
        code, output = on_a_terminal(command("encode", photo, "-o", "-"), stdout=file)
    assert code == 0
    assert re.fullmatch(r"standard output: [^\n]*\r\n", output)
    assert pillow_sdc.info(tmp_path / "piped.sdc").width == 256
