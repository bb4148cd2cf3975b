"""Streams of known length, deflate and LZMA: bombs and lies are refused with bounded memory, alike for both."""

import lzma
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillow_sdc.errors import CorruptFileError, UnsupportedFileError
from pillow_sdc.format.bounded import MAX_EXPANSION, compress_lzma, decompress_lzma, deflate, inflate, inflate_truncated

MIB = 1 << 20


class Compression(NamedTuple):
    """One of the two, in both directions."""

    name: str
    compress: Callable[[bytes], bytes]
    expand: Callable[[bytes, int], tuple[bytes, bytes]]


DEFLATE = Compression("deflate", deflate, inflate)
LZMA = Compression("LZMA", compress_lzma, decompress_lzma)

both = pytest.mark.parametrize("compression", [DEFLATE, LZMA], ids=lambda each: each.name)


def raw_deflate(data: bytes, level: int = 9, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return deflater.compress(data) + deflater.flush()


@both
@given(data=st.binary(max_size=3000), rest=st.binary(max_size=20))
def test_a_stream_gives_back_its_data_and_what_follows(compression: Compression, data: bytes, rest: bytes) -> None:
    assert compression.expand(compression.compress(data) + rest, len(data)) == (data, rest)


@given(data=st.binary(max_size=3000), level=st.integers(0, 9), strategy=st.integers(0, 4))
def test_deflate_streams_of_other_writers_are_read(data: bytes, level: int, strategy: int) -> None:
    assert inflate(raw_deflate(data, level, strategy), len(data)) == (data, b"")


@given(data=st.binary(max_size=3000), preset=st.integers(0, 9))
def test_lzma_streams_of_other_writers_are_read(data: bytes, preset: int) -> None:
    filters = [{"id": lzma.FILTER_LZMA1, "preset": preset, "dict_size": MIB, "lc": 0, "lp": 0, "pb": 0}]
    assert decompress_lzma(lzma.compress(data, lzma.FORMAT_RAW, filters=filters), len(data)) == (data, b"")


@both
@pytest.mark.parametrize("length", [0, 1, 16383, 16384, 16385, 3 * MIB])
def test_lengths_around_the_buffers_are_read(compression: Compression, length: int) -> None:
    data = bytes(length)
    assert compression.expand(compression.compress(data) + b"rest", length) == (data, b"rest")


@given(data=st.binary(max_size=2000))
def test_a_stream_is_never_longer_than_zlibs_own(data: bytes) -> None:
    assert len(deflate(data)) <= len(raw_deflate(data))


def test_no_deflate_stream_expands_more_than_the_stated_limit() -> None:
    data = bytes(16 * MIB)
    ratio = len(data) / len(deflate(data))
    assert MAX_EXPANSION - 10 < ratio <= MAX_EXPANSION


@both
@given(data=st.binary(max_size=500), claimed=st.integers(0, 2000))
def test_another_length_than_the_expected_is_refused(compression: Compression, data: bytes, claimed: int) -> None:
    if claimed == len(data):
        claimed += 1
    with pytest.raises(CorruptFileError, match=f"{compression.name}.* {claimed} bytes expected of"):
        compression.expand(compression.compress(data), claimed)


@both
@given(data=st.binary(min_size=1, max_size=300), share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_stream_is_refused(compression: Compression, data: bytes, share: float) -> None:
    stream = compression.compress(data)
    with pytest.raises(CorruptFileError, match=f"{compression.name}.* {len(data)} bytes expected of"):
        compression.expand(stream[: int(share * len(stream))], len(data))


@both
@given(stream=st.binary(max_size=200), length=st.integers(0, 4096))
def test_arbitrary_bytes_are_read_or_refused(compression: Compression, stream: bytes, length: int) -> None:
    try:
        data, rest = compression.expand(stream, length)
    except CorruptFileError:
        return
    assert len(data) == length
    assert stream.endswith(rest)


@pytest.mark.parametrize(("compression", "damaged"), [(DEFLATE, b"\xff" * 20), (LZMA, b"\xff" * 20)])
def test_damage_is_named(compression: Compression, damaged: bytes) -> None:
    with pytest.raises(CorruptFileError, match=f"^{compression.name} stream is damaged: "):
        compression.expand(damaged, 100)


@both
@pytest.mark.parametrize("length", [0, 1, 1000, MIB])
def test_a_bomb_takes_no_more_memory_than_expected_of_it(compression: Compression, length: int) -> None:
    bomb = raw_deflate(bytes(64 * MIB)) if compression is DEFLATE else compress_lzma(bytes(64 * MIB))
    started = time.perf_counter()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=f"^{compression.name} stream does not hold the {length} bytes"):
            compression.expand(bomb, length)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Beside what is expected: growing the buffer, what is left of the input, and LZMA's dictionary.
    assert peak < 2 * length + 3 * MIB
    assert time.perf_counter() - started < 1


@both
@pytest.mark.parametrize("length", [1 << 20, 1 << 31, 1 << 62])
def test_a_stream_too_short_for_what_is_expected_takes_no_memory(compression: Compression, length: int) -> None:
    stream = compression.compress(bytes(100))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptFileError, match=f"{compression.name}.* the {length} bytes expected"):
            compression.expand(stream, length)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * MIB


def test_many_empty_blocks_are_read_promptly() -> None:
    empty_blocks = bytes([0, 0, 0, 255, 255]) * 100_000
    started = time.perf_counter()
    assert inflate(empty_blocks + deflate(b"end") + b"rest", 3) == (b"end", b"rest")
    assert time.perf_counter() - started < 1


@given(data=st.binary(max_size=2000), share=st.floats(0, 1))
def test_the_beginning_of_a_stream_gives_the_beginning_of_its_data(data: bytes, share: float) -> None:
    stream = deflate(data)
    assert data.startswith(inflate_truncated(stream[: int(share * len(stream))], len(data)))
    assert inflate_truncated(stream, len(data)) == data


def test_the_beginning_of_a_stream_is_bounded_too() -> None:
    with pytest.raises(CorruptFileError, match=r"^deflate stream does not hold the 9 bytes expected of it"):
        inflate_truncated(raw_deflate(bytes(MIB))[:-5], 9)
    with pytest.raises(CorruptFileError, match=r"^deflate stream is damaged: "):
        inflate_truncated(b"\xff" * 20, 9)


def test_a_python_without_lzma_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = compress_lzma(b"data")
    monkeypatch.setitem(sys.modules, "lzma", None)
    with pytest.raises(UnsupportedFileError, match="needs the module lzma, which this Python was built without"):
        decompress_lzma(stream, 4)
