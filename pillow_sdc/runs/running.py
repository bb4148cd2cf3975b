"""A run: found, planned, done, accounted for."""

import json
import os
import platform
import secrets
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from ..files.stores import Entry, Store, found
from .manifest import FOLDER, PENDING, UNFINISHED, Manifest, Row, written
from .planning import omissions, plan
from .tasks import Conversion, Kind, Task

LOCK = f"{FOLDER}/_lock"


class Engine(Protocol):
    """Has tasks done."""

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion
    ) -> Iterator[tuple[Task, list[Row]]]:
        """Yield tasks that are done, in any order, and the results of their pictures."""


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        total: Bytes of the sources.
        done: Bytes of those that are done, failed ones among them.
        pictures: How many were converted.
        found: How many were there already without being in the manifest, and are now.
        remarks: How many of these lack something of their source, of which the manifest tells.
        failed: How many were not.
        source_bytes: Of the pictures that were converted.
        output_bytes: Of what they became.
        errors: What failed in the last task, source by source. A shard that lacks some pictures is not among them, for
            these are.
        omitted: How many files of the source are neither pictures nor shards, by their kinds.
    """

    total: int
    done: int = 0
    pictures: int = 0
    found: int = 0
    remarks: int = 0
    failed: int = 0
    source_bytes: int = 0
    output_bytes: int = 0
    errors: Sequence[Row] = ()
    omitted: Counter[str] = field(default_factory=Counter)

    def add(self, task: Task, rows: Sequence[Row]) -> None:
        """Count what a task brought."""
        self.done += task.size
        self.errors = [row for row in rows if row.error is not None and row.output is None]
        self.failed += len(self.errors)
        for row in rows:
            if row.error is None and row.seconds is not None:
                self.pictures += 1
                self.remarks += row.remark is not None
                self.source_bytes += row.source_bytes or 0
                self.output_bytes += row.output_bytes or 0
            elif row.error is None and row.codec is not None:
                self.found += 1


def run(
    source: str,
    target: str,
    conversion: Conversion,
    engine: Engine,
    *,
    to: Kind | None = None,
    shard_size: int = 1000,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Convert the pictures of one store into another; those that are there already are not done again.

    What failed in an earlier run is tried again. A shard of which pictures failed is made anew, and replaced unless
    more of them fail.

    Args:
        source: A folder, a file or a pattern, by path or URL.
        target: A folder, likewise.
        conversion: What becomes of each picture.
        engine: Has it done.
        to: How the pictures are kept in the target; as in the source unless given.
        shard_size: How many pictures go into a shard, where files are packed.
        report: Called at the start and after each task.

    Returns:
        What was done.

    Raises:
        OSError: The source cannot be found, the target not be written, the model not be had, or another run has this
            target.
        ValueError: Source and target do not fit together.
    """
    store, entries = found(source)
    goal = Store(target)
    entries = _without(goal, store, entries)
    with locked(goal):
        manifest = Manifest(goal)
        manifest.recover()
        there = {written(entry.path) for entry in goal.find()}
        account = manifest.account()
        tasks = plan(store, entries, conversion, to=to, shard_size=shard_size, account=account, there=there)
        progress = Progress(sum(task.size for task in tasks), omitted=omissions(store, entries, conversion))
        report(progress)
        outcomes = engine(tasks, store, goal, conversion)
        try:
            for task, rows in outcomes:
                news = [row for row in rows if row.seconds is not None or row.error or _is_new(row, account.done)]
                manifest.add(news, task.target if task.to is not Kind.FILES else None)
                progress.add(task, rows)
                report(progress)
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()  # so that no worker is at work any more
            manifest.write()
            goal.remove(UNFINISHED)
        goal.remove(PENDING)
    return progress


def _is_new(row: Row, done: Mapping[str, str]) -> bool:
    return row.source not in done or done[row.source] != row.output


def _without(goal: Store, store: Store, entries: Sequence[Entry]) -> list[Entry]:
    """Return files without those in the target.

    Raises:
        ValueError: None is left.
    """
    if goal.folder is not None and store.folder is not None:
        start, within = f"{store.folder.resolve()}/", f"{goal.folder.resolve()}/"
    else:
        start, within = store.url_of(""), goal.url_of("")
    left = [entry for entry in entries if not (start + entry.path).startswith(within)]
    if not left:
        raise ValueError(f"all of {store} is in {goal}; source and target must be apart")
    return left


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Keep other runs from a target.

    Raises:
        OSError: Another run has it, or it cannot be written.
    """
    if store.folder is not None:
        from filelock import FileLock, Timeout

        path = store.folder / LOCK
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)  # which the system gives back when the process ends, however that happens
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise OSError(f"another run is writing to {store}") from None
        try:
            yield
        finally:
            lock.release()
        return
    since = time.strftime("%Y-%m-%d %H:%M:%S %z")
    about = {"host": platform.node(), "process": os.getpid(), "since": since, "run": secrets.token_hex(8)}
    try:
        store.create(LOCK, json.dumps(about).encode())
    except FileExistsError:
        other = store.read(LOCK).decode("utf-8", "replace")
        url = store.url_of(LOCK)
        raise OSError(f"another run is writing to {store}: {other}; if it is no more, remove {url}") from None
    try:
        yield
    finally:
        store.remove(LOCK)
