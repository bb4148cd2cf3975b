"""Tasks done by actors of Ray Data, on one machine or many; an actor that dies is started again, and so is its task.

Every node needs this package and what the stores' URLs ask for, and must reach source and target: on a cluster of
several nodes these are URLs of an object store, or paths that all nodes share.
"""

import logging
import os
import pickle
import platform
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import summary_of
from ...runtime.accelerators import CPU, type_of
from ...runtime.threads import available_cores, use_cores_in_process
from ..manifest import ManifestRow
from ..storage.stores import Store
from ..tasks import WORKER_DIED, Conversion, Task

if TYPE_CHECKING:
    import pyarrow as pa

    from ..progress import ProgressListener
    from ..worker import Worker

MAX_WORKER_DEATHS = 2
"""The number of workers that may die of a task before it is divided; a part is divided, or fails, with the first."""

BLOCKS = 10_000
"""The number of blocks of tasks, at most. Each costs Ray time, and its tasks come back together."""

CORE_LOG_LEVEL = "RAY_BACKEND_LOG_LEVEL"
"""Environment variable of Ray's: what its compiled part logs."""

POLL_SECONDS = 0.5
"""Seconds between two questions to the cluster how far tasks are."""

Outcome = list[tuple[Task, list[ManifestRow]]] | Exception
"""The result of a task, or of its parts; or the error that ends the run, for Ray wraps what is raised in its own."""

_logger = logging.getLogger("pillow_sdc")


class Pool(NamedTuple):
    """What is asked of a cluster.

    Attributes:
        least: How many actors there are at first.
        most: To how many they may grow.
        gpus: What share of a GPU each takes.
        device: Where each computes.
    """

    least: int
    most: int
    gpus: float
    device: str


class RayEngine:
    """Actors on a Ray cluster. Each takes a core, or a GPU or a share of one, and loads the model once.

    The cluster is that which this process is connected to, that of ``RAY_ADDRESS``, one that runs on this machine, or
    else one that is started here and ends with the run; with ``RAY_ADDRESS=local`` it is always such a one.
    """

    def __init__(
        self, workers: int | None = None, *, max_workers: int | None = None, gpus_per_worker: float | None = None
    ) -> None:
        """Set the number of workers, and the share of a GPU that each takes.

        Args:
            workers: How many; as many as the cluster has room for now unless given.
            max_workers: To how many they may grow while tasks wait, the cluster with them if it can; they stay as many
                as they are unless given.
            gpus_per_worker: What share of a GPU each takes; a whole one, where there are GPUs, unless given.

        Raises:
            ValueError: Such workers there cannot be.
        """
        if max_workers is not None and max_workers < (workers or 1):
            raise ValueError(f"max_workers is {max_workers}; it must be at least {workers or 1}")
        if gpus_per_worker is not None and not 0 <= gpus_per_worker <= 1:
            raise ValueError(f"gpus_per_worker is {gpus_per_worker}; it must be from 0 to 1")
        self._workers, self._max_workers, self._gpus_per_worker = workers, max_workers, gpus_per_worker

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: "ProgressListener"
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        """Yield tasks that are done, and the results of their pictures.

        A task that several workers died of is divided, in the end into files; what cannot be divided then has failed.

        Raises:
            ModelUnavailableError: The model is not there and cannot be had.
            RuntimeError: There is no cluster, or Ray failed.
            ValueError: Workers are to take GPUs, but the settings name another device.
            OSError: The disk is full.
        """
        if not tasks:
            return
        with _connected():
            import ray

            resolved = conversion.resolved()
            pool = self.pool(ray.cluster_resources(), resolved.settings["device"])
            placed = replace(resolved, settings={**resolved.settings, "device": pool.device})
            for pickled in _outcomes(tasks, pool, source.url, target.url, placed, listener):
                outcome: Outcome = pickle.loads(pickled)  # noqa: S301 - an actor of ours made it
                if isinstance(outcome, Exception):
                    raise outcome
                yield from outcome

    def pool(self, cluster: Mapping[str, float], device: str) -> Pool:
        """Return what to ask of a cluster with such resources, by their names at Ray, for a device of the settings.

        Raises:
            ValueError: Workers are to take GPUs, but the device is another.
        """
        gpus = self._gpus_per_worker
        if gpus and type_of(device) not in ("auto", "cuda"):
            raise ValueError(f"gpus_per_worker is {gpus}, but the device is {device}")
        if gpus is None:
            gpus = 1.0 if cluster.get("GPU") and type_of(device) in ("auto", "cuda") else 0.0
        if gpus:
            if not cluster.get("GPU"):
                _logger.warning("the Ray cluster has no GPU yet; workers wait until it has")
            device = "cuda"  # the only one that an actor sees, or the first of several
            room = max(1, int(cluster.get("GPU", 0)) * int(1 / gpus))
        else:
            device = "cpu" if device == "auto" else device
            room = max(1, int(cluster.get("CPU", 0)))
        least = self._workers or min(room, self._max_workers or room)
        return Pool(least, self._max_workers or least, gpus, device)


ProgressRecord = tuple[int, tuple[int, int] | None]
"""The number of a task, and the bytes of a picture's file and of its result; ``None`` when the task is begun."""


class _ProgressActor:
    """An actor that knows how far tasks are, and how often they, or parts of them, were begun.

    It outlives those that do them.
    """

    def __init__(self) -> None:
        self._counts = Counter[tuple[int, ...]]()
        self._records: list[ProgressRecord] = []

    def begin(self, place: tuple[int, ...]) -> int:
        """Count what is begun, and return how often it was without coming to an end."""
        self._counts[place] += 1
        if len(place) == 1:
            self._records.append((place[0], None))
        return self._counts[place]

    def converted(self, number: int, source_bytes: int, output_bytes: int) -> None:
        """Learn that one more picture of a task is converted."""
        self._records.append((number, (source_bytes, output_bytes)))

    def records(self) -> list[ProgressRecord]:
        """Return what came in since the last call."""
        records, self._records = self._records, []
        return records

    def end(self, place: tuple[int, ...]) -> None:
        """Forget what is done."""
        del self._counts[place]


class _Actor:
    """A worker, as Ray Data wants it: called with a table of tasks, it returns one of their results."""

    def __init__(self, progress_actor: Any, source: str, target: str, conversion: Conversion) -> None:
        if conversion.settings["device"] != CPU:
            threads = available_cores()  # Ray sets OMP_NUM_THREADS to 1, by which they would be too few beside a GPU
        else:
            use_cores_in_process(1)
            threads = 1
        self._progress_actor = progress_actor
        self._work = source, target, conversion, threads

    def __call__(self, tasks: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        numbers, pickled = (tasks[name].to_pylist() for name in ("number", "task"))
        outcomes = [
            pickle.dumps(self._outcome(number, pickle.loads(task)))  # noqa: S301 - this module made it
            for number, task in zip(numbers, pickled, strict=True)
        ]
        return pa.table({"outcome": pa.array(outcomes, pa.binary())})

    @cached_property
    def _worker(self) -> "Worker":
        from ..worker import Worker

        source, target, conversion, threads = self._work
        return Worker(Store(source), Store(target), conversion, threads=threads)

    def _outcome(self, number: int, task: Task) -> Outcome:
        try:
            return self._do(task, number)
        except Exception as error:
            from ..worker import ends_run

            if ends_run(error):
                return error
            return RuntimeError(f"a worker on {platform.node()} failed: {summary_of(error)}")

    def _do(self, task: Task, *place: int) -> list[tuple[Task, list[ManifestRow]]]:
        """Do a task, or a part of one, unless too many workers died of it.

        Args:
            task: What is to be done.
            place: The number of the task, that of its part, and so on.
        """
        import ray

        allowed = MAX_WORKER_DEATHS if len(place) == 1 else 1
        if ray.get(self._progress_actor.begin.remote(place)) <= allowed:
            rows = self._worker.do(task, partial(self._progress_actor.converted.remote, place[0]))
            self._progress_actor.end.remote(place)
            return [(task, rows)]
        if len(parts := task.parts()) > 1:
            return [done for number, part in enumerate(parts) for done in self._do(part, *place, number)]
        url = Store(self._work[0]).url_of(task.sources[0])
        return [(task, [ManifestRow(url, error=WORKER_DIED, finished=time.time())])]


def _outcomes(
    tasks: Sequence[Task], pool: Pool, source: str, target: str, conversion: Conversion, listener: "ProgressListener"
) -> Iterator[bytes]:
    """Yield the result of each task, pickled.

    Raises:
        RuntimeError: Ray failed.
    """
    import ray.data
    import ray.exceptions

    # Ray starts actors again and gives them the same task for as long as they die, so it is for us to count.
    progress_actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_ProgressActor).remote()
    blocks = min(len(tasks), BLOCKS)
    least, most = (min(count, blocks) for count in (pool.least, pool.most))
    with _console_silenced(), _progress_reported(progress_actor, tasks, listener):
        try:
            dataset = ray.data.from_items(
                [{"number": number, "task": pickle.dumps(task)} for number, task in enumerate(tasks)],
                override_num_blocks=blocks,
            )
            dataset.context.enable_progress_bars = False
            dataset.context.execution_no_progress_timeout_s = -1  # a large shard takes more than its half an hour
            done = dataset.map_batches(
                _Actor,
                batch_size=1,
                batch_format="pyarrow",
                fn_constructor_args=(progress_actor, source, target, conversion),
                compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
                num_gpus=pool.gpus or None,
            )
            for table in done.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                yield from table["outcome"].to_pylist()
        except ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            reason = lines[-1] if isinstance(error, ray.exceptions.ActorDiedError) else lines[0]
            raise RuntimeError(f"Ray failed: {reason}") from error


@contextmanager
def _progress_reported(progress_actor: Any, tasks: Sequence[Task], listener: "ProgressListener") -> Iterator[None]:
    """Pass on, in a thread, what the actor knows of tasks, until all that is known at the block's end is passed on."""
    import ray
    import ray.exceptions

    ended = threading.Event()

    def pass_on() -> None:
        is_last = False
        while not is_last:
            is_last = ended.wait(POLL_SECONDS)
            with suppress(ray.exceptions.RayError):  # whoever does the tasks says what is wrong with the cluster
                for number, converted in ray.get(progress_actor.records.remote()):
                    if converted is None:
                        listener.begun(tasks[number])
                    else:
                        listener.converted(tasks[number], *converted)

    thread = threading.Thread(target=pass_on, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _connected() -> Iterator[None]:
    """Be connected to a cluster; a connection that was made for the block ends with it.

    Raises:
        RuntimeError: There is no cluster at that address, or none can be started.
    """
    import ray
    import ray.exceptions

    if ray.is_initialized():
        yield
        return
    try:
        with _quiet_core():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise RuntimeError(f"no Ray cluster: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet_core() -> Iterator[None]:
    """Let the compiled part of Ray, which starts in the block, write nothing to standard error but its last words.

    It would warn in each run that actors of Ray Data cannot be started again if their arguments are lost. This process
    keeps these, and without it there is no run. The line in which Ray says that it logs less is dropped, too. Whoever
    sets :data:`CORE_LOG_LEVEL` in the environment gets all of it.
    """
    if CORE_LOG_LEVEL in os.environ:
        yield
        return
    os.environ[CORE_LOG_LEVEL] = "fatal"
    try:
        with _without_lines(CORE_LOG_LEVEL.encode()):
            yield
    finally:
        del os.environ[CORE_LOG_LEVEL]


@contextmanager
def _without_lines(dropped: bytes) -> Iterator[None]:
    """Write what goes to standard error in the block after it, without the lines in which something stands."""
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            for line in said:
                if dropped not in line:
                    os.write(2, line)


@contextmanager
def _console_silenced() -> Iterator[None]:
    """Keep Ray Data's messages, which are meant for its own users, in its log files."""
    consoles = [handler for handler in logging.getLogger("ray.data").handlers if handler.name == "console"]
    levels = [handler.level for handler in consoles]
    for handler in consoles:
        handler.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for handler, level in zip(consoles, levels, strict=True):
            handler.setLevel(level)
