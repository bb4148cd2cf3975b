"""``sdc integrate``: MIME type and thumbnailer for file managers, in a user's folder that is made for the test."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from locations import GOLDEN
from PIL import Image
from sdc_command import names, sdc

from pillow_sdc.cli import integrate
from pillow_sdc.format.container import SIGNATURE

FILES = ["mime/packages/pillow-sdc.xml", "thumbnailers/pillow-sdc.thumbnailer"]

pytestmark = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is no freedesktop here")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "the user's data"
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    return folder


@pytest.fixture
def without_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have shared-mime-info not installed."""
    monkeypatch.setattr(shutil, "which", lambda program: None)


@pytest.mark.usefixtures("without_database")
def test_two_files_are_installed_and_taken_away_again(data: Path) -> None:
    for _ in range(2):
        result = sdc("integrate")
        assert result.exit_code == 0
        assert names(data) == FILES
        assert result.stdout.splitlines() == [str(data / name) for name in FILES]
        assert f"update-mime-database is not here; install shared-mime-info and run update-mime-database {data}" in (
            result.stderr
        )
    (data / "mime" / "packages" / "other.xml").touch()
    result = sdc("integrate", "--remove")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [str(data / name) for name in FILES]
    assert names(data) == ["mime/packages/other.xml"]
    result = sdc("integrate", "--remove")
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.usefixtures("without_database")
@pytest.mark.parametrize("named", ["", "relative"])
def test_the_usual_folder_is_in_the_home(named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", named)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sdc("integrate").exit_code == 0
    assert names(tmp_path) == [f".local/share/{name}" for name in FILES]


def test_the_mime_type_has_the_formats_own_signature() -> None:
    (kind,) = ElementTree.parse(integrate.SOURCES / "pillow-sdc.xml").getroot()  # noqa: S314 - it is ours
    inside = {re.sub("{.*}", "", element.tag): element for element in kind.iter()}
    assert kind.get("type") == "image/x-sdc"
    assert inside["glob"].get("pattern") == "*.sdc"
    value = inside["match"].get("value") or ""
    assert value.encode().decode("unicode_escape").encode("latin-1") == SIGNATURE
    assert inside["match"].get("offset") == "0"


@pytest.mark.skipif(shutil.which("update-mime-database") is None, reason="shared-mime-info is not installed")
def test_the_database_knows_the_type(data: Path) -> None:
    assert sdc("integrate").exit_code == 0
    assert "50:image/x-sdc:*.sdc" in (data / "mime" / "globs2").read_text().splitlines()
    assert b"image/x-sdc" in (data / "mime" / "magic").read_bytes()
    assert sdc("integrate", "--remove").exit_code == 0
    assert "image/x-sdc" not in (data / "mime" / "globs2").read_text()


@pytest.mark.skipif(
    shutil.which("update-mime-database") is None or shutil.which("gio") is None, reason="gio is not installed"
)
def test_programs_know_the_type_of_files(data: Path, tmp_path: Path) -> None:
    assert sdc("integrate").exit_code == 0
    for name in ("photo.sdc", "nameless"):
        path = tmp_path / name
        path.write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes())
        command = ["gio", "info", "-a", "standard::content-type", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.split("content-type: ")[1].strip() == "image/x-sdc"


def run_entry(file: Path, source: Path, output: Path, size: int) -> subprocess.CompletedProcess[str]:
    """Run a thumbnailer as its specification says: the codes of its command replaced, without a shell."""
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[method-assign, assignment]
    parser.read(file, "utf-8")
    entry = parser["Thumbnailer Entry"]
    assert entry["MimeType"] == "image/x-sdc;"
    unescaped = {name: value.replace("\\\\", "\\") for name, value in entry.items()}
    assert os.access(unescaped["TryExec"], os.X_OK)
    codes = {"%s": str(size), "%u": source.as_uri(), "%i": str(source), "%o": str(output), "%%": "%"}
    words = [
        re.sub(r'\\(["`$\\])', r"\1", quoted) if quoted else plain
        for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^" ]+)', unescaped["Exec"])
    ]
    command = [re.sub("%[suio%]", lambda match: codes[match[0]], word) for word in words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("without_database")
@pytest.mark.parametrize("name", ["sdc", 'a b"$`\\%s'])
def test_the_thumbnailer_makes_a_thumbnail(
    name: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    script = folder / "sdc"
    script.write_text(f"#!{sys.executable}\nfrom pillow_sdc.cli import app\napp()\n")
    script.chmod(0o755)
    monkeypatch.setattr(integrate, "_command", lambda: [str(script)])
    assert sdc("integrate").exit_code == 0
    source = tmp_path / "ein Bild ä.sdc"
    source.write_bytes((GOLDEN / "palette-rgb-200x150.sdc").read_bytes())
    done = run_entry(data / FILES[1], source, tmp_path / "small.png", 100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Image.open(tmp_path / "small.png") as small:
        assert small.size == (100, 75)
    source.write_bytes(source.read_bytes()[:-1])
    done = run_entry(data / FILES[1], source, tmp_path / "other.png", 100)
    assert done.returncode == 1
    assert not (tmp_path / "other.png").exists()


def test_the_command_is_the_one_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "sdc"
    script.touch(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert integrate._command() == [str(script)]
    monkeypatch.setattr(sys, "argv", ["/nowhere/__main__.py"])
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path))
    assert integrate._command() == [str(script)]
    script.unlink()
    assert integrate._command() == [sys.executable, "-m", "pillow_sdc"]


@pytest.mark.usefixtures("without_database")
def test_gnomes_sandbox_is_mentioned_where_it_matters(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, matters in (("/usr/bin/sdc", False), ("/srv/tools/bin/sdc", True)):
        monkeypatch.setattr(integrate, "_command", lambda command=command: [command])
        assert ("GNOME" in sdc("integrate").stderr) == matters


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_elsewhere_it_is_refused_in_a_sentence(platform: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrate.sys, "platform", platform)
    result = sdc("integrate")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert not data.exists()


def test_a_database_that_cannot_be_made_is_an_error(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "update-mime-database"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    result = sdc("integrate")
    assert result.exit_code == 1
    assert f"sdc: update-mime-database {data / 'mime'} failed: broken" in result.stderr
