"""A decoder of SDC files as far as the latents, written from ``docs/format.md`` alone, without code of the package.

It uses the standard library and plain loops only, so that it reads like the specification. Every departure from the
specification is a ``ValueError``. The codec ``context`` is in ``reference_context.py``, alpha in
``reference_alpha.py``.
"""

import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import reference_alpha
import reference_context

Plane = list[list[int]]

STEP = 0.18215 * 0.18215
ROUNDING_VARIANCE = STEP * STEP / 12


class Header(NamedTuple):
    version: int
    codec: int
    latent_space: int
    mode: int
    width: int
    height: int


class Decoded(NamedTuple):
    """What a file holds.

    ``values`` are 4 planes of rows: levels, or, of the codec ``context``, latents not yet rounded to binary32; ``size``
    is the number of bytes that belong to the file; ``alpha`` has no rows in modes without it.
    """

    header: Header
    metadata: dict[str, bytes]
    values: Sequence[Sequence[Sequence[float]]]
    noise_variance: float
    size: int
    alpha: Plane


def decode(file: bytes) -> Decoded:
    require(file[:7] == b"\x89SDC\x0d\x0a\x0a", "signature")
    require(len(file) >= 8 and file[7] == 1, "version")
    require(len(file) >= 19 and struct.unpack("<I", file[15:19])[0] == zlib.crc32(file[:15]), "header")
    header = Header(*struct.unpack("<BBBBHH", file[7:15]))
    require(header.width > 0 and header.height > 0, "size")
    require(header.codec in CODECS and header.latent_space == 1 and header.mode in (0, 1, 2, 3), "unknown number")
    rows, columns = (header.height + 7) // 8, (header.width + 7) // 8
    metadata: dict[str, bytes] = {}
    position, stored_bytes, metadata_bytes = 19, 0, 0
    alpha: Plane = []
    for _ in range(64):
        letter, data, position = read_chunk(file, position)
        if letter == "P":
            require(len(data) <= 4096 + 8 * rows * columns, "payload length")
            values, noise_variance = CODECS[header.codec](data, rows, columns)
            require((alpha != []) == (header.mode >= 2), "alpha missing")
            return Decoded(header, metadata, values, noise_variance, position, alpha)
        if letter == "A":
            require(header.mode >= 2 and alpha == [], "alpha twice")
            require(len(data) <= 4096 + 2 * header.width * header.height, "alpha length")
            alpha = reference_alpha.decode(data, header.width, header.height)
            continue
        require(letter.islower(), "chunk type")
        stored_bytes += len(data)
        length, start = read_length(data, 0) if letter in "fjy" else (len(data), 0)
        metadata_bytes += length
        require(max(stored_bytes, metadata_bytes) <= 16777216, "metadata length")
        if letter in "fjy":
            letter = {"f": "e", "j": "i", "y": "x"}[letter]
            data, rest = inflate(data[start:], length)
            require(rest == b"", "end of deflated metadata")
        require(letter not in metadata, "metadata twice")
        if letter in "eixd":
            metadata[letter] = data
        if letter == "d":
            require(len(data) == 8 and 0 not in struct.unpack("<II", data), "resolution")
    raise ValueError("number of chunks")


def read_chunk(file: bytes, start: int) -> tuple[str, bytes, int]:
    """Return a chunk's type, its data, and where the next one starts."""
    require(start < len(file) and chr(file[start]).isalpha() and file[start] < 128, "chunk type")
    length, position = read_length(file, start + 1)
    end = position + length
    require(end + 4 <= len(file), "end of file")
    require(struct.unpack("<I", file[end : end + 4])[0] == zlib.crc32(file[start:end]), "chunk checksum")
    return chr(file[start]), file[position:end], end + 4


def read_length(data: bytes, start: int) -> tuple[int, int]:
    """Return a LEB128 number and where it ends."""
    length, position = 0, start
    for group in range(5):
        require(position < len(data), "end of file")
        length |= (data[position] & 127) << 7 * group
        position += 1
        if data[position - 1] < 128:
            break
    require(data[position - 1] < 128 and (data[position - 1] > 0 or position == start + 1), "length")
    return length, position


def inflate(data: bytes, length: int) -> tuple[bytes, bytes]:
    """Return the ``length`` bytes of the first deflate stream in ``data``, and what follows it."""
    inflater = zlib.decompressobj(-15)
    try:
        inflated = inflater.decompress(data, length + 1)
    except zlib.error as error:
        raise ValueError("deflate stream") from error
    require(inflater.eof and len(inflated) == length, "deflate stream")
    return inflated, inflater.unused_data


def uint8(payload: bytes, rows: int, columns: int) -> tuple[list[Plane], float]:
    levels = []
    for _ in range(4):
        residuals, payload = inflate(payload, rows * columns)
        plane = [[0] * columns for _ in range(rows)]
        for y in range(rows):
            for x in range(columns):
                left = plane[y][x - 1] - 128 if x > 0 else 0
                up = plane[y - 1][x] - 128 if y > 0 else 0
                plane[y][x] = (residuals[y * columns + x] + (left + up) // 4 + 128) % 256
        levels.append(plane)
    require(payload == b"", "end of payload")
    return levels, ROUNDING_VARIANCE


def palette(payload: bytes, rows: int, columns: int) -> tuple[list[Plane], float]:
    require(len(payload) >= 2 and payload[1] in (0, 1), "palette head")
    count, exact = payload[0] + 1, payload[1] == 1
    differences, payload = inflate(payload[2:], 4 * count)
    indices, payload = inflate(payload, rows * columns)
    require(payload == b"" and max(indices) < count, "indices")
    entries = [[0] * 4 for _ in range(count)]
    for channel in range(4):
        value = 0
        for entry in range(count):
            value = (value + differences[channel * count + entry]) % 256
            entries[entry][channel] = value
    levels = [[[entries[indices[y * columns + x]][c] for x in range(columns)] for y in range(rows)] for c in range(4)]
    return levels, ROUNDING_VARIANCE if exact or count == 1 else palette_noise(entries, indices)


def palette_noise(entries: list[list[int]], indices: bytes) -> float:
    total = 0.0
    for k, entry in enumerate(entries):
        distances = [squared_distance(entry, other) for j, other in enumerate(entries) if j != k]
        nearest = sorted(distances)[:4]
        total += max(indices.count(k) - 1, 0) * (sum(nearest) / len(nearest))
    return max(ROUNDING_VARIANCE, 0.093 * (total / len(indices)) * (STEP * STEP))


def squared_distance(a: list[int], b: list[int]) -> int:
    return sum((p - q) ** 2 for p, q in zip(a, b, strict=True))


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)


CODECS = {1: uint8, 2: palette, 3: reference_context.decode}
