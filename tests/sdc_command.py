"""``sdc``, called in this process."""

import os
from pathlib import Path

from typer.testing import CliRunner, Result

from pillow_sdc.cli import app


def sdc(*args: str | os.PathLike[str], stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, [os.fspath(arg) for arg in args], input=stdin)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
