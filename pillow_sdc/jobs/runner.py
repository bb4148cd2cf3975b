"""Runs a job: finds the source's files, plans tasks, has an engine do them, and keeps the manifest."""

import json
import os
import platform
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from .manifest import PENDING, UNFINISHED, Manifest, ManifestRow, escaped
from .planning import choose, count_kept, plan
from .progress import Progress, ProgressListener, Reporter, count_of
from .storage.listing import MANIFEST, Entry
from .storage.stores import Store, find_source
from .tasks import Conversion, Packing, Task

LOCK = f"{MANIFEST}/_lock"


class Engine(Protocol):
    """Has tasks done."""

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: ProgressListener
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        """Yield finished tasks, in any order, and the results of their pictures; ``listener`` learns of progress."""


def run(
    source: str,
    target: str,
    conversion: Conversion,
    engine: Engine,
    *,
    to: Packing | None = None,
    shard_size: int = 1000,
    report: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Convert the pictures of one store into another; those that are there already are not done again.

    What failed in an earlier run is tried again. A shard of which pictures failed is made anew, and replaced unless
    more of them fail.

    Args:
        source: A folder, a file or a pattern, by path or URL.
        target: A folder, likewise.
        conversion: How each picture is converted.
        engine: Has the tasks done.
        to: How the pictures are kept in the target; as in the source unless given.
        shard_size: How many pictures go into a shard, where files are packed.
        report: Called at the start, for each picture that is converted, for each task that is done, and where the run
            is interrupted; in any thread, but never twice at a time.

    Returns:
        What was done.

    Raises:
        OSError: The source cannot be found, the target not be written, the model not be had, or another run has this
            target.
        ValueError: Source and target do not fit together.
    """
    store, entries = find_source(source)
    goal = Store(target)
    chosen, others = choose(store, _without(goal, store, entries), conversion)
    with locked(goal):
        manifest = Manifest(goal)
        manifest.recover()
        before = manifest.options()
        there = {escaped(entry.path) for entry in goal.find()}
        account = manifest.account()
        tasks = plan(store, chosen, conversion, to=to, shard_size=shard_size, account=account, there=there)
        options = conversion.described()
        there_already, made_with_other_options = count_kept(
            store, chosen, conversion, to=to, account=account, tasks=tasks
        )
        progress = Progress(
            sum(task.size for task in tasks),
            count=count_of(tasks),
            found=there_already,
            made_with_other_options=made_with_other_options,
            options=options,
            skipped=others,
        )
        report(progress)
        listener = Reporter(progress, report)
        manifest.begin(options)
        outcomes = engine(tasks, store, goal, conversion, listener)
        try:
            with listener.following(outcomes):
                for task, rows in outcomes:
                    rows = [replace(row, options=before if row.seconds is None else options) for row in rows]
                    new_rows = [
                        row for row in rows if row.seconds is not None or row.error or _is_new(row, account.done)
                    ]
                    manifest.add(new_rows, task.target if task.to is not Packing.FILES else None)
                    listener.add(task, rows)
        finally:
            goal.remove(UNFINISHED)
            manifest.write()
        goal.remove(PENDING)
        manifest.end()
    return progress


def _is_new(row: ManifestRow, done: Mapping[str, str]) -> bool:
    return done.get(escaped(row.source)) != (row.output and escaped(row.output))


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
