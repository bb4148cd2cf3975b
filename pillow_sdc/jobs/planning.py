"""From the files of a source to tasks, without what is done already."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from . import skipped
from .manifest import Account, escaped
from .storage import parquet as parquet_shards
from .storage import tar as tar_shards
from .storage.listing import MANIFEST, Entry
from .storage.samples import renamed
from .storage.stores import Store
from .tasks import Conversion, Packing, Task, check_distinct

SUFFIXES = *tar_shards.SUFFIXES, *parquet_shards.SUFFIXES

MIN_FILES_PER_TASK, MIN_TASKS = 16, 8
"""The least limit on the files of a task, and the number of tasks, at least, if there are more files than that."""

SHARD_DIGITS = 6
"""Number of digits in the names of new shards."""


def plan(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    *,
    to: Packing | None,
    shard_size: int,
    account: Account,
    there: Collection[str],
) -> list[Task]:
    """Return tasks for what is not in the target yet, and for what failed in the last run.

    Args:
        source: Where from.
        entries: The files there that :func:`choose` chooses.
        conversion: How pictures are converted.
        to: How these are kept; as in the source unless given.
        shard_size: How many pictures go into a shard, where files are packed.
        account: What the manifest says, by sources' URLs.
        there: The paths of the files in the target store, as the manifest writes them.

    Raises:
        ValueError: Two sources would go to one target, shards to shards of the other
            packing, or columns are named and there are no shards.
    """
    by_packing: dict[Packing, list[Entry]] = {packing: [] for packing in Packing}
    for entry in entries:
        if (packing := packing_of(entry.path, conversion)) is not None:
            by_packing[packing].append(entry)
    files = by_packing.pop(Packing.FILES)
    if conversion.columns and not any(by_packing.values()):
        raise ValueError(f"--column names pictures of shards, and in {source} there are none")
    check_distinct((entry.path, renamed(entry.path, conversion.suffix)) for entry in files)
    shards = _shards(by_packing, to)
    if to in (None, Packing.FILES):
        _check_apart(files, shards)
        tasks = _single(source, files, conversion, account, there)
    else:
        tasks = _packed(source, files, conversion, to, shard_size, account.done, there, shards)
    return tasks + _unfinished(source, shards, conversion, account, there)


def choose(source: Store, entries: Sequence[Entry], conversion: Conversion) -> tuple[list[Entry], Counter[str]]:
    """Return the files that are pictures or shards, by their names, and count the others by kind.

    Raises:
        ValueError: There is nothing of the kind.
    """
    chosen, others = skipped.split(entries, lambda path: packing_of(str(path), conversion) is not None)
    if not chosen:
        wanted = "an SDC file" if conversion.decode else "a picture"
        besides = f"; {skipped.described(others)}" if others else ""
        raise ValueError(f"nothing in {source} is {wanted} or a shard, by its name{besides}")
    return chosen, others


def packing_of(path: str, conversion: Conversion) -> Packing | None:
    """Return the packing of a file by its own name; ``None`` if it is not converted."""
    if path.lower().endswith(tar_shards.SUFFIXES):
        return Packing.TAR
    if path.lower().endswith(parquet_shards.SUFFIXES):
        return Packing.PARQUET
    return Packing.FILES if conversion.wants(PurePosixPath(path)) else None


def count_kept(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    *,
    to: Packing | None,
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
    packings = {
        escaped(source.url_of(entry.path)): packing
        for entry in entries
        if entry.path not in begun and (packing := packing_of(entry.path, conversion)) is not None
    }
    described = conversion.described()
    count, made_with_other_options = 0, Counter[str]()
    for url, output in account.done.items():
        if url in packings and packings[url] is not Packing.FILES:
            continue  # the row of a shard, not of a picture
        packing = next((packings[one] for one in (url, *_above(url)) if one in packings), None)
        if packing is None:
            continue
        count += 1
        goal = to or packing
        packed = _packing_in_target(output) if packing is Packing.FILES else goal
        made = account.options.get(url, described)
        if packed is not goal:
            made = f"{made} --to {packed}".lstrip()
        if made != described:
            made_with_other_options[made] += 1
    return count, made_with_other_options


def _packing_in_target(output: str) -> Packing:
    """Return how a picture of a file is kept in the target."""
    return next((packing for packing in Packing if f".{packing}::" in output), Packing.FILES)


def _single(
    source: Store, entries: Sequence[Entry], conversion: Conversion, account: Account, there: Collection[str]
) -> list[Task]:
    sources = {output: url for part in (account.superseded, account.done) for url, output in part.items()}
    left = []
    for entry in entries:
        url, target = escaped(source.url_of(entry.path)), escaped(renamed(entry.path, conversion.suffix))
        if not conversion.overwrite and target in there:
            if (other := sources.get(target, url)) != url:
                raise ValueError(
                    f"{url} would become {target}, which {other} became already; choose another target, overwrite what "
                    f"is there, or, if they are the same, remove the target's {MANIFEST}"
                )
            if url in account.done:
                continue
        left.append(entry)
    together = min(conversion.pictures_at_a_time, max(MIN_FILES_PER_TASK, len(left) // MIN_TASKS))
    tasks = []
    for some in _batched(left, together):
        urls = {escaped(source.url_of(entry.path)) for entry in some}
        superseded = frozenset(account.superseded[url] for url in urls & account.superseded.keys())
        targets = tuple(renamed(entry.path, conversion.suffix) for entry in some)
        tasks.append(Task(*_together(some), Packing.FILES, Packing.FILES, targets=targets, superseded=superseded))
    return tasks


def _packed(
    source: Store,
    entries: Sequence[Entry],
    conversion: Conversion,
    to: Packing,
    shard_size: int,
    done: Mapping[str, str],
    there: Collection[str],
    reserved: Collection[str],
) -> list[Task]:
    def is_done(entry: Entry) -> bool:
        return done.get(escaped(source.url_of(entry.path)), "").partition("::")[0] in there

    left = [entry for entry in entries if not is_done(entry)]
    # What a worker died of was divided, and has the number of the whole before a hyphen.
    numbered = re.compile(rf"(\d{{{SHARD_DIGITS}}})(-[01]+)?\.{to}")
    numbers = [int(match[1]) for path in (*there, *reserved) if (match := numbered.fullmatch(path))]
    if entries and numbers and conversion.overwrite:
        raise ValueError("new shards would stand beside those that are there; remove these, or do not overwrite")
    first = max(numbers, default=-1) + 1
    return [
        Task(*_together(some), Packing.FILES, to, f"{number:0{SHARD_DIGITS}}.{to}")
        for number, some in enumerate(_batched(left, shard_size), first)
    ]


def _shards(by_packing: Mapping[Packing, Sequence[Entry]], to: Packing | None) -> dict[str, Task]:
    """Return the task of each shard, done or not, by its target."""
    tasks: dict[str, Task] = {}
    for packing, entries in by_packing.items():
        goal = to or packing
        if entries and goal not in (packing, Packing.FILES):
            raise ValueError(f"{packing} shards become {packing} shards or files; make files of them first")
        for entry in entries:
            suffix = next(one for one in SUFFIXES if entry.path.lower().endswith(one))
            stem = entry.path[: -len(suffix)]
            target = stem if goal is Packing.FILES else f"{stem}.{goal}"
            if target in tasks:
                raise ValueError(f"{tasks[target].sources[0]} and {entry.path} would both become {target}")
            if target == MANIFEST:
                raise ValueError(f"{entry.path} would become {MANIFEST}, where the manifest is")
            tasks[target] = Task((entry.path,), entry.size, packing, goal, target)
    return tasks


def _unfinished(
    source: Store, shards: Mapping[str, Task], conversion: Conversion, account: Account, there: Collection[str]
) -> list[Task]:
    """Return the tasks of those shards that are not done, or of which something failed or was removed."""
    removed = {
        shard for url, output in account.done.items() if output.partition("::")[0] not in there for shard in _above(url)
    }
    missing = Counter(shard for url in account.failed for shard in _above(url))
    superseded: dict[str, set[str]] = defaultdict(set)
    for url, output in account.superseded.items():
        for one in (url, *_above(url)):
            superseded[one].add(output)
    tasks = []
    for target, task in shards.items():
        url = escaped(source.url_of(task.sources[0]))
        is_gone = task.to is not Packing.FILES and escaped(target) not in there
        if conversion.overwrite or account.done.get(url) != escaped(target) or is_gone or url in removed:
            tasks.append(replace(task, superseded=frozenset(superseded[url]), missing=0 if is_gone else missing[url]))
    return tasks


def _above(url: str) -> Iterator[str]:
    """Yield what may be the shard that holds a picture, for a store's URL may itself have ``::`` in it."""
    parts = url.split("::")
    return ("::".join(parts[:count]) for count in range(1, len(parts)))


def _check_apart(files: Sequence[Entry], shards: Mapping[str, Task]) -> None:
    """Refuse files that would come among those of a shard."""
    folders = {target for target, task in shards.items() if task.to is Packing.FILES}
    for entry in files if folders else ():
        for folder in folders & {str(parent) for parent in PurePosixPath(entry.path).parents}:
            other = shards[folder].sources[0]
            raise ValueError(f"{entry.path} and what is in {other} would both become files in {folder}")


def _together(entries: Sequence[Entry]) -> tuple[tuple[str, ...], int]:
    return tuple(entry.path for entry in entries), sum(entry.size for entry in entries)


def _batched(entries: Sequence[Entry], size: int) -> list[Sequence[Entry]]:
    return [entries[start : start + size] for start in range(0, len(entries), size)]
