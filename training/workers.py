"""Worker processes that prepare data ahead of the training, so that an accelerator does not wait for the CPU."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Results(Dataset[Result], Generic[Job, Result]):
    """A dataset of the results of a function, indexed by its argument."""

    def __init__(self, function: Callable[[Job], Result]) -> None:
        self._function = function

    def __getitem__(self, job: Job) -> Result:
        return self._function(job)


def in_order(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Return the results of a function for jobs, in order, computed ahead by worker processes (0: in this process)."""
    results = _Results(function)
    return iter(DataLoader(results, batch_size=None, sampler=jobs, num_workers=workers, collate_fn=_as_it_is))


def _as_it_is(result: Result) -> Result:
    return result
