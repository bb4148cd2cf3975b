"""Files of a folder that are left out: which are, how they are counted, and how a line says so."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath, PurePosixPath

from .pictures.opening import is_picture, is_sdc
from .pictures.plugins import remedy
from .storage.listing import LINKED_FOLDER, Entry

OTHER = "other"
"""Kind of files without a usual suffix."""

MOST_KINDS = 8
"""Kinds that a line names, besides those for which there is a remedy."""


def split(entries: Sequence[Entry], wanted: Callable[[PurePosixPath], bool]) -> tuple[list[Entry], Counter[str]]:
    """Return the files that are converted, and count the others by kind.

    An SDC file beside a picture of another format with the same name is not converted: it is that picture's result.

    Args:
        entries: The files of a folder.
        wanted: Tells of a path below it whether it is that of a file to convert, by its name.
    """
    paths = [PurePosixPath(entry.path) for entry in entries]
    meant = [wanted(path) for path in paths]
    originals = {
        path.with_suffix("") for path, is_meant in zip(paths, meant, strict=True) if is_meant and is_picture(path)
    }
    chosen, others = [], Counter[str]()
    for entry, path, is_meant in zip(entries, paths, meant, strict=True):
        if entry.passed_by == LINKED_FOLDER or (is_meant and entry.passed_by is not None):
            others[entry.passed_by] += 1
        elif not is_meant or (is_sdc(path) and path.with_suffix("") in originals):
            others[kind_of(path)] += 1
        else:
            chosen.append(entry)
    return chosen, others


def kind_of(path: PurePath) -> str:
    """Return the kind that a file is counted as: its suffix, if that is a usual one."""
    suffix = path.suffix.lower()
    return suffix if re.fullmatch(r"\.\w{1,10}", suffix) else OTHER


def described(counts: Mapping[str, int]) -> str:
    """Return a line such as ``left out 12 files: 9 .mov, 2 .txt, 1 .heic (install pillow-heif)``.

    Args:
        counts: How many were left out, by kind; at least one.
    """
    files = Counter({kind: count for kind, count in counts.items() if kind != LINKED_FOLDER})
    parts = []
    if linked := counts.get(LINKED_FOLDER, 0):
        parts.append(_counted(linked, LINKED_FOLDER))
    if files:
        parts.append(f"{_counted(files.total(), 'file')}: {', '.join(_by_kind(files))}")
    return f"left out {' and '.join(parts)}"


def _by_kind(files: Counter[str]) -> list[str]:
    """Return how many there are of each kind, the commonest first."""
    remedies = {kind: remedy(kind) for kind in files}
    ranked = sorted(files, key=lambda kind: (kind == OTHER, -files[kind], kind))
    named = [kind for rank, kind in enumerate(ranked) if remedies[kind] or (rank < MOST_KINDS and kind != OTHER)]
    words = [f"{files[kind]:,} {kind}" + (f" ({remedies[kind]})" if remedies[kind] else "") for kind in named]
    rest = files.total() - sum(files[kind] for kind in named)
    return [*words, f"{rest:,} {OTHER}"] if rest else words


def _counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
