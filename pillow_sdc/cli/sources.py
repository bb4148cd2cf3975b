"""From what the user names (files, folders, patterns, ``-``) to the files that are meant, and to where each goes."""

import errno
import glob
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import IO, NamedTuple

from ..jobs import skipped
from ..jobs.storage.listing import ALL, entries_of, list_files, split_pattern
from ..jobs.storage.samples import renamed
from ..jobs.storage.writing import write_whole
from ..jobs.tasks import Packing, Task, check_distinct
from .messages import Failures, misuse, say

STREAM = "-"
"""The name of standard input or output on the command line."""

STANDARD = ""
"""The path of standard input or output in a task; no file has it."""


class InputFile(NamedTuple):
    """Something to read.

    Attributes:
        path: The file; ``None`` is standard input.
        below: Where it lies below the folder that the user named; the file's name alone if the user named the file.
        named: Whether the user named the file itself, not a folder or a pattern.
    """

    path: Path | None
    below: Path
    named: bool = True

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)

    @property
    def has_name(self) -> bool:
        """Whether it has a name and a folder to write under and into, unlike ``-``, ``/dev/stdin`` and ``<(…)``."""
        if self.path is None:
            return False
        return self.path.parent not in (Path("/dev"), Path("/dev/fd")) and not self.path.match("/proc/*/fd/*")


def find(
    names: Sequence[str], wanted: Callable[[PurePath], bool], failures: Failures, *, quiet: bool
) -> list[InputFile]:
    """Return the files that are meant, in the order of the names, each once.

    What the user names is meant, whatever it is; in a folder and its sub-folders, files are that are ``wanted``. Hidden
    files are left out, as in patterns, and links to folders are not followed.

    Args:
        names: Files, folders, patterns, or ``-``.
        wanted: Tells of a file in a folder whether it is meant.
        failures: Takes folders that cannot be read, and those in which nothing is meant.
        quiet: Whether nothing is said of what was left out, hidden files apart, of which nothing is said ever.
    """
    found: dict[str, InputFile] = {}
    skips = Counter[str]()
    for name in names:
        for source in [InputFile(None, Path(STREAM))] if name == STREAM else _meant(name, wanted, failures, skips):
            found.setdefault(_place(source.path), source)
    if skips and not quiet:
        say(skipped.described(skips))
    return list(found.values())


def names_one_file(names: Sequence[str]) -> bool:
    """Tell whether one file is named, as such and not by a folder or a pattern."""
    if len(names) != 1:
        return False
    path = Path(names[0])
    return names[0] == STREAM or path.is_file() or not (path.is_dir() or glob.has_magic(names[0]))


def plan(sources: Sequence[InputFile], target: str | None, suffix: str, meant: Callable[[Path], bool]) -> list[Task]:
    """Return a task for each source, which goes beside itself, into a folder, or, if it alone is named, to a file.

    Args:
        sources: As :func:`find` returns them.
        target: A folder, a file, ``-`` for standard output, or ``None``.
        suffix: What takes the place of the sources' suffixes.
        meant: Tells whether a path is that of a file to be written, as :func:`is_folder` wants it.

    Raises:
        typer.Exit: Two sources would go to one target, or a source to nowhere.
    """
    if target == STREAM or (target is None and not all(source.has_name for source in sources)):
        if len(sources) > 1:
            raise misuse(f"standard input and output take one picture; {len(sources)} are named")
        return [_task(source, STANDARD) for source in sources]
    if target is not None and not is_folder(target, sources, meant):
        return [_task(sources[0], str(Path(target)))]
    tasks = []
    for source in sources:
        if source.path is None or not source.has_name:
            raise misuse(f"{source} has no name to be given in {target}; name a file with --output")
        folder, name = (source.path.parent, source.path.name) if target is None else (target, source.below.as_posix())
        tasks.append(_task(source, str(Path(folder, renamed(name, suffix)))))
    try:
        check_distinct(
            ((task.sources[0], task.targets[0]) for task in tasks),
            lambda path: os.path.normcase(Path(path).absolute()),
        )
    except ValueError as error:
        raise misuse(str(error)) from None
    return tasks


def _task(source: InputFile, target: str) -> Task:
    path = STANDARD if source.path is None else str(source.path)
    size = 1  # where it is not known: some bar is better than none
    with suppress(OSError):
        size = max(size, 0 if source.path is None else source.path.stat().st_size)
    return Task((path,), size, Packing.FILES, Packing.FILES, targets=(target,))


class NamedFiles:
    """Files by the names that the user gave, and the standard streams, as :class:`~..jobs.worker.Files`.

    Attributes:
        output: What is to go to standard output in the end.
    """

    output: bytes | None = None

    def url_of(self, path: str) -> str:
        """Return what the user calls a file."""
        return path or "standard input"

    def exists(self, path: str) -> bool:
        """Tell whether there is something of a name, whatever it is."""
        return os.path.lexists(path)

    def read(self, path: str) -> bytes:
        """Return a file's content; pipes are read to their end.

        Raises:
            OSError: It cannot be read.
        """
        return Path(path).read_bytes() if path else sys.stdin.buffer.read()

    def write(self, path: str, data: bytes, *, overwrite: bool, through: str) -> None:
        """Write a file by way of one beside it, or keep what goes to standard output.

        Raises:
            FileExistsError: There is one, and it may not be overwritten.
            OSError: It cannot be written.
        """
        if path:
            write_whole(Path(path), data, overwrite)
        else:
            self.output = data


def is_folder(target: str, sources: Sequence[InputFile], meant: Callable[[Path], bool]) -> bool:
    """Tell whether a target is a folder, there already or to be made.

    Args:
        target: What the user named.
        sources: What goes there; of a folder or a pattern that is never a file, however many match.
        meant: Tells whether a path is that of a file of the kind that is written.

    Raises:
        typer.Exit: It is a file, or called as one, but several sources may be meant.
    """
    if target.endswith(("/", os.sep)) or Path(target).is_dir():
        return True
    several = len(sources) != 1 or not sources[0].named
    if several and Path(target).exists():
        raise misuse(f"{target} is a file, and there may be several sources; name a folder")
    if several and meant(Path(target)):
        raise misuse(f"{target} is called as a file, and there may be several sources; for a folder, write {target}/")
    return several


@contextmanager
def open_input(source: InputFile) -> Iterator[IO[bytes]]:
    """Open a source for reading; it is seekable, for pipes are read to their end.

    Raises:
        OSError: It cannot be read.
    """
    if source.path is None:
        yield io.BytesIO(sys.stdin.buffer.read())
        return
    with source.path.open("rb") as file:
        yield file if file.seekable() else io.BytesIO(file.read())


def _place(path: Path | None) -> str:
    """Return what is the same for all ways to write a path; links to one file are different files, as elsewhere."""
    return STREAM if path is None else os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118


def _meant(name: str, wanted: Callable[[PurePath], bool], failures: Failures, skips: Counter[str]) -> list[InputFile]:
    path, before = Path(name), failures.count
    if path.is_dir():
        root, pattern = path, ALL
        reason: Exception = ValueError("there is nothing of the kind in this folder")
    elif path.exists() or not glob.has_magic(name):
        return [InputFile(path, Path(path.name))]
    else:
        folder, pattern = split_pattern(path.as_posix())
        root, wanted = Path(folder), lambda match: True
        reason = FileNotFoundError(errno.ENOENT, "no file matches this pattern")

    def entries_in(folder: str) -> list[os.DirEntry[str]]:
        with failures.of(Path(folder)):
            return entries_of(folder)
        return []

    chosen, others = skipped.split(list_files(str(root), pattern, entries_in), wanted)
    skips.update(others)
    if not chosen and failures.count == before:
        with failures.of(path):
            raise reason
    return [InputFile(root / entry.path, Path(entry.path), named=False) for entry in chosen]
