"""From the files of a source to tasks, without what is done already."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from . import skipped as left_out
from .manifest import FOLDER, Account, written
from .pictures.opening import is_sdc
from .storage import parquet as parquet_shards
from .storage import tar as tar_shards
from .storage.samples import renamed
from .storage.stores import Entry, Store
from .tasks import Conversion, Kind, Task, check_distinct

SUFFIXES = *tar_shards.SUFFIXES, *parquet_shards.SUFFIXES

LEAST, SHARE = 16, 8
"""Limit on the files of a task if there are few: 16, or an eighth of all files, so that every worker gets some."""

DIGITS = 6
"""Number of digits in the names of new shards."""


def plan(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    *,
    to: Kind | None,
    shard_size: int,
    account: Account,
    there: Collection[str],
) -> list[Task]:
    """Return what is to be done: what is not in the target yet, and what failed when it was done last.

    Args:
        source: Where from.
        entries: The files there; which of them are pictures or shards their names tell.
        conversion: What becomes of pictures.
        to: How these are kept; as in the source unless given.
        shard_size: How many pictures go into a shard, where files are packed.
        account: What the manifest says, by sources' URLs.
        there: The paths of the files in the target store, as the manifest writes them.

    Raises:
        ValueError: There is nothing of the kind, two sources would go to one target, shards to shards of the other
            kind, or columns are named and there are no shards.
    """
    by_kind: dict[Kind, list[Entry]] = {kind: [] for kind in Kind}
    for entry, kind in _with_kinds(entries, conversion):
        if kind is not None:
            by_kind[kind].append(entry)
    if not any(by_kind.values()):
        wanted = "an SDC file" if conversion.decode else "a picture"
        omitted = omissions(source, entries, conversion)
        besides = f"; {left_out.described(omitted)}" if omitted else ""
        raise ValueError(f"nothing in {source} is {wanted} or a shard, by its name{besides}")
    files = by_kind.pop(Kind.FILES)
    if conversion.columns and not any(by_kind.values()):
        raise ValueError(f"--column names pictures of shards, and in {source} there are none")
    check_distinct((entry.path, renamed(entry.path, conversion.suffix)) for entry in files)
    shards = _shards(by_kind, to)
    if to in (None, Kind.FILES):
        _check_apart(files, shards)
        tasks = _single(source, files, conversion, account, there)
    else:
        tasks = _packed(source, files, conversion, to, shard_size, account.done, there, shards)
    return tasks + _unfinished(source, shards, conversion, account, there)


def _with_kinds(entries: Sequence[Entry], conversion: Conversion) -> Iterator[tuple[Entry, Kind | None]]:
    """Yield files and the kind of each; ``None`` if it is not converted.

    An SDC file beside a picture of another format with the same name is not converted: it is that picture's result.
    """
    kinds = [kind_of(entry.path, conversion) for entry in entries]
    pictures = [PurePosixPath(entry.path) for entry, kind in zip(entries, kinds, strict=True) if kind is Kind.FILES]
    originals = {path.with_suffix("") for path in pictures if not is_sdc(path)}
    for entry, kind in zip(entries, kinds, strict=True):
        path = PurePosixPath(entry.path)
        yield entry, None if is_sdc(path) and path.with_suffix("") in originals else kind


def kind_of(path: str, conversion: Conversion) -> Kind | None:
    """Return the kind of a file by its own name; ``None`` if it is not converted."""
    pure = PurePosixPath(path)
    if any(map(left_out.is_hidden, pure.parts)):
        return None
    if path.lower().endswith(tar_shards.SUFFIXES):
        return Kind.TAR
    if path.lower().endswith(parquet_shards.SUFFIXES):
        return Kind.PARQUET
    return Kind.FILES if conversion.wants(pure) else None


def kept(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    *,
    to: Kind | None,
    account: Account,
    tasks: Sequence[Task],
) -> tuple[int, Counter[str]]:
    """Return how many pictures are in the target already and in none of the tasks, and which of them differ.

    Args:
        source: As above.
        entries: As above.
        conversion: As above.
        to: As above.
        account: As above.
        tasks: The result of :func:`plan`.

    Returns:
        Their number, and the numbers of those made with other options than the conversion's, by these options.
    """
    begun = {path for task in tasks for path in task.sources}
    kinds = {
        written(source.url_of(entry.path)): kind
        for entry in entries
        if entry.path not in begun and (kind := kind_of(entry.path, conversion)) is not None
    }
    described = conversion.described()
    count, otherwise = 0, Counter[str]()
    for url, output in account.done.items():
        if url in kinds and kinds[url] is not Kind.FILES:
            continue  # the row of a shard, not of a picture
        kind = next((kinds[one] for one in (url, *_above(url)) if one in kinds), None)
        if kind is None:
            continue
        count += 1
        goal = to or kind
        packed = _packing(output) if kind is Kind.FILES else goal
        made = account.options.get(url, described)
        if packed is not goal:
            made = f"{made} --to {packed}".lstrip()
        if made != described:
            otherwise[made] += 1
    return count, otherwise


def _packing(output: str) -> Kind:
    """Return how a picture of a file is kept in the target."""
    return next((kind for kind in Kind if f".{kind}::" in output), Kind.FILES)


def omissions(source: Store, entries: Sequence[Entry], conversion: Conversion) -> Counter[str]:
    """Count the files that are neither pictures nor shards, by their kinds; hidden ones do not count."""
    omitted = Counter[str]()
    for entry, kind in _with_kinds(entries, conversion):
        path = PurePosixPath(entry.path)
        if kind is None and not any(map(left_out.is_hidden, path.parts)):
            is_folder = source.folder is not None and (source.folder / path).is_dir()
            omitted[left_out.LINKED_FOLDER if is_folder else left_out.kind_of(path)] += 1
    return omitted


def _single(
    source: Store, entries: Sequence[Entry], conversion: Conversion, account: Account, there: Collection[str]
) -> list[Task]:
    sources = {output: url for part in (account.stale, account.done) for url, output in part.items()}
    left = []
    for entry in entries:
        url, target = written(source.url_of(entry.path)), written(renamed(entry.path, conversion.suffix))
        if not conversion.overwrite and target in there:
            if (other := sources.get(target, url)) != url:
                raise ValueError(
                    f"{url} would become {target}, which {other} became already; choose another target, overwrite what "
                    f"is there, or, if they are the same, remove the target's {FOLDER}"
                )
            if url in account.done:
                continue
        left.append(entry)
    together = min(conversion.together, max(LEAST, len(left) // SHARE))
    tasks = []
    for some in _batched(left, together):
        urls = {written(source.url_of(entry.path)) for entry in some}
        stale = frozenset(account.stale[url] for url in urls & account.stale.keys())
        targets = tuple(renamed(entry.path, conversion.suffix) for entry in some)
        tasks.append(Task(*_together(some), Kind.FILES, Kind.FILES, targets=targets, stale=stale))
    return tasks


def _packed(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    to: Kind,
    shard_size: int,
    done: Mapping[str, str],
    there: Collection[str],
    reserved: Collection[str],
) -> list[Task]:
    def is_done(entry: Entry) -> bool:
        return done.get(written(source.url_of(entry.path)), "").partition("::")[0] in there

    left = [entry for entry in entries if not is_done(entry)]
    # What a worker died of was divided, and has the number of the whole before a hyphen.
    numbered = re.compile(rf"(\d{{{DIGITS}}})(-[01]+)?\.{to}")
    numbers = [int(match[1]) for path in (*there, *reserved) if (match := numbered.fullmatch(path))]
    if entries and numbers and conversion.overwrite:
        raise ValueError("new shards would stand beside those that are there; remove these, or do not overwrite")
    first = max(numbers, default=-1) + 1
    return [
        Task(*_together(some), Kind.FILES, to, f"{number:0{DIGITS}}.{to}")
        for number, some in enumerate(_batched(left, shard_size), first)
    ]


def _shards(by_kind: Mapping[Kind, Sequence[Entry]], to: Kind | None) -> dict[str, Task]:
    """Return the task of each shard, done or not, by its target."""
    tasks: dict[str, Task] = {}
    for kind, entries in by_kind.items():
        goal = to or kind
        if entries and goal not in (kind, Kind.FILES):
            raise ValueError(f"{kind} shards become {kind} shards or files; make files of them first")
        for entry in entries:
            suffix = next(one for one in SUFFIXES if entry.path.lower().endswith(one))
            stem = entry.path[: -len(suffix)]
            target = stem if goal is Kind.FILES else f"{stem}.{goal}"
            if target in tasks:
                raise ValueError(f"{tasks[target].sources[0]} and {entry.path} would both become {target}")
            if target == FOLDER:
                raise ValueError(f"{entry.path} would become {FOLDER}, where the manifest is")
            tasks[target] = Task((entry.path,), entry.size, kind, goal, target)
    return tasks


def _unfinished(
    source: Store, shards: Mapping[str, Task], conversion: Conversion, account: Account, there: Collection[str]
) -> list[Task]:
    """Return the tasks of those shards that are not done, or of which something failed or was removed."""
    removed = {
        shard for url, output in account.done.items() if output.partition("::")[0] not in there for shard in _above(url)
    }
    missing = Counter(shard for url in account.failed for shard in _above(url))
    stale: dict[str, set[str]] = defaultdict(set)
    for url, output in account.stale.items():
        for one in (url, *_above(url)):
            stale[one].add(output)
    tasks = []
    for target, task in shards.items():
        url = written(source.url_of(task.sources[0]))
        is_gone = task.to is not Kind.FILES and written(target) not in there
        if conversion.overwrite or account.done.get(url) != written(target) or is_gone or url in removed:
            tasks.append(replace(task, stale=frozenset(stale[url]), missing=0 if is_gone else missing[url]))
    return tasks


def _above(url: str) -> Iterator[str]:
    """Yield what may be the shard that holds a picture, for a store's URL may itself have ``::`` in it."""
    parts = url.split("::")
    return ("::".join(parts[:count]) for count in range(1, len(parts)))


def _check_apart(files: Sequence[Entry], shards: Mapping[str, Task]) -> None:
    """Refuse files that would come among those of a shard."""
    folders = {target for target, task in shards.items() if task.to is Kind.FILES}
    for entry in files if folders else ():
        for folder in folders & {str(parent) for parent in PurePosixPath(entry.path).parents}:
            other = shards[folder].sources[0]
            raise ValueError(f"{entry.path} and what is in {other} would both become files in {folder}")


def _together(entries: Sequence[Entry]) -> tuple[tuple[str, ...], int]:
    return tuple(entry.path for entry in entries), sum(entry.size for entry in entries)


def _batched(entries: Sequence[Entry], size: int) -> list[Sequence[Entry]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
