"""Decompression of deflate and LZMA streams with a bound on the output.

A stream does not declare the size of its content, and a few bytes may expand to gigabytes. The caller knows the size
from elsewhere, such as the size of the picture: no more memory than that is allocated, and a stream with more or less
content is corrupt. Bytes after a stream are returned to the caller.
"""

import zlib
from types import ModuleType
from typing import Any, Protocol

from ..errors import CorruptFileError, UnsupportedFileError

MAX_EXPANSION = 1032
"""Largest ratio of content to stream in deflate: 258 bytes from two one-bit codes (RFC 1951, section 3.2.5)."""

LZMA_DICTIONARY_BYTES = 1 << 20

_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


def deflate(data: bytes) -> bytes:
    """Return the shortest raw deflate stream (RFC 1951) of ``data`` that zlib's strategies find."""
    return min((_deflate(data, strategy) for strategy in _STRATEGIES), key=len)


def inflate(stream: bytes, length: int) -> tuple[bytes, bytes]:
    """Return the ``length`` bytes of content of a raw deflate stream, and the bytes after the stream.

    No more than ``length`` bytes are allocated, and none if the stream is too short to fill them.

    Raises:
        CorruptFileError: The stream is damaged, or holds fewer or more bytes.
    """
    if length > MAX_EXPANSION * len(stream):
        raise CorruptFileError(f"{len(stream)} bytes of deflate cannot hold the {length} bytes expected of them")
    return _whole("deflate", zlib.decompressobj(-zlib.MAX_WBITS), zlib.error, stream, length)


def inflate_truncated(stream: bytes, length: int) -> bytes:
    """Return the content of a truncated raw deflate stream as far as it goes, at most ``length`` bytes.

    Raises:
        CorruptFileError: The stream is damaged, or holds more bytes.
    """
    return _expanded("deflate", zlib.decompressobj(-zlib.MAX_WBITS), zlib.error, stream, length)


def compress_lzma(data: bytes) -> bytes:
    """Return a raw LZMA1 stream of ``data``, with its end marker; ``docs/format.md`` gives its parameters.

    Raises:
        UnsupportedFileError: This Python was built without LZMA.
    """
    lzma, filters = _lzma()
    stream: bytes = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
    return stream


def decompress_lzma(stream: bytes, length: int) -> tuple[bytes, bytes]:
    """Return the ``length`` bytes of content of a stream of :func:`compress_lzma`, and the bytes after the stream.

    Raises:
        CorruptFileError: The stream is damaged, or holds fewer or more bytes.
        UnsupportedFileError: This Python was built without LZMA.
    """
    lzma, filters = _lzma()
    return _whole("LZMA", lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), lzma.LZMAError, stream, length)


class _Decompressor(Protocol):
    """The common interface of zlib's and LZMA's decompressors."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _whole(
    name: str, decompressor: _Decompressor, error: type[Exception], stream: bytes, length: int
) -> tuple[bytes, bytes]:
    """Return all ``length`` bytes of content of a stream, and the bytes after it."""
    data = _expanded(name, decompressor, error, stream, length)
    if len(data) < length or not decompressor.eof:
        raise CorruptFileError(_other_length(name, length))
    return data, decompressor.unused_data


def _expanded(name: str, decompressor: _Decompressor, error: type[Exception], stream: bytes, length: int) -> bytes:
    """Return the content of a stream as far as it goes, at most ``length`` bytes.

    Args:
        name: Name of the compression, for messages.
        decompressor: A new decompressor.
        error: The exception that it raises for a damaged stream.
        stream: Bytes that begin with the stream.
        length: Largest number of bytes of content.
    """
    try:
        # One byte more than expected, so that the end marker is read and a longer stream is noticed.
        data = decompressor.decompress(stream, length + 1)
    except error as damage:
        raise CorruptFileError(f"{name} stream is damaged: {damage}") from damage
    if len(data) > length:
        raise CorruptFileError(_other_length(name, length))
    return data


def _other_length(name: str, length: int) -> str:
    return f"{name} stream does not hold the {length} bytes expected of it"


def _deflate(data: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return deflater.compress(data) + deflater.flush()


def _lzma() -> tuple[ModuleType, list[dict[str, Any]]]:
    """Return the module and the parameters of its filter."""
    try:
        import lzma
    except ImportError as error:
        message = "LZMA, used by alpha planes, needs the module lzma, which this Python was built without"
        raise UnsupportedFileError(message) from error
    fixed = {"id": lzma.FILTER_LZMA1, "dict_size": LZMA_DICTIONARY_BYTES, "lc": 0, "lp": 0, "pb": 0}
    return lzma, [{**fixed, "mode": lzma.MODE_NORMAL, "mf": lzma.MF_BT4, "nice_len": 273, "depth": 512}]
