"""``sdc`` where its standard streams are closed, full, of another encoding, or read by nobody."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from locations import GOLDEN
from PIL import Image
from sdc_process import ENVIRONMENT
from small_runs import make_pictures

import pillow_sdc
from pillow_sdc.cli import doctor

TIMEOUT = 240
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp1251"}, C_LOCALE]
UNWRITABLE = {">&-": "Bad file descriptor", ">/dev/full": "No space left on device"}

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")


def sdc(
    redirections: str, *arguments: str | os.PathLike[str], python: tuple[str, ...] = (), **environment: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with its streams redirected as a shell does it."""
    command = [sys.executable, *python, "-m", "pillow_sdc", *arguments]
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {redirections}', "sh", *command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**ENVIRONMENT, **environment},
        timeout=TIMEOUT,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.sdc"
    shutil.copy(GOLDEN / "palette-rgb-200x150.sdc", path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "in", 1) / "00.png"


class TestEncodings:
    @pytest.mark.parametrize("environment", ENCODINGS, ids=lambda given: "-".join(given.values()))
    @pytest.mark.parametrize("arguments", [["info"], ["info", "--json"], ["view", "--force"]])
    def test_of_any_kind_let_commands_print(
        self, file: Path, arguments: list[str], environment: dict[str, str]
    ) -> None:
        done = sdc("", *arguments, file, **environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout

    @pytest.mark.parametrize("environment", ENCODINGS, ids=lambda given: "-".join(given.values()))
    @pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["models", "list"]])
    def test_of_any_kind_let_help_and_lists_be_printed(self, arguments: list[str], environment: dict[str, str]) -> None:
        done = sdc("", *arguments, **environment)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout

    def test_that_lack_a_character_have_one_like_it(self, file: Path) -> None:
        done = sdc("", "info", file, PYTHONIOENCODING="cp1251")
        assert b"  size     200x150, RGB\n" in done.stdout

    def test_do_not_make_the_doctor_say_that_decoding_fails(self) -> None:
        done = sdc("", "doctor", PYTHONIOENCODING="cp1251")
        assert done.returncode == 0
        assert "64x64 with compact: encoded in" in done.stdout.decode("cp1251")

    @pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="names of files are text there")
    @pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "utf-8"}, {"PYTHONIOENCODING": "cp1251"}])
    def test_names_of_files_that_are_no_text_are_printed_as_they_are(
        self, file: Path, environment: dict[str, str]
    ) -> None:
        strange = os.fsencode(file.parent) + b"/\xff\xe9.sdc"
        os.rename(file, strange)  # noqa: PTH104 - bytes
        done = sdc("", "view", os.fsdecode(strange), **environment)
        assert (done.returncode, done.stdout) == (0, strange.removesuffix(b".sdc") + b"-latents.png\n")
        again = sdc("", "view", os.fsdecode(strange), **environment)
        assert again.returncode == 1
        assert again.stderr.startswith(b"sdc: " + strange + b": ")


class TestStandardError:
    @pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "2>&- >&- <&-"])
    def test_that_cannot_be_written_prevents_no_encoding(self, photo: Path, redirection: str) -> None:
        photo.with_name("broken.png").write_bytes(b"nonsense")
        done = sdc(redirection, "encode", photo.parent)
        assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")
        assert pillow_sdc.info(photo.with_suffix(".sdc")).width == 24

    def test_that_nobody_reads_prevents_no_encoding(self, photo: Path) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        try:
            command = [sys.executable, "-m", "pillow_sdc", "encode", photo.with_name("missing.png"), photo]
            done = subprocess.run(command, stderr=writing, env=ENVIRONMENT, timeout=TIMEOUT)
        finally:
            os.close(writing)
        assert done.returncode == 1
        assert photo.with_suffix(".sdc").exists()

    @pytest.mark.parametrize("redirection", ["2>&- >&- <&-", "2>/dev/full"])
    def test_that_cannot_be_written_prevents_no_batch(self, photo: Path, tmp_path: Path, redirection: str) -> None:
        photo.with_name("notes.txt").write_bytes(b"left out")
        done = sdc(redirection, "batch", photo.parent, tmp_path / "out", "--workers", "1", PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        assert pillow_sdc.info(tmp_path / "out" / "00.sdc").width == 24

    def test_is_not_a_file_that_the_command_opens(self) -> None:
        program = "from pillow_sdc.cli import streams; streams.prepare(); print(open('/dev/null').fileno())"
        done = subprocess.run(
            ["/bin/sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", program],
            capture_output=True,
            check=True,
        )
        assert int(done.stdout) >= 3


class TestStandardOutput:
    @pytest.mark.parametrize("redirection", UNWRITABLE)
    @pytest.mark.parametrize(
        "arguments", [["info", GOLDEN / "palette-rgb-200x150.sdc"], ["--version"], ["view", "--help"]]
    )
    def test_that_cannot_be_written_is_an_error_where_the_result_goes_there(
        self, arguments: list[str], redirection: str
    ) -> None:
        for python in ((), ("-u",)):
            done = sdc(redirection, *arguments, python=python)
            assert done.returncode == 1
            assert done.stderr.decode() == f"sdc: standard output: {UNWRITABLE[redirection]}\n"

    @pytest.mark.parametrize("redirection", UNWRITABLE)
    def test_that_cannot_be_written_is_an_error_where_a_picture_goes_there(self, file: Path, redirection: str) -> None:
        done = sdc(redirection, "decode", file, "-o", "-")
        assert done.returncode == 1
        assert done.stderr.decode() == f"sdc: standard output: {UNWRITABLE[redirection]}\n"

    @pytest.mark.parametrize("redirection", UNWRITABLE)
    def test_that_cannot_be_written_does_not_matter_where_the_result_is_a_file(
        self, file: Path, redirection: str
    ) -> None:
        assert sdc(redirection, "view", file).returncode == 0
        assert file.with_name("photo-latents.png").exists()

    def test_that_breaks_off_is_not_what_the_doctor_looks_for(self) -> None:
        checks = doctor._Checks(debug=False)
        with pytest.raises(typer.Exit), checks.of("model"):
            raise typer.Exit(1)
        assert not checks.failed

    def test_carries_pictures_without_change(self, file: Path) -> None:
        done = sdc("", "decode", file, "-o", "-", python=("-u",), PYTHONIOENCODING="ascii")
        assert done.returncode == 0
        with Image.open(io.BytesIO(done.stdout)) as image:
            image.load()
            assert (image.format, image.size) == ("PNG", (200, 150))


def test_standard_input_that_is_closed_is_an_error() -> None:
    done = sdc("<&-", "encode", "-", "-q")
    assert (done.returncode, done.stderr) == (1, b"sdc: standard input: Bad file descriptor\n")
