"""Raw deflate streams (RFC 1951) of a length that is known before they are expanded."""

import zlib

from .errors import CorruptFileError

MAX_EXPANSION = 1032
"""No deflate stream expands further: 258 bytes from two one-bit codes (RFC 1951, section 3.2.5)."""

_STRATEGIES = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)


def deflate(data: bytes) -> bytes:
    """Return the shortest raw deflate stream of ``data`` that zlib's strategies find."""
    return min((_deflate(data, strategy) for strategy in _STRATEGIES), key=len)


def inflate(stream: bytes, length: int) -> tuple[bytes, bytes]:
    """Return the ``length`` bytes that a raw deflate stream holds, and what follows the stream.

    Memory never exceeds ``length``, and is not taken before the stream is long enough to fill it.

    Raises:
        CorruptFileError: The stream is damaged, or holds fewer or more bytes.
    """
    if length > MAX_EXPANSION * len(stream):
        raise CorruptFileError(f"{len(stream)} bytes of deflate cannot hold the {length} bytes expected of them")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        # One byte more than expected lets the end-of-stream code be read, and tells a longer stream from a right one.
        data = inflater.decompress(stream, length + 1)
    except zlib.error as error:
        raise CorruptFileError(f"deflate stream is damaged: {error}") from error
    if len(data) != length or not inflater.eof:
        raise CorruptFileError(f"deflate stream does not hold the {length} bytes expected of it")
    return data, inflater.unused_data


def inflate_truncated(stream: bytes, length: int) -> bytes:
    """Return what the beginning of a raw deflate stream of ``length`` bytes tells of them.

    Raises:
        CorruptFileError: The stream is damaged, or holds more bytes.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(stream, length + 1)
    except zlib.error as error:
        raise CorruptFileError(f"deflate stream is damaged: {error}") from error
    if len(data) > length:
        raise CorruptFileError(f"deflate stream does not hold the {length} bytes expected of it")
    return data


def _deflate(data: bytes, strategy: int) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, strategy)
    return deflater.compress(data) + deflater.flush()
