"""Processes that work ahead, so that an accelerator need not wait for what only processors can do."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

Job = TypeVar("Job")
Result = TypeVar("Result")


class _Results(Dataset[Result], Generic[Job, Result]):
    """What a function returns, looked up by its argument."""

    def __init__(self, function: Callable[[Job], Result]) -> None:
        self._function = function

    def __getitem__(self, job: Job) -> Result:
        return self._function(job)


def in_order(function: Callable[[Job], Result], jobs: Iterable[Job], workers: int) -> Iterator[Result]:
    """Return what a function makes of jobs, in their order, which so many processes are ahead with; 0 for none."""
    results = _Results(function)
    return iter(DataLoader(results, batch_size=None, sampler=jobs, num_workers=workers, collate_fn=_as_it_is))


def _as_it_is(result: Result) -> Result:
    return result
