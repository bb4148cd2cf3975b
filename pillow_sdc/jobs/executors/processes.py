"""Tasks done by processes of this machine; one that dies takes its own work alone with it, which is done again."""

import itertools
import multiprocessing
import os
import signal
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, TypeVar

from ...runtime.accelerators import CPU
from ...runtime.threads import cores, use_cores_in_process
from ..manifest import ManifestRow
from ..storage.stores import Store
from ..tasks import WORKER_DIED, Conversion, Task

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from ..progress import ProgressListener
    from ..worker import Worker

Result = TypeVar("Result")

TASKS_QUEUED_PER_WORKER = 2
"""The number of tasks that are submitted at a time for each worker."""

DEATHS_BEFORE_ISOLATION = 2
"""The number of workers that died during a task after which it is done alone, as a suspect."""

SHUTDOWN_GRACE_SECONDS = 2.0
"""Seconds that a worker which is to end has to write and report the picture that it is working on."""

_METHOD = multiprocessing.get_context("spawn")

_PROGRESS_RECORD = struct.Struct("<qqq")
"""A worker's report: a task's number, and the bytes of a picture's file and of its result, or twice :data:`_BEGUN`.
All workers write into one pipe; what is as short as this arrives whole, also from one that dies."""
_BEGUN, _END = -1, -2


class LocalEngine:
    """Worker processes. Without CUDA each computes on one core; with CUDA each takes a GPU, in turn."""

    def __init__(self, workers: int | None = None) -> None:
        """Set the number of workers; as many as there are cores, or GPUs, unless given."""
        self._workers = workers

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion, listener: "ProgressListener"
    ) -> Iterator[tuple[Task, list[ManifestRow]]]:
        """Yield tasks that are done, and the results of their pictures.

        A task during which several workers died is a suspect, and done while no other is. If its worker dies then,
        too, it is divided, in the end into files; a file, or a shard, of which a worker died alone has failed.

        Raises:
            ModelUnavailableError: The model is not here and cannot be had.
            RuntimeError: Workers cannot be started here.
        """
        if not tasks:
            return
        conversion = conversion.resolved()
        places = _places(conversion)
        workers = self._workers or len(places)
        waiting, suspects = deque(tasks), deque[Task]()
        deaths = Counter[Task]()
        while waiting or suspects:
            alone = bool(suspects)
            queue, count = (suspects, 1) if alone else (waiting, min(workers, len(waiting)))
            flight: dict[Future[list[ManifestRow]], Task] = {}
            started = _pool(count, places, (source.url, target.url, conversion), listener)
            with started as (pool, numbered), suppress(BrokenProcessPool):
                yield from _done(pool, queue, numbered, flight, 1 if alone else TASKS_QUEUED_PER_WORKER * count)
            lost = []
            for future, task in flight.items():
                if _succeeded(future):
                    yield task, future.result()
                else:
                    lost.append(task)
            for task in reversed(lost):
                deaths[task] += 1
                if not alone:
                    (suspects if deaths[task] >= DEATHS_BEFORE_ISOLATION else waiting).appendleft(task)
                elif len(parts := task.parts()) > 1:
                    suspects.extendleft(reversed(parts))
                else:
                    yield task, [ManifestRow(source.url_of(task.sources[0]), error=WORKER_DIED, finished=time.time())]


def _done(
    pool: ProcessPoolExecutor,
    tasks: deque[Task],
    numbered: list[Task],
    flight: dict[Future[list[ManifestRow]], Task],
    ahead: int,
) -> Iterator[tuple[Task, list[ManifestRow]]]:
    """Yield what is done; those in ``flight`` are neither that nor any more among ``tasks``.

    Workers know tasks by their places in ``numbered``.
    """
    while tasks or flight:
        while tasks and len(flight) < ahead:
            numbered.append(tasks[0])
            flight[_submitted(pool, _do, len(numbered) - 1, tasks[0])] = tasks[0]
            tasks.popleft()
        finished, _ = wait(flight, return_when=FIRST_COMPLETED)
        for future in finished:
            rows = future.result()
            yield flight.pop(future), rows


def _submitted(pool: ProcessPoolExecutor, act: Callable[..., Result], *arguments: object) -> Future[Result]:
    """Submit a call to a pool; workers that it starts for that never learn of Ctrl-C, which is the parent's affair."""
    if not hasattr(signal, "pthread_sigmask"):
        return pool.submit(act, *arguments)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(act, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _succeeded(future: Future[list[ManifestRow]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _places(conversion: Conversion) -> list[str]:
    """Return where workers compute, device by device: the GPUs, or for each core the CPU."""
    import pillow_sdc

    from ...models import get_models
    from ...models.devices import count_devices

    with pillow_sdc.configure(**conversion.settings) as settings:
        device = get_models(settings).device
    if device == CPU:
        return [device] * cores()
    if ":" in device or find_spec("torch") is None:
        return [device]
    # None of a type that onnxruntime knows, and torch does not.
    return [f"{device}:{index}" for index in range(count_devices(device))] or [device]


@contextmanager
def _pool(
    workers: int, places: Sequence[str], work: tuple[str, str, Conversion], listener: "ProgressListener"
) -> Iterator[tuple[ProcessPoolExecutor, list[Task]]]:
    """Start workers, which end with the block, or with this process, however it ends.

    Yields:
        The workers, and a list for the tasks that they are given, by which ``listener`` learns how far these are.

    Raises:
        RuntimeError: They cannot be started.
    """
    parent_reader, parent_writer = _METHOD.Pipe(duplex=False)
    devices = _METHOD.SimpleQueue()
    for device in itertools.islice(itertools.cycle(places), workers):
        devices.put(device)
    progress_reader, progress_writer = _METHOD.Pipe(duplex=False)
    numbered: list[Task] = []
    reading = threading.Thread(target=_read_progress, args=(progress_reader, numbered, listener), daemon=True)
    with parent_reader, progress_reader, progress_writer:
        reading.start()
        pool = ProcessPoolExecutor(workers, _METHOD, _begin, (parent_reader, progress_writer, devices, *work))
        try:
            try:
                _submitted(pool, int).result()
            except BrokenProcessPool as error:
                raise RuntimeError("workers cannot be started: each imports this program's main module") from error
            yield pool, numbered
        finally:
            parent_writer.close()
            pool.shutdown(cancel_futures=True)
            progress_writer.send_bytes(_PROGRESS_RECORD.pack(_END, 0, 0))
            reading.join()  # so that all reports have arrived


def _read_progress(progress_reader: Connection, numbered: Sequence[Task], listener: "ProgressListener") -> None:
    """Pass on what workers report, until :data:`_END`."""
    while (record := _PROGRESS_RECORD.unpack(progress_reader.recv_bytes()))[0] != _END:
        number, source_bytes, output_bytes = record
        with suppress(Exception):  # what prevents a report prevents the next one in the main thread, which raises it
            if source_bytes == _BEGUN:
                listener.begun(numbered[number])
            else:
                listener.converted(numbered[number], source_bytes, output_bytes)


_worker: "Worker | None" = None
_progress_writer: Connection | None = None


class CriticalSections:
    """Blocks in the midst of which a process does not end."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0

    @contextmanager
    def section(self) -> Iterator[None]:
        """Do a block as a whole; several threads can do so at once."""
        with self._changed:
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def end(self, leave: Callable[[], None]) -> None:
        """Leave once no block is being done, or :data:`SHUTDOWN_GRACE_SECONDS` is over; no other begins meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: not self._count, SHUTDOWN_GRACE_SECONDS)
            leave()


_critical_sections = CriticalSections()


def _begin(
    parent_reader: Connection,
    progress_writer: Connection,
    devices: "SimpleQueue[str]",
    source: str,
    target: str,
    conversion: Conversion,
) -> None:
    """Make a process a worker."""
    global _worker, _progress_writer
    _progress_writer = progress_writer
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[parent_reader], daemon=True).start()
    device = devices.get()
    threads = None
    if device == CPU:
        use_cores_in_process(1)
        threads = 1
    from ..worker import Worker

    placed = replace(conversion, settings={**conversion.settings, "device": device})
    _worker = Worker(Store(source), Store(target), placed, threads=threads, critical_section=_critical_sections.section)


def _end_with(parent: Connection) -> None:
    """Wait for the parent's end of the pipe to be closed, and end this process."""
    parent.poll(None)
    _critical_sections.end(lambda: os._exit(1))


def _do(number: int, task: Task) -> list[ManifestRow]:
    assert _worker is not None  # noqa: S101 - _begin was called
    assert _progress_writer is not None  # noqa: S101 - likewise
    say = _progress_writer.send_bytes
    say(_PROGRESS_RECORD.pack(number, _BEGUN, _BEGUN))
    return _worker.do(
        task, lambda source_bytes, output_bytes: say(_PROGRESS_RECORD.pack(number, source_bytes, output_bytes))
    )
