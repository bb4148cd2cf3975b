"""``sdc integrate``: has file managers of freedesktop.org's kind know ``.sdc`` files and show thumbnails of them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Annotated

import typer

from ..jobs.storage.writing import write_whole
from .arguments import Debug
from .messages import Failures, announce, misuse, say

EXAMPLES = """[bold]Examples[/]

[cyan]sdc integrate[/]

[cyan]sdc integrate --remove[/]"""

SOURCES = Path(__file__).parent.parent / "freedesktop"
"""Folder of the files that are installed."""

MIME_TYPE, THUMBNAILER = Path("mime", "packages", "pillow-sdc.xml"), Path("thumbnailers", "pillow-sdc.thumbnailer")
"""Where they go below the folder of the user's data."""

_SANDBOX = Path("/usr")
"""All that a thumbnailer of GNOME's sees of the file system."""

_UPDATE = "update-mime-database"


def integrate(
    remove: Annotated[bool, typer.Option("--remove", help="Take away what this command has installed.")] = False,
    debug: Debug = False,
) -> None:
    """Have file managers on Linux and BSD know .sdc files, and show thumbnails of them.

    For this user: a MIME type and a thumbnailer by the specifications of freedesktop.org, which GNOME, Xfce, MATE and
    Cinnamon read, go to [bold]~/.local/share[/], or where XDG_DATA_HOME says.
    """
    if sys.platform in ("win32", "darwin"):
        raise misuse("only file managers that follow the specifications of freedesktop.org can be integrated with")
    failures = Failures(debug)
    data = _data_home()
    with failures.of():
        if remove:
            _remove(data)
        else:
            _install(data, _command())
    failures.end()


def _data_home() -> Path:
    """Return the folder of the user's data; a relative one is to be ignored, says the XDG specification."""
    named = Path(os.environ.get("XDG_DATA_HOME", ""))
    return named if named.is_absolute() else Path.home() / ".local" / "share"


def _command() -> list[str]:
    """Return how this program is called, by absolute paths."""
    called = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "sdc" else None
    script = Path(called or Path(sysconfig.get_path("scripts"), "sdc")).absolute()
    return [str(script)] if script.is_file() else [sys.executable, "-m", "pillow_sdc"]


def _install(data: Path, command: list[str]) -> None:
    entry = (SOURCES / THUMBNAILER.name).read_text("utf-8")
    entry = entry.replace("TryExec=sdc", f"TryExec={_escaped(command[0])}")
    entry = entry.replace("Exec=sdc ", f"Exec={_escaped(' '.join(map(_quoted, command)))} ")
    write_whole(data / MIME_TYPE, (SOURCES / MIME_TYPE.name).read_bytes(), force=True)
    write_whole(data / THUMBNAILER, entry.encode(), force=True)
    for file in (MIME_TYPE, THUMBNAILER):
        announce(data / file)
    _update(data / "mime")
    if _SANDBOX not in Path(command[0]).parents:
        say(f"GNOME's own file manager runs thumbnailers that are in {_SANDBOX} alone, and {command[0]} is not")


def _remove(data: Path) -> None:
    files = [data / file for file in (MIME_TYPE, THUMBNAILER) if os.path.lexists(data / file)]
    for file in files:
        file.unlink()
        announce(file)
    if data / MIME_TYPE in files:
        _update(data / "mime")


def _update(folder: Path) -> None:
    """Have the database of MIME types made anew.

    Raises:
        OSError: That failed.
    """
    program = shutil.which(_UPDATE)
    if program is None:
        say(f"{_UPDATE} is not here; install shared-mime-info and run {_UPDATE} {folder}")
        return
    done = subprocess.run([program, str(folder)], capture_output=True, text=True)  # noqa: S603 - which we have found
    if done.returncode:
        raise OSError(f"{_UPDATE} {folder} failed: {done.stderr.strip()}")


def _quoted(argument: str) -> str:
    """Return an argument as the keys ``Exec`` of desktop entries have it."""
    argument = argument.replace("%", "%%")
    if re.fullmatch(r"[\w./%+,:=@-]+", argument):
        return argument
    return '"' + re.sub(r'(["`$\\\\])', r"\\\1", argument) + '"'


def _escaped(value: str) -> str:
    """Return a value as files of desktop entries have it."""
    return value.replace("\\", "\\\\")
