"""Lists the files of folders, and says what patterns mean: the same for the command line and for stores."""

import fnmatch
import glob
import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

MANIFEST = "_manifest"
"""Folder of a run's account of itself, among what the run has written."""

LINKED_FOLDER, SPECIAL = "linked folder", "special"
"""What is passed by whatever it is called: links to folders, and what is not a regular file."""

Pattern = tuple[str, ...]
"""The parts of a path, with wildcards; ``**`` stands for any number of folders."""

ALL: Pattern = ("**", "*")
"""Matches all files in a folder and in those within it."""


class Entry(NamedTuple):
    """A file of a folder.

    Attributes:
        path: Its path below the folder, with ``/`` between its parts.
        size: Its bytes.
        passed_by: :data:`LINKED_FOLDER` or :data:`SPECIAL` if it is one; ``None`` for files.
    """

    path: str
    size: int
    passed_by: str | None = None


def is_hidden(name: str) -> bool:
    """Tell of the name of a file or folder whether it is left out without a word."""
    return name.startswith(".") or name == MANIFEST


def split_pattern(path: str) -> tuple[str, Pattern]:
    """Return the folder that all matches of a pattern lie below, and the pattern below it."""
    folder = posixpath.dirname(path)
    while glob.has_magic(folder):
        folder = posixpath.dirname(folder)
    return folder, tuple(part for part in path[len(folder) :].split("/") if part)


def matches(path: str, pattern: Pattern) -> bool:
    """Tell whether a path below a folder matches a pattern."""
    patterns = {pattern}
    for name in path.split("/"):
        patterns = _after(patterns - {()}, name)
    return () in patterns


def depth_of(pattern: Pattern) -> int | None:
    """Return how many folders deep matches lie, at most; ``None`` if there is no limit."""
    return None if "**" in pattern else len(pattern)


def entries_of(folder: str) -> "list[os.DirEntry[str]]":
    """Return what is in a folder on this machine.

    Raises:
        OSError: It cannot be read.
    """
    with os.scandir(folder) as listing:
        return list(listing)


def list_files(
    root: str,
    pattern: Pattern = ALL,
    entries_of: "Callable[[str], Iterable[os.DirEntry[str]]]" = entries_of,
) -> list[Entry]:
    """Return the files below a folder on this machine that match a pattern, by name.

    Hidden ones match what begins as they do alone, and links to folders are not followed.

    Args:
        root: The folder.
        pattern: Matches paths below it.
        entries_of: Returns what is in a folder, or raises ``OSError``.

    Raises:
        OSError: A folder cannot be read.
    """
    return sorted(_below(root, pattern, entries_of))


def _below(root: str, pattern: Pattern, entries_of: "Callable[[str], Iterable[os.DirEntry[str]]]") -> Iterator[Entry]:
    waiting: list[tuple[str, set[Pattern]]] = [("", {pattern})]
    while waiting:
        below, patterns = waiting.pop()
        folders: list[tuple[str, set[Pattern]]] = []
        for entry in sorted(entries_of(os.path.join(root, below)), key=lambda entry: entry.name):  # noqa: PTH118
            if not (left := _after(patterns, entry.name)):
                continue
            path, kind = posixpath.join(below, entry.name), _kind_of(entry)
            if kind == stat.S_IFDIR and (within := left - {()}):
                if _is_link(entry):
                    yield Entry(path, 0, LINKED_FOLDER)
                else:
                    folders.append((path, within))
            elif kind != stat.S_IFDIR and () in left:
                yield Entry(path, _size_of(entry), None if kind == stat.S_IFREG else SPECIAL)
        waiting += reversed(folders)


def _after(patterns: Iterable[Pattern], name: str) -> set[Pattern]:
    """Return what may follow a name in paths that match patterns, where the name itself fits; () is the end."""
    return {left for pattern in patterns for left in _after_one(pattern, name)}


def _after_one(pattern: Pattern, name: str) -> Iterator[Pattern]:
    first, rest = pattern[0], pattern[1:]
    hidden = is_hidden(name)
    if first == "**":
        if not hidden:
            yield pattern
        yield from _after_one(rest or ("*",), name)
    elif fnmatch.fnmatch(name, first) and (not hidden or first.startswith(name[0])):
        yield rest


def _kind_of(entry: "os.DirEntry[str]") -> int:
    """Return the kind of what an entry is or links to, as ``stat`` has it.

    A link that leads nowhere counts as a file: opening it gives the error.
    """
    if entry.is_dir(follow_symlinks=False):
        return stat.S_IFDIR
    if entry.is_file(follow_symlinks=False):
        return stat.S_IFREG
    try:
        return stat.S_IFMT(entry.stat().st_mode)
    except OSError:
        return stat.S_IFREG


def _is_link(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry leads elsewhere: a symbolic link or, on Windows, a junction."""
    return entry.is_symlink() or bool(getattr(entry, "is_junction", bool)())


def _size_of(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return 0
