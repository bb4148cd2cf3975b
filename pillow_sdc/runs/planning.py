"""From the files of a source to tasks, without what is done already."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from ..files import parquet_shards, tar_shards
from ..files.samples import renamed
from ..files.stores import Entry, Store
from .manifest import FOLDER
from .tasks import Conversion, Kind, Task

TOGETHER = 16
"""Files that a worker takes at a time."""

DIGITS = 6
"""Of the numbers that new shards are named by."""


def plan(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    *,
    to: Kind | None,
    shard_size: int,
    done: Mapping[str, str],
    there: Collection[str],
) -> list[Task]:
    """Return what is to be done.

    Args:
        source: Where from.
        entries: The files there; which of them are pictures or shards their names tell.
        conversion: What becomes of pictures.
        to: How these are kept; as in the source unless given.
        shard_size: How many pictures go into a shard, where files are packed.
        done: What the manifest says, from sources' URLs to outputs' paths.
        there: The paths of the files in the target store.

    Raises:
        ValueError: There is nothing of the kind, two sources would go to one target, or shards to shards of the other
            kind.
    """
    by_kind: dict[Kind, list[Entry]] = {kind: [] for kind in Kind}
    for entry in entries:
        kind = kind_of(entry.path, conversion)
        if kind is not None:
            by_kind[kind].append(entry)
    if not any(by_kind.values()):
        wanted = "an SDC file" if conversion.decode else "a picture"
        raise ValueError(f"nothing in {source} is {wanted} or a shard, by its name")
    tasks = []
    for kind, found in by_kind.items():
        goal = to or kind
        if found and kind is not Kind.FILES and goal not in (kind, Kind.FILES):
            raise ValueError(f"{kind} shards become {kind} shards or files; make files of them first")
        if kind is Kind.FILES and goal is not Kind.FILES:
            tasks += _packed(source, found, conversion, goal, shard_size, done, there)
        elif kind is Kind.FILES:
            tasks += _single(source, found, conversion, done, there)
        else:
            tasks += _shards(source, found, conversion, kind, goal, done, there)
    return tasks


def kind_of(path: str, conversion: Conversion) -> Kind | None:
    """Return what a file is taken for; ``None`` if it is none of what is converted."""
    pure = PurePosixPath(path)
    if any(part.startswith(".") or part == FOLDER for part in pure.parts):
        return None
    if path.lower().endswith(tar_shards.SUFFIXES):
        return Kind.TAR
    if path.lower().endswith(parquet_shards.SUFFIXES):
        return Kind.PARQUET
    return Kind.FILES if conversion.wants(pure) else None


def _single(
    source: Store, entries: Sequence[Entry], conversion: Conversion, done: Mapping[str, str], there: Collection[str]
) -> list[Task]:
    _check_distinct(entries, conversion.suffix)
    left = [
        entry
        for entry in entries
        if conversion.overwrite
        or source.url_of(entry.path) not in done
        or renamed(entry.path, conversion.suffix) not in there
    ]
    return [Task(*_together(some), Kind.FILES, Kind.FILES) for some in _batched(left, TOGETHER)]


def _packed(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    to: Kind,
    shard_size: int,
    done: Mapping[str, str],
    there: Collection[str],
) -> list[Task]:
    _check_distinct(entries, conversion.suffix)
    left = [entry for entry in entries if done.get(source.url_of(entry.path), "").partition("::")[0] not in there]
    numbers = [int(path[:DIGITS]) for path in there if path[:DIGITS].isdecimal() and path[DIGITS:] == f".{to}"]
    if numbers and conversion.overwrite:
        raise ValueError("new shards would stand beside those that are there; remove these, or do not overwrite")
    first = max(numbers, default=-1) + 1
    return [
        Task(*_together(some), Kind.FILES, to, f"{number:0{DIGITS}}.{to}")
        for number, some in enumerate(_batched(left, shard_size), first)
    ]


def _shards(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    kind: Kind,
    to: Kind,
    done: Mapping[str, str],
    there: Collection[str],
) -> list[Task]:
    targets: dict[str, Entry] = {}
    for entry in entries:
        stem = entry.path
        for suffix in (*tar_shards.SUFFIXES, *parquet_shards.SUFFIXES):
            if stem.lower().endswith(suffix):
                stem = stem[: -len(suffix)]
                break
        target = stem if to is Kind.FILES else f"{stem}.{kind}"
        if target in targets:
            raise ValueError(f"{targets[target].path} and {entry.path} would both become {target}")
        targets[target] = entry
    return [
        Task((entry.path,), entry.size, kind, to, target)
        for target, entry in targets.items()
        if conversion.overwrite or (source.url_of(entry.path) not in done if to is Kind.FILES else target not in there)
    ]


def _check_distinct(entries: Sequence[Entry], suffix: str) -> None:
    targets: dict[str, str] = {}
    for entry in entries:
        target = renamed(entry.path, suffix)
        if target in targets:
            raise ValueError(f"{targets[target]} and {entry.path} would both become {target}; nothing was done")
        targets[target] = entry.path


def _together(entries: Sequence[Entry]) -> tuple[tuple[str, ...], int]:
    return tuple(entry.path for entry in entries), sum(entry.size for entry in entries)


def _batched(entries: Sequence[Entry], size: int) -> list[Sequence[Entry]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
