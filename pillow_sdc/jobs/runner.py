"""A run: found, planned, done, accounted for."""

import json
import os
import platform
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from .manifest import FOLDER, PENDING, UNFINISHED, Manifest, Row, written
from .planning import kept, omissions, plan
from .storage.stores import Entry, Store, found
from .tasks import Conversion, Kind, Task

LOCK = f"{FOLDER}/_lock"


class Watch(Protocol):
    """Learns how far tasks are that are not done yet; called in any thread."""

    def begun(self, task: Task) -> None:
        """Take in that a task is begun, or begun again."""

    def converted(self, task: Task, source_bytes: int, output_bytes: int) -> None:
        """Take in that one more picture of a task is converted and, if it becomes a file of its own, written."""


class Engine(Protocol):
    """Has tasks done."""

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, watch: Watch
    ) -> Iterator[tuple[Task, list[Row]]]:
        """Yield finished tasks, in any order, and the results of their pictures; ``watch`` learns of progress."""


@dataclass
class Underway:
    """How far a task is that is not done yet.

    Attributes:
        task: The task.
        pictures: How many of it were converted.
        source_bytes: Of these.
        output_bytes: Of what they became.
    """

    task: Task
    pictures: int = 0
    source_bytes: int = 0
    output_bytes: int = 0


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        total: Bytes of the sources.
        done: Bytes of those that are done, failed ones among them.
        pictures: How many were converted.
        found: How many were there already.
        otherwise: How many of these were made with other options, by these options.
        options: The options of the run, in the same words.
        remarks: How many of these lack something of their source, of which the manifest tells.
        failed: How many were not.
        source_bytes: Of the pictures that were converted.
        output_bytes: Of what they became.
        errors: What failed in the last task, source by source. A shard that lacks some pictures is not among them, for
            these are.
        omitted: How many files of the source are neither pictures nor shards, by their kinds.
        underway: How far tasks are that are not done yet, by their first source.
    """

    total: int
    done: int = 0
    pictures: int = 0
    found: int = 0
    otherwise: Counter[str] = field(default_factory=Counter)
    options: str = ""
    remarks: int = 0
    failed: int = 0
    source_bytes: int = 0
    output_bytes: int = 0
    errors: Sequence[Row] = ()
    omitted: Counter[str] = field(default_factory=Counter)
    underway: dict[str, Underway] = field(default_factory=dict)

    def add(self, task: Task, rows: Sequence[Row]) -> None:
        """Count what a task brought."""
        self.underway.pop(task.sources[0], None)
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
                if row.options not in (None, self.options):
                    self.otherwise[row.options] += 1

    def so_far(self) -> "Progress":
        """Return the progress with what is converted of tasks that are not done yet."""
        return self._with(self.underway.values())

    def broken_off(self) -> "Progress":
        """Return the progress of a run that ends now: of tasks that are not done there are the files, but no shards."""
        return self._with([part for part in self.underway.values() if part.task.to is Kind.FILES])

    def _with(self, parts: Collection[Underway]) -> "Progress":
        return replace(
            self,
            done=self.done + sum(min(part.source_bytes, part.task.size) for part in parts),
            pictures=self.pictures + sum(part.pictures for part in parts),
            source_bytes=self.source_bytes + sum(part.source_bytes for part in parts),
            output_bytes=self.output_bytes + sum(part.output_bytes for part in parts),
            underway={},
        )


class _Watch:
    """Reports how far a run is, one report at a time.

    What is said of a task may come after its results, on another way.
    """

    def __init__(self, progress: Progress, report: Callable[[Progress], None]) -> None:
        self._progress, self._report = progress, report
        self._lock = threading.Lock()
        self._ended: set[str] = set()

    def begun(self, task: Task) -> None:
        with self._lock:
            if task.sources[0] not in self._ended:
                self._progress.underway[task.sources[0]] = Underway(task)

    def converted(self, task: Task, source_bytes: int, output_bytes: int) -> None:
        with self._lock:
            part = self._progress.underway.get(task.sources[0])
            if part is None:
                return
            part.pictures += 1
            part.source_bytes += source_bytes
            part.output_bytes += output_bytes
            self._report(replace(self._progress.so_far(), errors=()))

    def add(self, task: Task, rows: Sequence[Row]) -> None:
        """Take in the results of a task."""
        with self._lock:
            self._ended.add(task.sources[0])
            self._progress.add(task, rows)
            self._report(self._progress.so_far())

    def break_off(self) -> None:
        """Take in that the run ends before its time."""
        with self._lock:
            self._report(replace(self._progress.broken_off(), errors=()))


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
        report: Called at the start, for each picture that is converted, for each task that is done, and where the run
            is broken off; in any thread, but never twice at a time.

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
        before = manifest.options()
        there = {written(entry.path) for entry in goal.find()}
        account = manifest.account()
        tasks = plan(store, entries, conversion, to=to, shard_size=shard_size, account=account, there=there)
        options = conversion.described()
        there_already, otherwise = kept(store, entries, conversion, to=to, account=account, tasks=tasks)
        progress = Progress(
            sum(task.size for task in tasks),
            found=there_already,
            otherwise=otherwise,
            options=options,
            omitted=omissions(store, entries, conversion),
        )
        report(progress)
        watch = _Watch(progress, report)
        manifest.begin(options)
        outcomes = engine(tasks, store, goal, conversion, watch)
        try:
            for task, rows in outcomes:
                rows = [replace(row, options=before if row.seconds is None else options) for row in rows]
                news = [row for row in rows if row.seconds is not None or row.error or _is_new(row, account.done)]
                manifest.add(news, task.target if task.to is not Kind.FILES else None)
                watch.add(task, rows)
        except BaseException:
            _end(outcomes)
            watch.break_off()
            raise
        finally:
            goal.remove(UNFINISHED)
            manifest.write()
        goal.remove(PENDING)
        manifest.end()
    return progress


def _end(outcomes: Iterator[object]) -> None:
    """See to it that no worker is at work any more."""
    if isinstance(outcomes, Generator):
        outcomes.close()


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
