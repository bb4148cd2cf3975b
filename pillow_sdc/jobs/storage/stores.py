"""Folders of files, on this machine or wherever fsspec reaches: in object stores, archives, on other machines."""

import errno
import functools
import glob
import inspect
import io
import os
import posixpath
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from ...runtime.fork_safety import ForkSafeLock
from .listing import ALL, Entry, Pattern, depth_of, entries_of, list_files, matches, split_pattern
from .writing import exists_already, give_name, write_whole

Result = TypeVar("Result")

MAX_ATTEMPTS = 5
"""The number of attempts at what may fail for a while, such as reading over a network."""

MAX_WAIT_SECONDS = 30.0
"""Seconds between two attempts, at most; the first waits are up to 1, 2 and 4 seconds."""

FINAL_ERRORS = (
    *(FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError),
    *(ArithmeticError, AttributeError, ImportError, LookupError, MemoryError, NotImplementedError),
    *(TypeError, ValueError),
)
FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ENAMETOOLONG}
"""Errors that another attempt would not get around."""

READ_AHEAD_BYTES = 1 << 20
"""Bytes that are read at a time, at least, of a file that is not on this machine."""

Send = Callable[..., None]
"""Sends a file to a full path; given ``mode="create"``, only where none is."""

_TURN = ForkSafeLock()
"""Held by the thread that reads an archive, or from an FTP server."""


class Store:
    """A folder of files.

    What fails is tried again, with growing pauses, unless that is pointless. Files appear whole or not at all: object
    stores show no others, and elsewhere files get their names when they are whole.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        """Open a path, or a URL such as ``s3://bucket/folder``.

        Raises:
            ValueError: fsspec does not know the URL's protocol.
            ImportError: What the protocol needs is not installed.
        """
        from fsspec import AbstractFileSystem
        from fsspec.asyn import AsyncFileSystem
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        url = os.fspath(url)
        self._files, root = url_to_fs(url) if "://" in url else (LocalFileSystem(), url)
        self.folder = _absolute(root) if isinstance(self._files, LocalFileSystem) else None
        """Where it is on this machine, if it is here."""
        self._root: str = (root if self.folder is None else self.folder.as_posix()).rstrip("/")
        self.url = re.sub("(?<![:/])/+$", "", url) if self.folder is None else self._root
        """Where it is, a path being absolute."""
        kind = type(self._files)
        find = kind._find if issubclass(kind, AsyncFileSystem) else kind.find
        self._finds = find not in (AbstractFileSystem.find, AsyncFileSystem._find)
        """Whether the file system lists all below a folder at once, as object stores do."""
        self._renames = kind.mv is not AbstractFileSystem.mv
        """Whether it is one of those that may be left with half a file, and can rename files."""
        self._creates = not self._renames and all(_takes_mode(kind, name) for name in ("pipe_file", "put_file"))
        """Whether it can be asked to write a file only where none is."""
        self._takes_turns = _takes_turns(self._files)

    def __str__(self) -> str:
        return self.url or "/"

    def url_of(self, path: str) -> str:
        """Return what the user would call a file."""
        return f"{self.url}{'' if self.url.endswith('/') else '/'}{path}"

    def find(self, below: str = "", pattern: Pattern = ALL) -> list[Entry]:
        """Return the files in a sub-folder and in those within it, by name; none if there is no such folder.

        Args:
            below: The sub-folder.
            pattern: Matches their paths below it.

        Raises:
            OSError: A folder cannot be read.
        """
        if self.folder is not None:
            entries = list_files(str(self.folder / below), pattern, self._entries_of)
        else:
            self._files.invalidate_cache()
            root = self._full(below)
            files = self._below(root, depth_of(pattern))
            named = sorted((_name(about).removeprefix(root).lstrip("/"), about["size"] or 0) for about in files)
            entries = [Entry(path, size) for path, size in named if matches(path, pattern)]
        return [entry._replace(path=posixpath.join(below, entry.path)) for entry in entries]

    def entry(self, path: str) -> Entry | None:
        """Return a file's path and size; ``None`` if there is no such file."""
        try:
            about = self._with_retries(lambda: self._files.info(self._full(path)))
        except (FileNotFoundError, NotADirectoryError):
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
        content: bytes = self._with_retries(lambda: self._files.cat_file(self._full(path)))
        return content

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """Open a file for reading; it is seekable.

        Raises:
            OSError: It cannot be opened.
        """
        open_it = functools.partial(self._files.open, self._full(path), "rb")
        if self.folder is not None:
            with self._with_retries(open_it) as file:
                yield file
            return
        with io.BufferedReader(_Resumed(open_it, self._with_retries), READ_AHEAD_BYTES) as file:
            yield file

    def write(self, path: str, data: bytes, *, overwrite: bool, through: str) -> None:
        """Write a file.

        Args:
            path: Where to.
            data: Its content.
            overwrite: Whether there may be one already.
            through: Sub-folder for what is not yet whole.

        Raises:
            FileExistsError: There is one, and it may not be overwritten.
            OSError: It cannot be written.
        """
        if self.folder is not None:
            target, beside = self.folder / path, self.folder / through
            self._with_retries(lambda: write_whole(target, data, overwrite, beside))
        else:
            self._send(path, io.BytesIO(data), overwrite, through, self._sending(data))

    @contextmanager
    def written(self, path: str, *, overwrite: bool, through: str) -> Iterator[tuple[Path, Callable[[], None]]]:
        """Yield a path on this machine to write a large file to, and a function to call when that is done.

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
            yield temporary, lambda: self._publish(temporary, path, overwrite, through)

    def remove(self, path: str) -> None:
        """Remove a file or a sub-folder, if there is one.

        Raises:
            OSError: It cannot be removed.
        """
        with suppress(FileNotFoundError):
            if self.folder is None:
                self._with_retries(lambda: self._files.rm(self._full(path), recursive=True))
            elif (self.folder / path).is_dir():
                shutil.rmtree(self.folder / path)
            else:
                (self.folder / path).unlink()

    def create(self, path: str, data: bytes) -> None:
        """Write a small file that must not be there yet; of several that try, each with other data, one succeeds.

        Raises:
            FileExistsError: It is there.
            OSError: It cannot be written.
        """
        self._make_folder_of(path)
        if not self._renames and self.folder is None:
            self._send_new(path, io.BytesIO(data), self._sending(data))
            return

        def create() -> None:
            with self._files.open(self._full(path), "xb") as file:
                file.write(data)

        self._first(path, io.BytesIO(data), create)

    def _sending(self, data: bytes) -> Send:
        return lambda full, **options: self._files.pipe_file(full, data, **options)

    def _publish(self, temporary: Path, path: str, overwrite: bool, through: str) -> None:
        if self.folder is not None:
            self._make_folder_of(path)
            give_name(temporary, self.folder / path, overwrite)
            return
        with temporary.open("rb") as content:
            self._send(path, content, overwrite, through, functools.partial(self._files.put_file, str(temporary)))

    def _send(self, path: str, content: IO[bytes], overwrite: bool, through: str, send: Send) -> None:
        """Write a file that is not on this machine."""
        if not self._renames:
            if overwrite:
                self._with_retries(lambda: send(self._full(path)))
            else:
                self._send_new(path, content, send)
            return
        self._check_absent(path, overwrite)  # renaming may refuse it, too, or not
        temporary = f"{through}/{secrets.token_hex(8)}-{posixpath.basename(path)}"
        for one in (temporary, path):
            self._make_folder_of(one)
        try:
            self._with_retries(lambda: send(self._full(temporary)))
            if overwrite:
                self.remove(path)
            self._with_retries(lambda: self._files.mv(self._full(temporary), self._full(path)))
        except BaseException:
            with suppress(Exception):
                self.remove(temporary)
            raise

    def _send_new(self, path: str, content: IO[bytes], send: Send) -> None:
        """Write a file that must not be there yet; where the store cannot be asked for that, it is looked at before."""
        if self._creates:
            self._first(path, content, lambda: send(self._full(path), mode="create"))
        else:
            self._check_absent(path, overwrite=False)
            self._with_retries(lambda: send(self._full(path)))

    def _first(self, path: str, content: IO[bytes], create: Callable[[], None]) -> None:
        """Do what writes a file with some content only where none is.

        Raises:
            FileExistsError: There is one, and it is not ours, by an attempt that seemed to fail.
        """
        try:
            self._with_retries(create)
        except FileExistsError:
            if not self._holds(path, content):
                raise exists_already(self.url_of(path)) from None

    def _holds(self, path: str, content: IO[bytes]) -> bool:
        """Tell whether a file has this content."""
        with self.open(path) as file:
            while (block := file.read(READ_AHEAD_BYTES)) == content.read(READ_AHEAD_BYTES):
                if not block:
                    return True
        return False

    def _make_folder_of(self, path: str) -> None:
        """Make the folder that a file is to be in, where folders are made."""
        if self.folder is not None or self._renames:
            self._with_retries(lambda: self._files.makedirs(posixpath.dirname(self._full(path)), exist_ok=True))

    def _check_absent(self, path: str, overwrite: bool) -> None:
        if not overwrite and self.exists(path):
            raise exists_already(self.url_of(path))

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root or "/"

    def _entries_of(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            return self._with_retries(lambda: entries_of(folder))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _below(self, folder: str, depth: int | None) -> Iterator[dict[str, Any]]:
        """Yield what is known of each file in a folder elsewhere and, to a depth, in those within it.

        fsspec's own walk passes by folders that cannot be read, and their files would be missed without a word.
        """
        try:
            if self._finds and depth is None:
                listed = self._with_retries(lambda: list(self._files.find(folder, detail=True).values()))
            else:
                listed = self._with_retries(lambda: self._files.ls(folder, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return
        for about in listed:
            if _name(about) == folder:  # an object store may have an object that is called as the folder
                continue
            if about["type"] == "file":
                yield about
            elif about["type"] == "directory" and (depth is None or depth > 1):
                yield from self._below(_name(about), None if depth is None else depth - 1)

    def _with_retries(self, act: Callable[[], Result]) -> Result:
        """Do something that a network may prevent for a while."""
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        attempts = Retrying(
            stop=stop_after_attempt(MAX_ATTEMPTS),
            wait=wait_random_exponential(max=MAX_WAIT_SECONDS),
            retry=retry_if_exception(_may_pass),
            reraise=True,
        )
        return attempts(self._in_turn, act) if self._takes_turns else attempts(act)

    def _in_turn(self, act: Callable[[], Result]) -> Result:
        with _TURN:
            return act()


class _Resumed(io.RawIOBase):
    """A file that is not on this machine; where reading fails it is opened again, and read on from the same place."""

    def __init__(self, open_it: Callable[[], IO[bytes]], with_retries: Callable[[Callable[[], Any]], Any]) -> None:
        self._open, self._with_retries = open_it, with_retries
        self._file: IO[bytes] | None = None
        self._position = 0
        with_retries(lambda: self._within(lambda file: None))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = self._position if whence == io.SEEK_CUR else 0
        if whence == io.SEEK_END:
            start = self._with_retries(lambda: self._within(lambda file: file.seek(0, io.SEEK_END)))
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        def read(file: IO[bytes]) -> bytes:
            file.seek(self._position)
            return file.read(len(buffer))

        data: bytes = self._with_retries(lambda: self._within(read))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _within(self, act: Callable[[IO[bytes]], Result]) -> Result:
        try:
            if self._file is None:
                self._file = self._open()
            return act(self._file)
        except Exception:
            self._drop()
            raise

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(Exception):
                file.close()


def _takes_mode(kind: Any, name: str) -> bool:
    """Tell whether a method of a kind of file system can be asked to write a file only where none is."""
    from fsspec.asyn import AsyncFileSystem

    method = getattr(kind, f"_{name}" if issubclass(kind, AsyncFileSystem) else name)
    return "mode" in inspect.signature(method).parameters


def _takes_turns(files: Any) -> bool:
    """Tell whether a file system reads all through one file or connection, whose place threads would move under others.

    fsspec keeps file systems apart by thread, but a store is shared by threads.
    """
    from fsspec.archive import AbstractArchiveFileSystem
    from fsspec.implementations.ftp import FTPFileSystem

    while files is not None:
        if isinstance(files, AbstractArchiveFileSystem | FTPFileSystem):
            return True
        files = getattr(files, "fs", None)  # of one that caches
    return False


def _name(about: dict[str, Any]) -> str:
    return str(about["name"]).rstrip("/")


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, FINAL_ERRORS) or not isinstance(error, Exception):
        return False
    return not (isinstance(error, OSError) and error.errno in FINAL_ERRNOS)


def find_source(source: str) -> tuple[Store, list[Entry]]:
    """Return what a user means by a folder, a file or a pattern, by path or URL: the store, and which files in it.

    Raises:
        FileNotFoundError: There is nothing.
        OSError: It cannot be read.
        ValueError: fsspec does not know the URL's protocol.
        ImportError: What the protocol needs is not installed.
    """
    store = Store(source)
    before, path, after = _parted(source if store.folder is None else str(store))
    folder, _, name = path.rpartition("/")
    if not source.endswith("/") and (entry := store.entry("")) is not None:
        return Store(before + folder + after or "/"), [Entry(name, entry.size)]
    if entries := store.find():
        return store, entries
    if not glob.has_magic(path):
        raise FileNotFoundError(f"{source}: no such file or folder, or nothing is in it")
    folder, pattern = split_pattern(path)
    store = Store(before + folder + after or "/")
    if not (entries := store.find(pattern=pattern)):
        raise FileNotFoundError(f"nothing matches {source}")
    return store, entries


_URL = re.compile(r"^((?:[^:/]*::)*[^:/]+://)?(.*?)(::[^:]*://.*)?\Z", re.DOTALL)


def _parted(url: str) -> tuple[str, str, str]:
    """Return the path in a URL, and what is before and after it."""
    ((before, path, after),) = _URL.findall(url)
    return before, path.rstrip("/"), after


def _absolute(path: str) -> Path:
    whole = Path(path).expanduser() if path.startswith("~") else Path(path)
    return whole.resolve() if ".." in whole.parts else whole.absolute()
