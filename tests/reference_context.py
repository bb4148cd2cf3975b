"""A decoder of the codec ``context``, written from ``docs/format.md`` alone: plain integers and plain loops.

Only the network's file is read with numpy, whose format it has. Departures from the specification are ``ValueError``s.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

NETWORKS = Path(__file__).parent.parent / "pillow_sdc" / "format" / "context" / "networks"
LOGISTIC_16 = [round(2**16 / (1 + math.exp(-i / 16))) for i in range(-128, 129)]
LOGISTIC_24 = [round(2**24 / (1 + math.exp(-i / 256))) for i in range(-3072, 3073)]
INVERSE_SCALES = [round(2**15 * math.exp(-i / 16)) for i in range(-80, 33)]
SEEN = [(y, x) for y in range(-4, 1) for x in range(-4, 5) if y < -1 or (y == -1 and x <= 2) or (y == 0 and x < 0)]


class RangeDecoder:
    def __init__(self, stream: bytes) -> None:
        self.stream, self.read, self.width = stream, 7, 1 << 56
        self.offset = int.from_bytes(stream[:7].ljust(7, b"\0"), "big")

    def target(self) -> int:
        target = self.offset // (self.width >> 16)
        require(target < 1 << 16, "symbol")
        return target

    def take(self, start: int, end: int) -> None:
        unit = self.width >> 16
        self.offset, self.width = self.offset - unit * start, unit * (end - start)
        while self.width < 1 << 48:
            self.offset = self.offset << 8 | (self.stream[self.read] if self.read < len(self.stream) else 0)
            self.width, self.read = self.width << 8, self.read + 1

    def bit(self) -> int:
        bit = self.target() >> 15
        self.take(bit << 15, (bit + 1) << 15)
        return bit

    def golomb(self) -> int:
        zeros = 0
        while not self.bit():
            zeros += 1
            require(zeros <= 20, "escape")
        number = 1
        for _ in range(zeros):
            number = 2 * number + self.bit()
        return number - 1

    def check_end(self) -> None:
        number = int.from_bytes(self.stream[self.read - 7 : self.read].ljust(7, b"\0"), "big")
        low = number - self.offset
        candidates = (-(-low // 2**bits) * 2**bits for bits in range(56, -1, -8))
        end = next(candidate for candidate in candidates if candidate < low + self.width)
        require(end % 2**56 == number and self.read >= len(self.stream), "end of payload")
        require(not self.stream.endswith(b"\0"), "end of payload")


class Network:
    def __init__(self, number: int, logarithm: int, weighted: int) -> None:
        with np.load(NETWORKS / f"{number}.npz") as file:
            self.arrays = {name: file[name].tolist() for name in file.files}
        self.conditions = logarithm, logarithm * logarithm >> 8, 256 * weighted

    def layer(self, name: str, channel: int, inputs: list[int]) -> list[int]:
        weights, bias, conditions = (
            self.arrays[f"{name}.{part}"][channel] for part in ("weights", "bias", "conditions")
        )
        sums = [b + (sum(map(int.__mul__, c, self.conditions)) >> 8) for b, c in zip(bias, conditions, strict=True)]
        return accumulated(sums, inputs, weights)

    def outputs(self, channel: int, window: list[int], before: list[int]) -> list[int]:
        sums = self.layer("window", channel, window)
        values = hidden(accumulated(sums, before, self.arrays["here"][channel][: len(before)]), 7)
        for name in ("inner0", "inner1"):
            values = hidden(self.layer(name, channel, values), 6)
        return self.layer("last", channel, values)


def decode(payload: bytes, rows: int, columns: int) -> tuple[list[list[list[float]]], float]:
    """Return the latents, not yet rounded to binary32, and the noise variance."""
    word = int.from_bytes(payload[1:3], "little")
    step, trellis, weighted = word & 0x3FFF, word >> 14 & 1, word >> 15
    require(len(payload) >= 3 and step > 0 and (NETWORKS / f"{payload[0]}.npz").exists(), "head of payload")
    network = Network(payload[0], round(256 * math.log(step / 2457.6)), weighted)
    decoder, seen, variances = RangeDecoder(payload[3:]), dict[tuple[int, int], list[int]](), []
    latents = [[[0.0] * columns for _ in range(rows)] for _ in range(4)]
    states = [[0] * rows for _ in range(4)]
    for places in fronts(rows, columns):
        windows = {(y, x): [v for b, a in SEEN for v in seen.get((y + b, x + a), [0] * 5)] for y, x in places}
        for channel in range(4):
            for y, x in places:
                values = seen.setdefault((y, x), [0, 0, 0, 0, 32])
                outputs = network.outputs(channel, windows[y, x], values[:channel])
                state = states[channel][y]
                odd = trellis * parity(state & 10)
                symbol = read_symbol(decoder, outputs, step, odd)
                states[channel][y] = 2 * state % 64 | parity(state & 33) ^ symbol & 1
                position = (2 * symbol + odd) * step
                values[channel] = clamp(position + 128 >> 8, -127, 127)
                bin_width = 2 * step * 227 >> 8 if trellis else 2 * step
                latents[channel][y][x], variance = centroid(position - bin_width // 2, bin_width, outputs)
                variances.append(variance)
    decoder.check_end()
    for y, x in seen if weighted else ():
        along = ((-4 * latents[0][y][x] + -2 * latents[1][y][x]) + -2 * latents[2][y][x]) + 5 * latents[3][y][x]
        for plane, component in zip(latents, (-4, -2, -2, 5), strict=True):
            plane[y][x] += component * (along * (-0.5 / 49))
    return latents, math.fsum(variances) / len(variances) * (13 / 16 if weighted else 1)


def fronts(rows: int, columns: int) -> Iterator[list[tuple[int, int]]]:
    for top in range(0, rows, 128):
        band = range(top, min(rows, top + 128))
        for front in range(columns + 3 * (len(band) - 1)):
            yield [(y, front - 3 * (y - top)) for y in band if 0 <= front - 3 * (y - top) < columns]


def read_symbol(decoder: RangeDecoder, outputs: list[int], step: int, odd: int) -> int:
    radius = min(64, 2 + 12288 // step)
    alphabet_size = 2 * radius + 3
    middle = 8 * outputs[2] + (weight_of_first(outputs) * 8 * (outputs[1] - outputs[2]) >> 16)
    lowest = (middle + (1 - odd) * step) // (2 * step) - radius
    edges = [(2 * (lowest + i) + odd - 1) * step for i in range(alphabet_size - 1)]
    bounds = [0, *((cdf(e, outputs) * (65536 - alphabet_size) >> 24) + i + 1 for i, e in enumerate(edges)), 65536]
    target = decoder.target()
    index = next(i for i in range(alphabet_size) if target < bounds[i + 1])
    decoder.take(bounds[index], bounds[index + 1])
    escape = decoder.golomb() if index in (0, alphabet_size - 1) else 0
    return lowest - 1 - escape if index == 0 else lowest + index - 1 + escape


def centroid(lower: int, width: int, outputs: list[int]) -> tuple[float, float]:
    masses = [b - a for a, b in pairwise(cdf(lower + width * i // 8, outputs) for i in range(9))]
    masses = masses if sum(masses) else [1] * 8
    mean, square = (sum(m * (2 * i + 1) ** n for i, m in enumerate(masses)) / sum(masses) for n in (1, 2))
    unit = width * 2**-13 / 16
    return lower * 2**-13 + mean * unit, (square - mean * mean + 1 / 3) * (unit * unit)


def cdf(position: int, outputs: list[int]) -> int:
    both = []
    for mean, scale in ((outputs[1], outputs[3]), (outputs[2], outputs[4])):
        inverse = INVERSE_SCALES[clamp((scale + 32 >> 6) + 80, 0, 112)]
        both.append(LOGISTIC_24[clamp(((position - 8 * mean) * inverse >> 20) + 3072, 0, 6144)])
    return both[1] + (weight_of_first(outputs) * (both[0] - both[1]) >> 16)


def weight_of_first(outputs: list[int]) -> int:
    return LOGISTIC_16[clamp((outputs[0] + 32 >> 6) + 128, 0, 256)]


def accumulated(sums: list[int], inputs: list[int], weights: list[list[int]]) -> list[int]:
    for value, row in zip(inputs, weights, strict=True):
        sums = [total + value * weight for total, weight in zip(sums, row, strict=True)] if value else sums
    return sums


def hidden(sums: list[int], bits: int) -> list[int]:
    return [clamp(n + (1 << bits - 1) >> bits, 0, 127) for n in sums]


def parity(bits: int) -> int:
    return bits.bit_count() & 1


def clamp(value: int, low: int, high: int) -> int:
    return max(low, min(high, value))


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ValueError(what)
