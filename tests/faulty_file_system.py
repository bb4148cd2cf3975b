"""A file system of fsspec's, in folders of this machine, that has the faults which a test asks for.

``faulty://`` is like an object store: a file appears when it has been sent. ``renaming://`` is like a server of files:
a file is there, and grows, while it is sent, and can be renamed.

The environment variable ``FAULTS`` holds them in JSON, so that worker processes have them too; see :class:`Faults`.
"""

import errno
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem

VARIABLE = "FAULTS"
TIMEOUT = 60


@dataclass(frozen=True)
class Faults:
    """What goes wrong with files, by the ends of their names.

    Attributes:
        failing: How often reading or writing one fails before it works.
        deadly: Which ones reading kills the process.
        full: Which ones find the disk full when half of them is written.
        gated: Which ones wait, when they are read, until the file ``gate`` is there.
        gate: Path of that file.
    """

    failing: dict[str, int] = field(default_factory=dict)
    deadly: list[str] = field(default_factory=list)
    full: list[str] = field(default_factory=list)
    gated: list[str] = field(default_factory=list)
    gate: str = ""


def set_faults(monkeypatch: Any, **faults: Any) -> None:
    """Have file systems of this process, and of those that it starts, have faults."""
    monkeypatch.setenv(VARIABLE, json.dumps(faults))
    FaultyFileSystem.calls.clear()


def register(monkeypatch: Any, folder: Path) -> None:
    """Make the file systems known to fsspec, here and in processes that this one starts."""
    for kind in (FaultyFileSystem, RenamingFileSystem):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    about = folder / "faulty_file_system-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty-file-system\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[fsspec.specs]\nfaulty = faulty_file_system:FaultyFileSystem\n"
        "renaming = faulty_file_system:RenamingFileSystem\n"
    )
    monkeypatch.syspath_prepend(folder)  # which worker processes have from this one
    paths = [str(folder), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))  # and commands from here


class FaultyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    protocol = "faulty"
    calls: ClassVar = Counter[tuple[str, str]]()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix(f"{cls.protocol}://").rstrip("/") or "/"

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        folder = Path(self._strip_protocol(path))
        self._fail("list", str(folder))
        found = [self.info(str(one)) for one in ([folder] if folder.is_file() else sorted(folder.iterdir()))]
        return found if detail else [one["name"] for one in found]

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        about = Path(path).stat()
        kind = "directory" if Path(path).is_dir() else "file"
        return {"name": path, "size": about.st_size, "type": kind}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        path = self._strip_protocol(path)
        self._fail("read", path)
        return Path(path).read_bytes()[start:end]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        path = self._strip_protocol(path)
        self._fail("open", path)
        if mode == "rb":
            return _Reader(path)
        self._make_folder(path)
        return Path(path).open(mode)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        path = self._strip_protocol(path)
        self._fail("write", path)
        if mode == "create" and Path(path).exists():
            raise FileExistsError(path)
        self._receive(path, value)

    def put_file(self, lpath: str, rpath: str, mode: str = "overwrite", **options: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes(), mode)

    def rm_file(self, path: str) -> None:
        Path(self._strip_protocol(path)).unlink()

    def rm(self, path: str, recursive: bool = False, maxdepth: int | None = None) -> None:
        path = self._strip_protocol(path)
        if Path(path).is_dir():
            shutil.rmtree(path)
        else:
            Path(path).unlink()

    def _receive(self, path: str, value: bytes) -> None:
        if path.endswith(tuple(faults().full)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._make_folder(path)
        with tempfile.TemporaryDirectory() as beside:  # a process that is killed meanwhile leaves no half of the file
            whole = Path(beside, "whole")
            whole.write_bytes(value)
            shutil.move(whole, path)

    def _make_folder(self, path: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)

    def _fail(self, what: str, path: str) -> None:
        now = faults()
        self.calls[what, path] += 1
        if any(path.endswith(end) and self.calls[what, path] <= count for end, count in now.failing.items()):
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        if what in ("read", "open") and path.endswith(tuple(now.deadly)):
            os.kill(os.getpid(), signal.SIGKILL)
        if what in ("read", "open") and path.endswith(tuple(now.gated)):
            deadline = time.monotonic() + TIMEOUT
            while not Path(now.gate).exists() and time.monotonic() < deadline:
                time.sleep(0.01)


class RenamingFileSystem(FaultyFileSystem):
    protocol = "renaming"

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        Path(self._strip_protocol(path)).mkdir(parents=True, exist_ok=exist_ok)

    def mv(self, path1: str, path2: str, **options: Any) -> None:
        if Path(self._strip_protocol(path2)).exists():
            raise FileExistsError(path2)
        Path(self._strip_protocol(path1)).rename(self._strip_protocol(path2))

    def _receive(self, path: str, value: bytes) -> None:
        with Path(path).open("wb") as file:
            file.write(value[: len(value) // 2])
            if path.endswith(tuple(faults().full)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.write(value[len(value) // 2 :])

    def _make_folder(self, path: str) -> None:
        pass


class _Reader:
    """A file of which each block may fail to be read."""

    def __init__(self, path: str) -> None:
        self._path, self._file = path, Path(path).open("rb")  # noqa: SIM115 - closed by __exit__ or close

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        FaultyFileSystem._fail(FaultyFileSystem(), "block", self._path)
        return block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def faults() -> Faults:
    return Faults(**json.loads(os.environ.get(VARIABLE, "{}")))
