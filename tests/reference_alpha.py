"""A decoder of alpha chunks, written from ``docs/format.md`` alone, without code of the package.

Plain loops; LZMA itself is the standard library's. Every departure from the specification is a ``ValueError``.
"""

import lzma
import struct

Plane = list[list[int]]

LZMA = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 20, "lc": 0, "lp": 0, "pb": 0}]


def decode(data: bytes, width: int, height: int) -> Plane:
    require(len(data) >= 2, "length")
    if data[0] == 0:
        require(len(data) == 2, "length")
        return [[data[1]] * width for _ in range(height)]
    if data[0] == 1:
        require(len(data) == 11, "length")
        outside, inside, left, top, columns, rows = struct.unpack("<BBHHHH", data[1:])
        require(columns > 0 and rows > 0 and left + columns <= width and top + rows <= height, "rectangle")

        def value(x: int, y: int) -> int:
            return inside if left <= x < left + columns and top <= y < top + rows else outside

        return [[value(x, y) for x in range(width)] for y in range(height)]
    if data[0] == 2:
        row_bytes = (width + 7) // 8
        packed, rest = expand(data[1:], row_bytes * height)
        require(rest == b"", "end")
        return [[packed[y * row_bytes + x // 8] >> 7 - x % 8 & 1 and 255 for x in range(width)] for y in range(height)]
    require(data[0] == 3 and data[1] <= 3, "kind")
    return partial(data[1], data[2:], width, height)


def partial(predictor: int, streams: bytes, width: int, height: int) -> Plane:
    row_bytes = (width + 3) // 4
    packed, rest = expand(streams, row_bytes * height)
    places = [[packed[y * row_bytes + x // 4] >> 6 - 2 * (x % 4) & 3 for x in range(width)] for y in range(height)]
    residuals, rest = expand(rest, sum(row.count(1) for row in places))
    require(rest == b"", "end")
    values = iter(residuals)
    alpha = [[0] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            require(places[y][x] < 3, "place")
            if places[y][x] == 2:
                alpha[y][x] = 255
            elif places[y][x] == 1:
                left = alpha[y][x - 1] if x > 0 else 0
                above = alpha[y - 1][x] if y > 0 else 0
                corner = alpha[y - 1][x - 1] if x > 0 and y > 0 else 0
                median = sorted([left, above, left + above - corner])[1]
                expected = (0, left, left + above - corner, median)[predictor]
                alpha[y][x] = (next(values) + expected) % 256
                require(0 < alpha[y][x] < 255, "partial value")
    return alpha


def expand(data: bytes, length: int) -> tuple[bytes, bytes]:
    """Return the ``length`` bytes of the first LZMA stream in ``data``, and what follows it."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=LZMA)
    try:
        expanded = decompressor.decompress(data, length + 1)
    except lzma.LZMAError as error:
        raise ValueError("LZMA stream") from error
    require(decompressor.eof and len(expanded) == length, "LZMA stream")
    return expanded, decompressor.unused_data


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
