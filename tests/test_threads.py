"""How many threads libraries take, and that they are kept to one while, and only while, something needs it."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.format.context import stream as context_stream
from pillow_sdc.runtime.threads import available_cores, cores, single_threaded_blas, use_cores, use_cores_in_process

OWN = 2


@pytest.fixture
def _several_threads() -> Iterator[None]:
    with threadpool_limits(OWN, user_api="blas"):
        if number() != OWN:
            pytest.skip("BLAS has one thread here")
        yield


def number() -> int:
    """Return how many threads numpy's products take; libraries of others are none of our business."""
    return max(info["num_threads"] for info in threadpool_info() if "numpy" in info["filepath"])


@pytest.mark.usefixtures("_several_threads")
def test_the_number_is_restored_also_after_an_error() -> None:
    def fail() -> None:
        with single_threaded_blas():
            assert number() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert number() == OWN


@pytest.mark.usefixtures("_several_threads")
def test_threads_that_overlap_restore_it_each_for_itself_and_for_all() -> None:
    entered, may_leave = threading.Event(), threading.Event()
    seen = []

    def other() -> None:
        with single_threaded_blas():
            seen.append(number())
            entered.set()
            may_leave.wait(10)
        seen.append(number())

    thread = threading.Thread(target=other)
    with single_threaded_blas():
        thread.start()
        assert entered.wait(10)
    may_leave.set()
    thread.join()
    assert seen == [1, OWN]
    assert number() == OWN


@pytest.mark.usefixtures("_several_threads")
def test_decoding_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    read = context_stream.read
    monkeypatch.setattr(context_stream, "read", lambda *given: seen.append(number()) or read(*given))
    ContextCodec.decode(ContextCodec().encode(np.zeros((4, 2, 3), np.float32)), 2, 3)
    assert seen == [1]
    assert number() == OWN


OVERLAPPING_BATCHES = """
import threading
import numpy
import pillow_sdc
from threadpoolctl import threadpool_info

def number():
    return max(info["num_threads"] for info in threadpool_info() if "numpy" in info["filepath"])

entered, may_end = ([threading.Event() for _ in range(2)] for _ in range(2))

def nothing(index):
    entered[index].set()
    may_end[index].wait(30)
    yield from ()

pillow_sdc.configure(model="compact", device="cpu")
batches = [threading.Thread(target=pillow_sdc.decode_batch, args=[nothing(index)]) for index in range(2)]
numbers = [number()]
for batch, event in zip(batches, entered):
    batch.start()
    event.wait(30)
numbers.append(number())
for batch, event in zip(batches, may_end):
    event.set()
    batch.join()
print(*numbers, number())
"""


def test_batches_that_overlap_restore_it() -> None:
    """The one that began first ends first; the other has found the number that the first had set.

    In a process of its own, since threadpoolctl lets no thread set the number while another that has set it lives.
    """
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(OWN)}
    command = [sys.executable, "-c", OVERLAPPING_BATCHES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    before, within, after = map(int, done.stdout.split())
    assert within == 1
    assert after == before


@pytest.fixture
def _no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)


@pytest.mark.usefixtures("_no_torch")
@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("3,2", 3), ("0", 1), ("many", None), ("", None), (None, None)]
)
def test_models_take_the_threads_that_the_environment_names_or_all_cores(
    value: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if value is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cores() == (expected or available_cores())


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_cores_that_the_process_may_not_use_are_not_counted() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert available_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.usefixtures("_no_torch")
def test_a_limit_of_the_process_is_for_all_threads_and_one_of_a_thread_for_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    use_cores_in_process(3)
    seen = []

    def limited() -> None:
        seen.append(cores())
        use_cores(2)
        seen.append(cores())

    thread = threading.Thread(target=limited)
    thread.start()
    thread.join()
    assert (*seen, cores()) == (3, 2, 3)


def test_a_limit_of_the_process_reaches_torch_where_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    before = torch.get_num_threads()
    try:
        use_cores_in_process(3)
        assert torch.get_num_threads() == cores() == 3
    finally:
        torch.set_num_threads(before)
