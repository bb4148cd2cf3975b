"""Files of a folder that are left out: which are, how they are counted, and how a line says so."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePath

from .pictures.plugins import remedy

MANIFEST = "_manifest"
"""Folder of a run's account of itself, among what the run has written."""

LINKED_FOLDER, SPECIAL, OTHER = "linked folder", "special", "other"
"""Kinds besides suffixes: links to folders, what is not a regular file, and names without a usual suffix."""

MOST_KINDS = 8
"""Kinds that a line names, besides those for which there is a remedy."""


def is_hidden(name: str) -> bool:
    """Tell of the name of a file or folder whether it is left out without a word."""
    return name.startswith(".") or name == MANIFEST


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
