"""From what the user names (files, folders, patterns, ``-``) to the files that are meant, and to where each goes."""

import glob
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from .messages import misuse

STREAM = "-"
"""Stands for standard input or output."""


class Source(NamedTuple):
    """Something to read.

    Attributes:
        path: The file; ``None`` is standard input.
        below: Where it lies below the folder that the user named; the file's name alone if the user named the file.
    """

    path: Path | None
    below: Path

    def __str__(self) -> str:
        return "standard input" if self.path is None else str(self.path)


class Job(NamedTuple):
    """Something to read and where to write what becomes of it; ``None`` is standard output."""

    source: Source
    target: Path | None


def find(names: Sequence[str], wanted: Callable[[Path], bool]) -> list[Source]:
    """Return the files that are meant, in the order of the names, each once.

    What is named itself is meant, whatever it is. Of a folder and its sub-folders those files are that are ``wanted``;
    a folder without any stands for itself, so that reading it fails.
    """
    found: dict[str, Source] = {}
    for name in names:
        for source in [Source(None, Path(STREAM))] if name == STREAM else _below(name, wanted):
            found.setdefault(STREAM if source.path is None else os.path.realpath(source.path), source)
    return list(found.values())


def names_one_file(names: Sequence[str]) -> bool:
    """Tell whether one file is named, as such and not by a folder or a pattern."""
    if len(names) != 1:
        return False
    path = Path(names[0])
    return names[0] == STREAM or path.is_file() or not (path.is_dir() or glob.has_magic(names[0]))


def plan(sources: Sequence[Source], target: str | None, suffix: str) -> list[Job]:
    """Return where each source goes: beside itself, into a folder, or, if it is the only one, to a file.

    Args:
        sources: As :func:`find` returns them.
        target: A folder, a file, ``-`` for standard output, or ``None``.
        suffix: What takes the place of the sources' suffixes.

    Raises:
        typer.Exit: Two sources would go to one target, or a source to nowhere.
    """
    if target == STREAM or (target is None and any(source.path is None for source in sources)):
        if len(sources) != 1:
            raise misuse(f"standard input and output take one picture; {len(sources)} are named")
        return [Job(sources[0], None)]
    if target is not None and not is_folder(target, sources):
        return [Job(sources[0], Path(target))]
    if any(source.path is None for source in sources):
        raise misuse(f"standard input has no name to be given in {target}; name a file with --output")
    jobs: dict[str, Job] = {}
    for source in sources:
        assert source.path is not None  # noqa: S101 - refused above
        goal = (source.path if target is None else Path(target, source.below)).with_suffix(suffix)
        key = os.path.normcase(goal.absolute())
        if key in jobs:
            raise misuse(f"{jobs[key].source} and {source} would both become {goal}; nothing was done")
        jobs[key] = Job(source, goal)
    return list(jobs.values())


def is_folder(target: str, sources: Sequence[Source]) -> bool:
    """Tell whether a target is a folder, there already or to be made.

    Raises:
        typer.Exit: It is a file, but there are several sources.
    """
    if target.endswith(("/", os.sep)) or Path(target).is_dir():
        return True
    several = len(sources) > 1 or any(len(source.below.parts) > 1 for source in sources)
    if several and Path(target).exists():
        raise misuse(f"{target} is a file, and there are several sources; name a folder")
    return several


@contextmanager
def opened(source: Source) -> Iterator[IO[bytes]]:
    """Open a source for reading.

    Raises:
        OSError: It cannot be read.
        ValueError: It is a folder, in which there is nothing that is meant.
    """
    if source.path is None:
        yield io.BytesIO(sys.stdin.buffer.read())
    elif source.path.is_dir():
        raise ValueError("there is nothing of the kind in this folder")
    else:
        with source.path.open("rb") as file:
            yield file


def _below(name: str, wanted: Callable[[Path], bool]) -> list[Source]:
    path = Path(name)
    if path.is_dir():
        return _within(path, wanted) or [Source(path, Path(path.name))]
    if path.exists() or not glob.has_magic(name):
        return [Source(path, Path(path.name))]
    matches = [Path(match) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 - which knows no "~" either
    root = _fixed_part(path)
    files = [Source(match, match.relative_to(root)) for match in matches if not match.is_dir()]
    return files or [Source(path, Path(path.name))]


def _within(folder: Path, wanted: Callable[[Path], bool]) -> list[Source]:
    found = []
    for directory, folders, files in os.walk(folder):
        folders.sort()
        paths = (Path(directory, name) for name in sorted(files))
        found += [Source(path, path.relative_to(folder)) for path in paths if wanted(path)]
    return found


def _fixed_part(pattern: Path) -> Path:
    """Return the folder that all matches of a pattern lie below."""
    fixed = Path()
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        fixed /= part
    return fixed
