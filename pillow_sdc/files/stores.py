"""Folders of files, on this machine or wherever fsspec reaches: in object stores, archives, on other machines."""

import errno
import glob
import os
import posixpath
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from .writing import write_whole

Result = TypeVar("Result")

ATTEMPTS = 5
LONGEST_WAIT = 30.0
"""Seconds between two attempts; the first waits are up to 1, 2 and 4 seconds."""

FINAL = FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError, NotImplementedError
FINAL_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ENAMETOOLONG}
"""Errors that another attempt would not get around."""


class Entry(NamedTuple):
    """A file: its path below the store's root, with ``/`` between its parts, and its size in bytes."""

    path: str
    size: int


class Store:
    """A folder of files.

    What fails is tried again, with growing pauses, unless that is pointless. Files appear whole or not at all.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        """Take a path, or a URL such as ``s3://bucket/folder``.

        Raises:
            ValueError: fsspec does not know the URL's protocol.
            ImportError: What the protocol needs is not installed.
        """
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        self._files, root = url_to_fs(os.fspath(url))
        self._root: str = root.rstrip("/")
        self.folder = Path(root) if isinstance(self._files, LocalFileSystem) else None
        """Where it is on this machine, if it is here."""
        self.url = self._root if self.folder is not None else os.fspath(url).rstrip("/")
        """Where it is, a path being absolute."""

    def __str__(self) -> str:
        return self.url or "/"

    def url_of(self, path: str) -> str:
        """Return what the user would call a file."""
        return f"{self.url}/{path}"

    def find(self, below: str = "") -> list[Entry]:
        """Return the files in a sub-folder and in those within it, by name; none if there is no such folder.

        Raises:
            OSError: The folder cannot be read.
        """
        found = self._patiently(lambda: self._files.find(self._full(below), detail=True))
        return self._entries(found)

    def glob(self, pattern: str) -> list[Entry]:
        """Return the files whose paths match a pattern, by name.

        Raises:
            OSError: A folder cannot be read.
        """
        found = self._patiently(lambda: self._files.glob(self._full(pattern), detail=True))
        return self._entries({path: about for path, about in found.items() if about["type"] != "directory"})

    def entry(self, path: str) -> Entry | None:
        """Return a file's path and size; ``None`` if there is no such file."""
        try:
            about = self._patiently(lambda: self._files.info(self._full(path)))
        except FileNotFoundError:
            return None
        return Entry(path, about["size"] or 0) if about["type"] == "file" else None

    def exists(self, path: str) -> bool:
        """Tell whether there is such a file."""
        return self.entry(path) is not None

    def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
            OSError: It cannot be read.
        """
        content: bytes = self._patiently(lambda: self._files.cat_file(self._full(path)))
        return content

    @contextmanager
    def opened(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for reading.

        Raises:
            OSError: It cannot be opened.
        """
        with self._patiently(lambda: self._files.open(self._full(path), "rb")) as file:
            yield file

    def write(self, path: str, data: bytes, *, overwrite: bool, through: str | None = None) -> None:
        """Write a file.

        Args:
            path: Where to.
            data: Its content.
            overwrite: Whether there may be one already.
            through: Sub-folder for what is not yet whole; beside the file unless given.

        Raises:
            FileExistsError: There is one, and it may not be overwritten.
            OSError: It cannot be written.
        """
        if self.folder is not None:
            target, beside = self.folder / path, None if through is None else self.folder / through
            self._patiently(lambda: write_whole(target, data, overwrite, beside))
            return
        self._check_absent(path, overwrite)
        self._patiently(lambda: self._files.pipe_file(self._full(path), data))  # object stores show whole files only

    @contextmanager
    def written(self, path: str, *, overwrite: bool, through: str) -> Iterator[tuple[Path, Callable[[], None]]]:
        """Give a path on this machine to write a large file to, and what to call when that is done.

        Args:
            path: Where the file is to be.
            overwrite: Whether there may be one already.
            through: Sub-folder for what is not yet whole.

        Raises:
            FileExistsError: There is one, and it may not be overwritten.
            OSError: It cannot be written.
        """
        beside = None if self.folder is None else self.folder / through
        if beside is not None:
            beside.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="sdc-", dir=beside, ignore_cleanup_errors=True) as folder:
            temporary = Path(folder, posixpath.basename(path))
            yield temporary, lambda: self._publish(temporary, path, overwrite)

    def remove(self, path: str) -> None:
        """Remove a file or a sub-folder, if there is one."""
        if self.folder is not None and (self.folder / path).is_dir():
            shutil.rmtree(self.folder / path)
        elif self._files.exists(self._full(path)):
            self._files.rm(self._full(path), recursive=True)

    def create(self, path: str, data: bytes) -> None:
        """Write a small file that must not be there yet, at once; of several that try, one succeeds.

        Raises:
            FileExistsError: It is there.
            OSError: It cannot be written.
        """
        try:
            with self._files.open(self._full(path), "xb") as file:
                file.write(data)
        except (NotImplementedError, ValueError):  # a file system that cannot promise it
            self._check_absent(path, overwrite=False)
            self._files.pipe_file(self._full(path), data)

    def _publish(self, temporary: Path, path: str, overwrite: bool) -> None:
        if self.folder is None:
            self._check_absent(path, overwrite)
            self._patiently(lambda: self._files.put_file(str(temporary), self._full(path)))
            return
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        self._check_absent(path, overwrite)
        temporary.replace(target)

    def _check_absent(self, path: str, overwrite: bool) -> None:
        if not overwrite and self.exists(path):
            raise FileExistsError(f"{self.url_of(path)} exists already")

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root or "/"

    def _entries(self, found: dict[str, dict[str, Any]]) -> list[Entry]:
        start = len(self._root) + 1
        return [Entry(path[start:], about["size"] or 0) for path, about in sorted(found.items())]

    def _patiently(self, act: Callable[[], Result]) -> Result:
        """Do something that a network may prevent for a while."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        attempts = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(max=LONGEST_WAIT),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        return attempts(act)


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, FINAL) or not isinstance(error, Exception):
        return False
    return not (isinstance(error, OSError) and error.errno in FINAL_NUMBERS)


def found(source: str) -> tuple[Store, list[Entry]]:
    """Return what a user means by a folder, a file or a pattern, by path or URL: the store, and which files in it.

    Raises:
        FileNotFoundError: There is nothing.
        OSError: It cannot be read.
        ValueError: fsspec does not know the URL's protocol.
        ImportError: What the protocol needs is not installed.
    """
    if "://" not in source:
        source = Path(source).as_posix()
    root, _, name = source.rstrip("/").rpartition("/")
    if name and not root.endswith(":/"):
        store = Store(root or ("/" if source.startswith("/") else "."))
        if (entry := store.entry(name)) is not None:
            return store, [entry]
    if not glob.has_magic(source):
        if not (entries := (store := Store(source)).find()):
            raise FileNotFoundError(f"{source}: no such file or folder, or nothing is in it")
        return store, entries
    while glob.has_magic(root):
        root = root.rpartition("/")[0]
    store = Store(root or ("/" if source.startswith("/") else "."))
    if not (entries := store.glob(source[len(root) :].lstrip("/"))):
        raise FileNotFoundError(f"nothing matches {source}")
    return store, entries
