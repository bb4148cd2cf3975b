"""Raw deflate streams of known length: bombs and lies are refused with bounded memory."""

import time
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillow_sdc.bounded import MAX_EXPANSION, deflate, inflate
from pillow_sdc.errors import CorruptFileError

MIB = 1 << 20


def raw_deflate(data: bytes, level: int = 9, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return deflater.compress(data) + deflater.flush()


@given(data=st.binary(max_size=3000), rest=st.binary(max_size=20))
def test_a_stream_gives_back_its_data_and_what_follows(data: bytes, rest: bytes) -> None:
    assert inflate(deflate(data) + rest, len(data)) == (data, rest)


@given(data=st.binary(max_size=3000), level=st.integers(0, 9), strategy=st.integers(0, 4))
def test_streams_of_other_writers_are_read(data: bytes, level: int, strategy: int) -> None:
    assert inflate(raw_deflate(data, level, strategy), len(data)) == (data, b"")


@pytest.mark.parametrize("length", [0, 1, 16383, 16384, 16385, 3 * MIB])
def test_lengths_around_zlibs_buffers_are_read(length: int) -> None:
    assert inflate(deflate(bytes(length)) + b"rest", length) == (bytes(length), b"rest")


@given(data=st.binary(max_size=2000))
def test_a_stream_is_never_longer_than_zlibs_own(data: bytes) -> None:
    assert len(deflate(data)) <= len(raw_deflate(data))


def test_no_stream_expands_more_than_the_stated_limit() -> None:
    data = bytes(16 * MIB)
    ratio = len(data) / len(deflate(data))
    assert MAX_EXPANSION - 10 < ratio <= MAX_EXPANSION


@given(data=st.binary(max_size=500), claimed=st.integers(0, 2000))
def test_another_length_than_the_expected_is_refused(data: bytes, claimed: int) -> None:
    if claimed == len(data):
        claimed += 1
    with pytest.raises(CorruptFileError, match=f"{claimed} bytes expected of"):
        inflate(deflate(data), claimed)


@given(data=st.binary(min_size=1, max_size=300), share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_stream_is_refused(data: bytes, share: float) -> None:
    stream = deflate(data)
    with pytest.raises(CorruptFileError, match="deflate"):
        inflate(stream[: int(share * len(stream))], len(data))


@given(stream=st.binary(max_size=200), length=st.integers(0, 4096))
def test_arbitrary_bytes_are_read_or_refused(stream: bytes, length: int) -> None:
    try:
        data, rest = inflate(stream, length)
    except CorruptFileError:
        return
    assert len(data) == length
    assert stream.endswith(rest)


@pytest.mark.parametrize("length", [0, 1, 1000, MIB])
def test_a_bomb_takes_no_more_memory_than_expected_of_it(length: int) -> None:
    bomb = raw_deflate(bytes(64 * MIB))
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=f"does not hold the {length} bytes"):
            inflate(bomb, length)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * length + MIB  # growing zlib's buffer and copying what is left of the input
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("length", [1 << 20, 1 << 31, 1 << 62])
def test_a_stream_too_short_for_what_is_expected_takes_no_memory(length: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=f"100 bytes of deflate cannot hold the {length} bytes"):
            inflate(bytes(100), length)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_many_empty_blocks_are_read_promptly() -> None:
    empty_blocks = bytes([0, 0, 0, 255, 255]) * 100_000
    started = time.perf_counter()
    assert inflate(empty_blocks + deflate(b"end") + b"rest", 3) == (b"end", b"rest")
    assert time.perf_counter() - started < 1
