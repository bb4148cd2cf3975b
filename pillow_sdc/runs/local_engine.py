"""Tasks done by processes of this machine; one that dies takes its own work alone with it, which is done again."""

import itertools
import multiprocessing
import os
import signal
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

from ..files.stores import Store
from .manifest import Row
from .tasks import DIED, Conversion, Task

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue

    from .work import Worker

Result = TypeVar("Result")

AHEAD = 2
"""Tasks for each worker that are submitted at a time."""

PATIENCE = 2
"""At how many deaths of workers a task must have been to be a suspect."""

_METHOD = multiprocessing.get_context("spawn")


class LocalEngine:
    """Worker processes. Without CUDA each computes on one core; with CUDA each takes a GPU, in turn."""

    def __init__(self, workers: int | None = None) -> None:
        """Take how many workers there are to be: as many as cores, or as GPUs, unless given."""
        self._workers = workers

    def __call__(
        self, tasks: Sequence[Task], source: Store, target: Store, conversion: Conversion
    ) -> Iterator[tuple[Task, list[Row]]]:
        """Yield tasks that are done, and the results of their pictures.

        A task that was at several deaths of workers is a suspect, and done while no other is. If its worker dies then,
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
            flight: dict[Future[list[Row]], Task] = {}
            started = _pool(count, places, (source.url, target.url, conversion))
            with started as pool, suppress(BrokenProcessPool):
                yield from _done(pool, queue, flight, 1 if alone else AHEAD * count)
            lost = []
            for future, task in flight.items():
                if _succeeded(future):
                    yield task, future.result()
                else:
                    lost.append(task)
            for task in reversed(lost):
                deaths[task] += 1
                if not alone:
                    (suspects if deaths[task] >= PATIENCE else waiting).appendleft(task)
                elif len(parts := task.parts()) > 1:
                    suspects.extendleft(reversed(parts))
                else:
                    yield task, [Row(source.url_of(task.sources[0]), error=DIED, finished=time.time())]


def _done(
    pool: ProcessPoolExecutor, tasks: deque[Task], flight: dict[Future[list[Row]], Task], ahead: int
) -> Iterator[tuple[Task, list[Row]]]:
    """Yield what is done; those in ``flight`` are neither that nor any more among ``tasks``."""
    while tasks or flight:
        while tasks and len(flight) < ahead:
            flight[_submitted(pool, _do, tasks[0])] = tasks[0]
            tasks.popleft()
        finished, _ = wait(flight, return_when=FIRST_COMPLETED)
        for future in finished:
            rows = future.result()
            yield flight.pop(future), rows


def _submitted(pool: ProcessPoolExecutor, act: Callable[..., Result], *arguments: object) -> Future[Result]:
    """Have a pool do something; workers that it starts for that never learn of Ctrl-C, which is the parent's affair."""
    if not hasattr(signal, "pthread_sigmask"):
        return pool.submit(act, *arguments)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.submit(act, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _succeeded(future: Future[list[Row]]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


def _places(conversion: Conversion) -> list[str]:
    """Return where workers compute, device by device: the GPUs, or for each core the CPU."""
    import pillow_sdc

    from ..models import get_models
    from ..models.cores import cores
    from ..models.libraries import imported

    with pillow_sdc.configure(**conversion.settings) as settings:
        device = get_models(settings).device
    if device != "cuda" or find_spec("torch") is None:
        return [device] * (1 if device.startswith("cuda") else cores())
    torch = imported("torch")
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


@contextmanager
def _pool(workers: int, places: Sequence[str], work: tuple[str, str, Conversion]) -> Iterator[ProcessPoolExecutor]:
    """Start workers, which end with the block, or with this process, however it ends.

    Raises:
        RuntimeError: They cannot be started.
    """
    listening, speaking = _METHOD.Pipe(duplex=False)
    devices = _METHOD.SimpleQueue()
    for device in itertools.islice(itertools.cycle(places), workers):
        devices.put(device)
    with listening:
        pool = ProcessPoolExecutor(workers, _METHOD, _begin, (listening, devices, *work))
        try:
            try:
                _submitted(pool, int).result()
            except BrokenProcessPool as error:
                raise RuntimeError("workers cannot be started: each imports this program's main module") from error
            yield pool
        finally:
            speaking.close()
            pool.shutdown(cancel_futures=True)


_worker: "Worker | None" = None


def _begin(
    listening: Connection, devices: "SimpleQueue[str]", source: str, target: str, conversion: Conversion
) -> None:
    """Make a process a worker."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=[listening], daemon=True).start()
    device = devices.get()
    threads = None
    if not device.startswith("cuda"):
        os.environ["OMP_NUM_THREADS"] = "1"  # models take no more cores then
        threads = 1
    from .work import Worker

    placed = replace(conversion, settings={**conversion.settings, "device": device})
    _worker = Worker(Store(source), Store(target), placed, threads=threads)


def _end_with(parent: Connection) -> None:
    """Wait for the parent's end of the pipe to be closed, and end this process."""
    parent.poll(None)
    os._exit(1)


def _do(task: Task) -> list[Row]:
    assert _worker is not None  # noqa: S101 - _begin was called
    return _worker.do(task)
