"""Symbols to a stream of bytes and back, as the context network foretells them.

Places are coded band by band, within a band along the wavefronts of :mod:`.context_network`, within a wavefront channel
by channel, and then from top to bottom. The range coder is given, for each symbol, its share of [0, 2¹⁶): the line of
latents is divided at the edges of the few symbols around the mixture's middle; what lies below or above them are two
more shares, and after those comes how far out the symbol lies, in an exponential Golomb code.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptFileError
from . import mixtures, range_coder, trellis
from .context_network import CHANNELS, OUTPUTS, SLOPE, ContextNetwork, SeenLatents, wavefronts
from .mixtures import POSITION_UNIT, Mixtures

BAND = 128
"""Rows that are coded before those below them."""

STEP_UNIT = 1 / 4096
"""Of the step, in SD-scaled latents: half a step is then whole in :data:`.mixtures.POSITION_UNIT`."""

REFERENCE_STEP = 2457.6

_MOST_BESIDE = 64
_LARGEST_ESCAPE_BITS = 20
_BIT = 1 << range_coder.PRECISION - 1
_CHUNK = 8192
"""Places that are computed at once; their number does not matter to the result."""


@dataclass(frozen=True)
class Symbols:
    """Quantised latents.

    Attributes:
        numbers: int64 ``(4, h, w)``.
        odd: Of the same shape: whether the value is (number + ½) steps, or else number steps.
    """

    numbers: NDArray[np.int64]
    odd: NDArray[np.int64]


class Foreteller:
    """What one picture's symbols are coded with."""

    def __init__(self, arrays: Mapping[str, NDArray[np.integer]], step: int, *, stretched: bool, trellis: bool) -> None:
        """Prepare the network of these arrays for a step, in :data:`STEP_UNIT`."""
        # No step's logarithm lies so near to the middle between two whole numbers that its last bits could matter.
        logarithm = round(256 * float(np.log(step / REFERENCE_STEP)))
        self.network = ContextNetwork(arrays, logarithm, stretched=stretched)
        self.step = step
        self.trellis = trellis
        self.beside = min(_MOST_BESIDE, 2 + 12288 // step)
        """Symbols on each side of the middle one that have a share of their own."""
        self.total = 2 * self.beside + 3
        """Shares: those symbols, the middle one, all below, and all above."""

    def lowest(self, mixed: Mixtures, odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lowest symbols ``(n,)`` that have shares of their own."""
        middle = (mixtures.middles(mixed) + (1 - odd) * self.step) // (2 * self.step)
        lowest: NDArray[np.int64] = middle - self.beside
        return lowest

    def edges(self, numbers: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where symbols' intervals begin, in :data:`.mixtures.POSITION_UNIT`."""
        edges: NDArray[np.int64] = (2 * numbers + odd - 1) * self.step
        return edges

    def values(self, numbers: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the middles of symbols' intervals, in SD-scaled latents."""
        values: NDArray[np.floating] = (2 * numbers + odd) * (self.step * POSITION_UNIT)
        return values


def write(symbols: Symbols, foreteller: Foreteller) -> bytes:
    """Return the stream of symbols."""
    return range_coder.encode(_shares(symbols, foreteller))


def _shares(symbols: Symbols, foreteller: Foreteller) -> Iterator[tuple[int, int]]:
    """Yield the shares of all symbols, in the order of coding."""
    _, rows, columns = symbols.numbers.shape
    seen = None
    for top in range(0, rows, BAND):
        band = slice(top, min(rows, top + BAND))
        numbers, odd = (array[:, band].reshape(CHANNELS, -1) for array in (symbols.numbers, symbols.odd))
        ys, xs = np.divmod(np.arange(numbers.shape[1]), columns)
        seen = SeenLatents(band.stop - top, columns, seen)
        for channel in range(CHANNELS):
            seen.put(channel, ys, xs, foreteller.values(numbers[channel], odd[channel]))
        starts, ends, beyond = (np.empty_like(numbers) for _ in range(3))
        for first in range(0, len(ys), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            started = foreteller.network.start(seen.around(ys[chunk], xs[chunk]))
            here = seen.at(ys[chunk], xs[chunk])
            for channel in range(CHANNELS):
                mixed = mixtures.from_outputs(foreteller.network.finish(channel, started[:, channel], here))
                starts[channel, chunk], ends[channel, chunk], beyond[channel, chunk] = _intervals(
                    numbers[channel, chunk], odd[channel, chunk], mixed, foreteller
                )
        fronts = SLOPE * ys + xs
        channels = np.arange(CHANNELS)[:, None]
        order = np.lexsort([np.broadcast_to(key, numbers.shape).ravel() for key in (ys, channels, fronts)])
        coded = (array.ravel()[order] for array in (starts, ends - starts, beyond))
        for start, frequency, escape in zip(*(array.tolist() for array in coded), strict=True):
            yield start, frequency
            if escape >= 0:
                yield from _golomb(escape)


def _intervals(
    numbers: NDArray[np.int64], odd: NDArray[np.int64], mixed: Mixtures, foreteller: Foreteller
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return where the shares of symbols ``(n,)`` start and end, and how far beyond the others they lie, or −1."""
    lowest, total = foreteller.lowest(mixed, odd), foreteller.total
    shares = numbers - lowest + 1
    below, above = -shares, shares - (total - 1)
    shares = shares.clip(0, total - 1)
    both = np.stack([shares, shares + 1], axis=1)
    edges = foreteller.edges(lowest[:, None] + both - 1, odd[:, None])
    frequencies = mixtures.frequencies_below(mixed, edges, both, total)
    starts = np.where(shares == 0, 0, frequencies[:, 0])
    ends = np.where(shares == total - 1, 1 << range_coder.PRECISION, frequencies[:, 1])
    return starts, ends, np.maximum(below, above).clip(-1)


def _golomb(number: int) -> Iterator[tuple[int, int]]:
    """Yield the shares of the bits of a number from 0: as many zeros as bits follow the first one, then all of them."""
    length = (number + 1).bit_length()
    for place in range(2 * length - 2, -1, -1):
        yield _BIT * (number + 1 >> place & 1), _BIT


def _read_golomb(decoder: range_coder.Decoder) -> int:
    def bit() -> int:
        value = decoder.target() // _BIT
        decoder.consume(_BIT * value, _BIT)
        return value

    zeros = 0
    while not bit():
        zeros += 1
        if zeros > _LARGEST_ESCAPE_BITS:
            raise CorruptFileError("a symbol lies farther out than any writer puts it")
    number = 1
    for _ in range(zeros):
        number = number << 1 | bit()
    return number - 1


def read(stream: bytes, rows: int, columns: int, foreteller: Foreteller) -> tuple[NDArray[np.float64], float]:
    """Return the latents ``(4, rows, columns)`` that a stream stands for, and the mean variance around them.

    A latent is taken to lie at the mean of its mixture within its symbol's interval.

    Raises:
        CorruptFileError: The stream is none that :func:`write` makes of so many symbols.
    """
    decoder = range_coder.Decoder(stream)
    latents = np.empty((CHANNELS, rows, columns))
    variance = 0.0
    seen = None
    for top in range(0, rows, BAND):
        height = min(BAND, rows - top)
        seen = SeenLatents(height, columns, seen)
        symbols, outputs = _read_band(decoder, seen, height, columns, foreteller)
        for channel in range(CHANNELS):
            lower = foreteller.edges(symbols.numbers[channel], symbols.odd[channel]).ravel()
            mixed = mixtures.from_outputs(outputs[channel].reshape(len(lower), -1))
            means, variances = mixtures.centroids(mixed, lower, 2 * foreteller.step)
            latents[channel, top : top + height] = means.reshape(height, columns)
            variance += float(variances.sum())
    decoder.check_end()
    return latents, variance / latents.size


def _read_band(
    decoder: range_coder.Decoder, seen: SeenLatents, rows: int, columns: int, foreteller: Foreteller
) -> tuple[Symbols, NDArray[np.int64]]:
    """Return a band's symbols ``(4, rows, columns)`` and what the network said of them, ``(4, rows, columns, 5)``."""
    network, total = foreteller.network, foreteller.total
    shares = np.arange(1, total)
    symbols = Symbols(*(np.zeros((CHANNELS, rows, columns), np.int64) for _ in range(2)))
    outputs = np.empty((CHANNELS, rows, columns, OUTPUTS), np.int64)
    states = np.zeros((CHANNELS, rows), np.int64)
    for ys, xs in wavefronts(rows, columns):
        started = network.start(seen.around(ys, xs))
        for channel in range(CHANNELS):
            said = network.finish(channel, started[:, channel], seen.at(ys, xs))
            mixed = mixtures.from_outputs(said)
            odd = trellis.is_odd(states[channel, ys])
            lowest = foreteller.lowest(mixed, odd)
            edges = foreteller.edges(lowest[:, None] + shares - 1, odd[:, None])
            below = mixtures.frequencies_below(mixed, edges, shares, total)
            distributions = zip(below.tolist(), lowest.tolist(), strict=True)
            numbers = np.array([_read_symbol(decoder, *distribution) for distribution in distributions])
            seen.put(channel, ys, xs, foreteller.values(numbers, odd))
            symbols.numbers[channel, ys, xs], symbols.odd[channel, ys, xs] = numbers, odd
            outputs[channel, ys, xs] = said
            if foreteller.trellis:
                states[channel, ys] = trellis.FOLLOWING[states[channel, ys], numbers & 1]
    return symbols, outputs


def _read_symbol(decoder: range_coder.Decoder, below: list[int], lowest: int) -> int:
    """Return the next symbol, where its share begins at one of ``below``, the first that of ``lowest``."""
    share = bisect_right(below, decoder.target())
    start = below[share - 1] if share else 0
    end = below[share] if share < len(below) else 1 << range_coder.PRECISION
    decoder.consume(start, end - start)
    if not share:
        return lowest - 1 - _read_golomb(decoder)
    if share == len(below):
        return lowest + share - 1 + _read_golomb(decoder)
    return lowest + share - 1
