"""The progress of a run: counted from what its engine reports, and shown to the caller."""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol

from .manifest import ManifestRow
from .tasks import Packing, Task


class ProgressListener(Protocol):
    """Learns how far tasks are that are not done yet; called in any thread."""

    def begun(self, task: Task) -> None:
        """Learn that a task is begun, or begun again."""

    def within(self, task: Task, done: int, steps: int) -> None:
        """Learn how many steps of a task are done; not all engines report it."""

    def converted(self, task: Task, source_bytes: int, output_bytes: int) -> None:
        """Learn that one more picture of a task is converted and, if it becomes a file of its own, written."""


@dataclass
class TaskProgress:
    """How far a task is that is not done yet.

    Attributes:
        task: The task.
        pictures: The number of its pictures that were converted.
        source_bytes: The bytes of these.
        output_bytes: The bytes of their new files.
        share: The share of the work that is done, 0 to 1, where the engine reports it.
    """

    task: Task
    pictures: int = 0
    source_bytes: int = 0
    output_bytes: int = 0
    share: float = 0.0

    @property
    def done(self) -> int:
        """How many of the task's bytes are done."""
        return min(max(self.source_bytes, int(self.share * self.task.size)), self.task.size)


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        total: Bytes of the sources.
        done: Bytes of those that are done, failed ones among them.
        count: How many pictures there are to convert, where that is known.
        pictures: How many were converted.
        found: How many were there already.
        made_with_other_options: How many of these were made with other options, by these options.
        options: The options of the run, in the same words.
        remarks: How many of these lack something of their source, named in the manifest.
        failed: How many were not.
        source_bytes: The bytes of the pictures that were converted.
        output_bytes: The bytes of their new files.
        errors: What failed in the last task, source by source. A shard that lacks some pictures is not among them, for
            these are.
        remarked: Those pictures of the last task that lack something of their source.
        name: The source that is being converted, if it is one alone.
        skipped: How many files of the source are neither pictures nor shards, by their kinds.
        in_progress: How far tasks are that are not done yet, by their first source.
    """

    total: int
    done: int = 0
    count: int | None = None
    pictures: int = 0
    found: int = 0
    made_with_other_options: Counter[str] = field(default_factory=Counter)
    options: str = ""
    remarks: int = 0
    failed: int = 0
    source_bytes: int = 0
    output_bytes: int = 0
    errors: Sequence[ManifestRow] = ()
    remarked: Sequence[ManifestRow] = ()
    name: str = ""
    skipped: Counter[str] = field(default_factory=Counter)
    in_progress: dict[str, TaskProgress] = field(default_factory=dict)

    def add(self, task: Task, rows: Sequence[ManifestRow]) -> None:
        """Count what a task brought."""
        self.in_progress.pop(task.sources[0], None)
        self.done += task.size
        self.errors = [row for row in rows if row.error is not None and row.output is None]
        self.failed += len(self.errors)
        self.remarked = [row for row in rows if row.error is None and row.remark is not None]
        self.remarks += len(self.remarked)
        for row in rows:
            if row.error is None and row.seconds is not None:
                self.pictures += 1
                self.source_bytes += row.source_bytes or 0
                self.output_bytes += row.output_bytes or 0
            elif row.error is None and row.codec is not None:
                self.found += 1
                if row.options not in (None, self.options):
                    self.made_with_other_options[row.options] += 1

    def so_far(self) -> "Progress":
        """Return the progress with what is converted of tasks that are not done yet."""
        return self._with(self.in_progress.values())

    def interrupted(self) -> "Progress":
        """Return the progress of a run that ends now: of tasks that are not done there are the files, but no shards."""
        return self._with([part for part in self.in_progress.values() if part.task.to is Packing.FILES])

    def _with(self, parts: Collection[TaskProgress]) -> "Progress":
        return replace(
            self,
            done=self.done + sum(part.done for part in parts),
            pictures=self.pictures + sum(part.pictures for part in parts),
            source_bytes=self.source_bytes + sum(part.source_bytes for part in parts),
            output_bytes=self.output_bytes + sum(part.output_bytes for part in parts),
            name=_name([part.task for part in self.in_progress.values()]),
            in_progress={},
        )


def _name(tasks: Sequence[Task]) -> str:
    """Return the source that tasks are of, if it is one alone."""
    sources = [source for task in tasks for source in task.sources]
    return sources[0] if len(sources) == 1 else ""


class Reporter(ProgressListener):
    """Reports how far a run is, one report at a time.

    What is said of a task may come after its results, on another way.
    """

    def __init__(self, progress: Progress, report: Callable[[Progress], None]) -> None:
        self._progress, self._report = progress, report
        self._lock = threading.Lock()
        self._ended: set[str] = set()

    def begun(self, task: Task) -> None:
        """See :class:`ProgressListener`."""
        with self._lock:
            if task.sources[0] not in self._ended:
                self._progress.in_progress[task.sources[0]] = TaskProgress(task)

    def within(self, task: Task, done: int, steps: int) -> None:
        """See :class:`ProgressListener`."""
        with self._lock:
            self._progress.in_progress[task.sources[0]].share = done / max(1, steps)
            self._report_so_far()

    def converted(self, task: Task, source_bytes: int, output_bytes: int) -> None:
        """See :class:`ProgressListener`."""
        with self._lock:
            part = self._progress.in_progress.get(task.sources[0])
            if part is None:
                return
            part.pictures += 1
            part.source_bytes += source_bytes
            part.output_bytes += output_bytes
            self._report_so_far()

    def add(self, task: Task, rows: Sequence[ManifestRow]) -> None:
        """Count the results of a task, and report."""
        with self._lock:
            self._ended.add(task.sources[0])
            self._progress.add(task, rows)
            self._report(self._progress.so_far())

    @contextmanager
    def following(self, outcomes: Iterator[object]) -> Iterator[None]:
        """Stop all workers and report what is done, if the block ends with an error."""
        try:
            yield
        except BaseException:
            if isinstance(outcomes, Generator):
                outcomes.close()
            with self._lock:
                self._report(replace(self._progress.interrupted(), errors=(), remarked=()))
            raise

    def _report_so_far(self) -> None:
        self._report(replace(self._progress.so_far(), errors=(), remarked=()))


def count_of(tasks: Sequence[Task]) -> int | None:
    """Return how many pictures tasks are of; ``None`` if some are in shards, which nobody has counted."""
    return (
        None if any(task.packing is not Packing.FILES for task in tasks) else sum(len(task.sources) for task in tasks)
    )
