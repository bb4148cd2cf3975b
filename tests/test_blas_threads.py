"""That numpy's products are kept to one thread while, and only while, something needs it."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.format.context import stream as context_stream
from pillow_sdc.runtime.blas_threads import single_threaded_blas

OWN = 2


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    with threadpool_limits(OWN, user_api="blas"):
        if number() != OWN:
            pytest.skip("BLAS has one thread here")
        yield


def number() -> int:
    """Return how many threads numpy's products take; libraries of others are none of our business."""
    return max(info["num_threads"] for info in threadpool_info() if "numpy" in info["filepath"])


def test_the_number_is_restored_also_after_an_error() -> None:
    def fail() -> None:
        with single_threaded_blas():
            assert number() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert number() == OWN


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


def test_decoding_uses_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    read = context_stream.read
    monkeypatch.setattr(context_stream, "read", lambda *given: seen.append(number()) or read(*given))
    ContextCodec.decode(ContextCodec().encode(np.zeros((4, 2, 3), np.float32)), 2, 3)
    assert seen == [1]
    assert number() == OWN
