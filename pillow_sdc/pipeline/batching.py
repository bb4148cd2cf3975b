"""Many items on their way through stages: those of one group go through the model together, all else in threads.

items ─ threads: take, prepare ─▶ groups ─ the model: compute ─▶ ─ threads: finish ─▶ results

On CUDA the model has a thread to itself. On the CPU it computes in the same threads, several groups side by side.
"""

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from threading import Semaphore
from typing import Any, Generic, TypeVar

from ..errors import BatchError, ModelFailedError, is_full
from ..runtime.accelerators import CPU

Item = TypeVar("Item")
Taken = TypeVar("Taken")
Prepared = TypeVar("Prepared")
Computed = TypeVar("Computed")
Result = TypeVar("Result")

BATCH_SIZE_ON_ACCELERATORS = 8
"""Items that the model takes at a time on an accelerator, unless another number is given; on the CPU it is 1."""

GROUPS_AHEAD = 4
"""How many groups' worth of items are prepared ahead, and may wait for others of their group."""


@dataclass(frozen=True)
class Stages(Generic[Item, Taken, Prepared, Computed, Result]):
    """What is done with each item. What ``take``, ``prepare`` or ``finish`` raises is an error of that item alone.

    Attributes:
        take: Returns what an item holds.
        prepare: Returns what the model needs of it.
        group_of: Tells which items the model may take together.
        compute: Returns the results of the model for a group, in its order.
        finish: Returns the result of an item.
        at_once: Tells which items are taken in the caller's thread, before the next item is asked for.
    """

    take: Callable[[Item], Taken]
    prepare: Callable[[Taken], Prepared]
    group_of: Callable[[Prepared], Hashable]
    compute: Callable[[Sequence[Prepared]], Sequence[Computed]]
    finish: Callable[[Item, Prepared, Computed], Result]
    at_once: Callable[[Item], bool]


def run(
    stages: Stages[Item, Any, Any, Any, Result],
    items: Iterable[Item],
    device: str,
    batch_size: int | None = None,
    threads: int | None = None,
) -> list[Result]:
    """Return the results of items, in their order.

    Args:
        stages: What is done with each.
        items: Anything. An iterator is read as the work goes on.
        device: Where the model computes.
        batch_size: The most items of a group; 8 on accelerators and 1 on the CPU unless given.
        threads: How many work side by side; as many as there are cores unless given.

    Raises:
        BatchError: Some items failed; it holds the results of the others, and what went wrong.
        ValueError: ``batch_size`` or ``threads`` is less than 1.
    """
    if batch_size is None:
        batch_size = 1 if device == CPU else BATCH_SIZE_ON_ACCELERATORS
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    return _Run(stages, batch_size, _Threads.suited(threads, items, device)).results(items)


@dataclass(frozen=True)
class _Waiting(Generic[Item, Prepared]):
    """An item that is prepared, and its place among all."""

    index: int
    item: Item
    prepared: Prepared


class _Run(Generic[Item, Taken, Prepared, Computed, Result]):
    """All items on their way."""

    def __init__(
        self, stages: Stages[Item, Taken, Prepared, Computed, Result], batch_size: int, threads: "_Threads"
    ) -> None:
        self._stages, self._batch_size, self._threads = stages, batch_size, threads
        self._ahead = max(GROUPS_AHEAD * batch_size, threads.count)
        self._slots = Semaphore(self._ahead)
        self._errors: dict[int, Exception] = {}
        self._results: dict[int, Result] = {}
        self._broken: BaseException | None = None
        """What went wrong with more than one item, and would with the rest."""

    def results(self, items: Iterable[Item]) -> list[Result]:
        """Return the results in the order of the items."""
        with self._threads.pools() as (self._pool, self._model_pool):
            try:
                self._submit_all(items)
            finally:
                for _ in range(self._ahead):  # until all that is on its way has arrived
                    self._slots.acquire()
        if self._broken is not None:
            raise self._broken
        if self._errors:
            count = len(self._errors) + len(self._results)
            results = [self._results.get(index) for index in range(count)]
            raise BatchError(results, dict(sorted(self._errors.items())))
        return [self._results[index] for index in range(len(self._results))]

    def _submit_all(self, items: Iterable[Item]) -> None:
        groups: dict[Hashable, list[_Waiting[Item, Prepared]]] = {}
        waiting = 0
        for index, item, future in self._begun(items):
            try:
                prepared = future.result()
                key = self._stages.group_of(prepared)
            except Exception as error:  # whatever is wrong with one item is no reason to lose the others
                self._errors[index] = error
                continue
            groups.setdefault(key, []).append(_Waiting(index, item, prepared))
            waiting += 1
            if len(groups[key]) == self._batch_size or waiting > self._ahead:
                # A full group, or, where items of many groups wait, the one that is the least far from it.
                fullest = groups.pop(max(groups, key=lambda key: len(groups[key])))
                waiting -= len(fullest)
                self._submit(fullest)
            if self._broken is not None:
                return
        for group in groups.values():
            self._submit(group)

    def _begun(self, items: Iterable[Item]) -> Iterator[tuple[int, Item, Future[Prepared]]]:
        """Take and prepare items in threads, so many at a time."""
        pending: deque[tuple[int, Item, Future[Prepared]]] = deque()
        for index, item in enumerate(items):
            pending.append((index, item, self._begin(item)))
            while pending and (len(pending) > self._ahead or pending[0][-1].done()):
                yield pending.popleft()
        yield from pending

    def _begin(self, item: Item) -> Future[Prepared]:
        stages = self._stages
        if not stages.at_once(item):
            return self._pool.submit(copy_context().run, lambda: stages.prepare(stages.take(item)))
        try:
            taken = stages.take(item)
        except Exception as error:
            failed: Future[Prepared] = Future()
            failed.set_exception(error)
            return failed
        return self._pool.submit(copy_context().run, stages.prepare, taken)

    def _submit(self, group: list[_Waiting[Item, Prepared]]) -> None:
        for _ in group:
            self._slots.acquire()
        try:
            self._model_pool.submit(copy_context().run, self._compute, group)
        except BaseException:  # no thread to be had
            self._slots.release(len(group))
            raise

    def _compute(self, group: list[_Waiting[Item, Prepared]]) -> None:
        """Compute a group; if that fails, because memory ran out or one item is at fault, try it in halves."""
        try:
            computed = self._stages.compute([each.prepared for each in group])
        except ModelFailedError as error:
            if len(group) > 1:
                half = len(group) // 2
                self._compute(group[:half])
                self._compute(group[half:])
                return
            self._errors[group[0].index] = error
            self._slots.release()
        except BaseException as error:
            self._broken = error
            self._slots.release(len(group))
        else:
            for each, one in zip(group, computed, strict=True):
                self._pool.submit(copy_context().run, self._finish, each, one)

    def _finish(self, waiting: _Waiting[Item, Prepared], computed: Computed) -> None:
        try:
            self._results[waiting.index] = self._stages.finish(waiting.item, waiting.prepared, computed)
        except Exception as error:
            if is_full(error):
                self._broken = error
            self._errors[waiting.index] = error
        except BaseException as error:
            self._broken = error
        finally:
            self._slots.release()


@dataclass(frozen=True)
class _Threads:
    """Threads for the work.

    Attributes:
        count: How many there are.
        cores: How many cores the model's own threads may use in each; ``None`` if the model computes elsewhere, on
            an accelerator, for which a thread of its own waits.
    """

    count: int
    cores: int | None

    @classmethod
    def suited(cls, count: int | None, items: Iterable[object], device: str) -> "_Threads":
        """Choose them for the items, if these can be counted, and the device.

        On the CPU items side by side, each on its own core, are faster than one after another on all cores: there
        is always something that an item's own threads have to wait for.
        """
        if count is not None and count < 1:
            raise ValueError(f"threads is {count}; it must be at least 1")
        from ..runtime.threads import cores

        available = cores()
        count = count or available
        if device != CPU:
            return cls(count, None)
        if isinstance(items, Sized):
            count = min(count, max(1, len(items)))
        return cls(count, max(1, available // count))

    @contextmanager
    def pools(self) -> "Iterator[tuple[ThreadPoolExecutor, ThreadPoolExecutor]]":
        """Give the threads for ``take``, ``prepare`` and ``finish``, and those for the model, which may be the same."""
        from ..runtime.threads import single_threaded_blas, use_cores

        with ExitStack() as stack:
            # numpy's own threads gain nothing for the small products of a codec, and would fight for the cores.
            stack.enter_context(single_threaded_blas())
            limit = None if self.cores is None else partial(use_cores, self.cores)
            pool = stack.enter_context(ThreadPoolExecutor(self.count, "pillow_sdc", limit))
            model_pool = pool if limit else stack.enter_context(ThreadPoolExecutor(1, "pillow_sdc_model"))
            yield pool, model_pool
