"""Symbols to a stream of bytes and back, as the context network predicts them.

Places are coded band by band, within a band along the wavefronts of :mod:`.context_network`, within a wavefront channel
by channel, and then from top to bottom. The range coder is given, for each symbol, its share of [0, 2¹⁶): the line of
latents is divided at the edges of the few symbols around the mixture's middle; what lies below or above them are two
more shares, and after those comes how far out the symbol lies, in an exponential Golomb code.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import CorruptFileError, TruncatedFileError
from ...progress import UNCOUNTED, Steps
from . import kernel as context_kernel
from . import mixtures, range_coder, trellis
from .mixtures import POSITION_UNIT, Mixtures
from .network import BAND, CHANNELS, OUTPUTS, SLOPE, ContextNetwork, SeenLatents, wavefronts

STEP_UNIT = 1 / 4096
"""Of the step, in SD-scaled latents: half a step is then whole in :data:`.mixtures.POSITION_UNIT`."""

REFERENCE_STEP = 2457.6

_TRELLIS_CELL = 227
"""In 1/256 of the step: the interval, as wide as the error of the trellis' 64 states is large, in which its latents are
taken to lie. Its centroids are within 0.5 % of the best possible error for Gaussian sources."""

_MOST_BESIDE = 64
_LARGEST_ESCAPE_BITS = 20
_TOO_FAR = "a symbol lies farther out than any writer puts it"
_BIT = 1 << range_coder.PRECISION - 1
_CHUNK = 1024
"""Places that are computed at once, as many as fit into a processor's cache; the result does not depend on it."""


@dataclass(frozen=True)
class Symbols:
    """Quantised latents.

    Attributes:
        numbers: int64 ``(4, h, w)``.
        odd: Of the same shape: whether the value is (number + ½) steps, or else number steps.
    """

    numbers: NDArray[np.int64]
    odd: NDArray[np.int64]


class EntropyModel:
    """What one picture's symbols are coded with."""

    def __init__(self, arrays: Mapping[str, NDArray[np.integer]], step: int, *, stretched: bool, trellis: bool) -> None:
        """Prepare the network of these arrays for a step, in :data:`STEP_UNIT`."""
        # No step's logarithm lies so near to the middle between two whole numbers that its last bits could matter.
        logarithm = round(256 * float(np.log(step / REFERENCE_STEP)))
        self.arrays = arrays
        self.network = ContextNetwork(arrays, logarithm, stretched=stretched)
        self.step = step
        self.trellis = trellis
        self.cell = 2 * step * _TRELLIS_CELL >> 8 if trellis else 2 * step
        """Width of the interval that latents are taken to lie in, in :data:`.mixtures.POSITION_UNIT`."""
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
        edges: NDArray[np.int64] = self.positions(numbers, odd) - self.step
        return edges

    def positions(self, numbers: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the middles of symbols' intervals, in :data:`.mixtures.POSITION_UNIT`."""
        positions: NDArray[np.int64] = (2 * numbers + odd) * self.step
        return positions

    def values(self, numbers: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the same in SD-scaled latents."""
        values: NDArray[np.floating] = self.positions(numbers, odd) * POSITION_UNIT
        return values


def _kernel_for(model: EntropyModel) -> context_kernel.Kernel | None:
    """Return the compiled kernel, unless there is none or it is not made for a network of these sizes."""
    kernel = context_kernel.choice().kernel
    return kernel if kernel and kernel.takes(model.arrays) else None


def write(symbols: Symbols, model: EntropyModel, steps: Steps = UNCOUNTED) -> bytes:
    """Return the stream of symbols; a step is a band."""
    if kernel := _kernel_for(model):
        return kernel.write(symbols.numbers, model, steps)
    return range_coder.encode(_shares(symbols, model, steps))


def reconstruct(symbols: Symbols, model: EntropyModel) -> tuple[NDArray[np.float64], float]:
    """Return the result of :func:`read` for the stream of these symbols, without writing or reading it."""
    if kernel := _kernel_for(model):
        predicted = kernel.predict(symbols.numbers, model)
        return predicted.means, _mean([predicted.variances.ravel()])
    latents = np.empty(symbols.numbers.shape)
    variances = []
    for band in _predict(symbols, model):
        means, variance = _centroids(band.numbers.ravel(), band.odd.ravel(), band.outputs.reshape(-1, OUTPUTS), model)
        latents[:, band.rows] = means.reshape(latents[:, band.rows].shape)
        variances.append(variance)
    return latents, _mean(variances)


class _PredictedBand(NamedTuple):
    """A band's symbols, and what the network says of each when it has seen those before it.

    Attributes:
        rows: Of the picture.
        numbers, odd: ``(4, n)``, row by row.
        outputs: ``(4, n, 5)``.
    """

    rows: slice
    numbers: NDArray[np.int64]
    odd: NDArray[np.int64]
    outputs: NDArray[np.int64]


def _predict(symbols: Symbols, model: EntropyModel) -> Iterator[_PredictedBand]:
    """Evaluate the network for all symbols of a band at once, band by band."""
    _, rows, columns = symbols.numbers.shape
    seen = None
    for top in range(0, rows, BAND):
        band = slice(top, min(rows, top + BAND))
        numbers, odd = (array[:, band].reshape(CHANNELS, -1) for array in (symbols.numbers, symbols.odd))
        ys, xs = np.divmod(np.arange(numbers.shape[1]), columns)
        seen = SeenLatents(band.stop - top, columns, seen)
        for channel in range(CHANNELS):
            seen.put(channel, ys, xs, model.values(numbers[channel], odd[channel]))
        outputs = np.empty((*numbers.shape, OUTPUTS), np.int64)
        for first in range(0, len(ys), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            started = model.network.start(seen.around(ys[chunk], xs[chunk]))
            here = seen.at(ys[chunk], xs[chunk])
            for channel in range(CHANNELS):
                outputs[channel, chunk] = model.network.finish(channel, started[:, channel], here)
        yield _PredictedBand(band, numbers, odd, outputs)


def _shares(symbols: Symbols, model: EntropyModel, steps: Steps) -> Iterator[tuple[int, int]]:
    """Yield the shares of all symbols, in the order of coding."""
    columns = symbols.numbers.shape[2]
    for band in _predict(symbols, model):
        mixed = mixtures.from_outputs(band.outputs.reshape(-1, OUTPUTS))
        starts, ends, beyond = _intervals(band.numbers.ravel(), band.odd.ravel(), mixed, model)
        ys, xs = np.divmod(np.arange(band.numbers.shape[1]), columns)
        channels = np.arange(CHANNELS)[:, None]
        order = np.argsort((((SLOPE * ys + xs) * CHANNELS + channels) * BAND + ys).ravel())
        coded = (array[order].tolist() for array in (starts, ends - starts, beyond))
        for start, frequency, escape in zip(*coded, strict=True):
            yield start, frequency
            if escape >= 0:
                yield from _golomb(escape)
        steps.done()


def _intervals(
    numbers: NDArray[np.int64], odd: NDArray[np.int64], mixed: Mixtures, model: EntropyModel
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return where the shares of symbols ``(n,)`` start and end, and how far beyond the others they lie, or −1."""
    lowest, total = model.lowest(mixed, odd), model.total
    shares = numbers - lowest + 1
    below, above = -shares, shares - (total - 1)
    shares = shares.clip(0, total - 1)
    both = np.stack([shares, shares + 1], axis=1)
    edges = model.edges(lowest[:, None] + both - 1, odd[:, None])
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
            raise CorruptFileError(_TOO_FAR)
    number = 1
    for _ in range(zeros):
        number = number << 1 | bit()
    return number - 1


def read(
    stream: bytes, rows: int, columns: int, model: EntropyModel, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.float64], float]:
    """Return the latents ``(4, rows, columns)`` that a stream stands for, and the mean variance around them.

    A latent is taken to lie at the mean of its mixture within the symbol's cell. A step is a band.

    Raises:
        CorruptFileError: The stream is none that :func:`write` makes of so many symbols.
    """
    decoder = range_coder.Decoder(stream)
    if kernel := _kernel_for(model):
        run = kernel.read(stream, rows, columns, model, whole=True, steps=steps)
        read = _read_by_kernel(run)
        decoder.state = run.state
    else:
        read = _read(decoder, rows, columns, model, steps)
    decoder.check_end()
    return read


def read_truncated(
    stream: bytes, rows: int, columns: int, model: EntropyModel, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.float64], float]:
    """Return what :func:`read` would have, from the beginning of a stream; latents that did not arrive are zero.

    Raises:
        CorruptFileError: The stream is none that :func:`write` makes of so many symbols.
    """
    if kernel := _kernel_for(model):
        return _read_by_kernel(kernel.read(stream, rows, columns, model, whole=False, steps=steps))
    return _read(range_coder.TruncatedDecoder(stream), rows, columns, model, steps)


def _read_by_kernel(run: context_kernel.Run) -> tuple[NDArray[np.float64], float]:
    if run.result == context_kernel.Result.DAMAGED:
        raise CorruptFileError(range_coder.DAMAGED)
    if run.result == context_kernel.Result.TOO_FAR:
        raise CorruptFileError(_TOO_FAR)
    return run.means, _mean([run.variances[run.variances >= 0]])


def _read(
    decoder: range_coder.Decoder, rows: int, columns: int, model: EntropyModel, steps: Steps
) -> tuple[NDArray[np.float64], float]:
    latents = np.zeros((CHANNELS, rows, columns))
    variances: list[NDArray[np.float64]] = []
    seen = None
    for top in range(0, rows, BAND):
        band = Band(min(BAND, rows - top), columns, seen)
        with suppress(TruncatedFileError):
            _read_band(decoder, band, model)
        seen = band.seen
        means, variance = _centroids(band.numbers, band.odd, band.outputs, model)
        latents[:, top : top + BAND][band.known] = means
        variances.append(variance)
        if not band.known.all():
            break
        steps.done()
    return latents, _mean(variances)


def _centroids(
    numbers: NDArray[np.int64], odd: NDArray[np.int64], outputs: NDArray[np.int64], model: EntropyModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the latents ``(n,)`` that symbols stand for, ``outputs`` ``(n, 5)`` said of them."""
    lower = model.positions(numbers, odd) - (model.cell >> 1)
    return mixtures.centroids(mixtures.from_outputs(outputs), lower, model.cell)


def _mean(parts: list[NDArray[np.float64]]) -> float:
    """Return the mean of some arrays' numbers, 0 of none.

    The sum is rounded once, so that its order, which numpy chooses by the machine, does not matter.
    """
    return math.fsum(chain.from_iterable(part.tolist() for part in parts)) / max(1, sum(map(len, parts)))


class Band:
    """A band of rows while it is read."""

    def __init__(self, rows: int, columns: int, above: SeenLatents | None) -> None:
        self.seen = SeenLatents(rows, columns, above)
        self.states = np.zeros((CHANNELS, rows), np.int64)
        self.known = np.zeros((CHANNELS, rows, columns), bool)
        """Which symbols have been read."""
        self._numbers, self._odd = (np.zeros((CHANNELS, rows, columns), np.int64) for _ in range(2))
        self._outputs = np.zeros((CHANNELS, rows, columns, OUTPUTS), np.int64)

    def put(
        self,
        channel: int,
        ys: NDArray[np.int64],
        xs: NDArray[np.int64],
        numbers: NDArray[np.int64],
        odd: NDArray[np.int64],
        outputs: NDArray[np.int64],
    ) -> None:
        """Take up a channel's symbols at some places, and what the network said of them."""
        self.known[channel, ys, xs] = True
        self._numbers[channel, ys, xs] = numbers
        self._odd[channel, ys, xs] = odd
        self._outputs[channel, ys, xs] = outputs

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The symbols that are known, ``(n,)``."""
        return self._numbers[self.known]

    @property
    def odd(self) -> NDArray[np.int64]:
        """Whether their values are odd, ``(n,)``."""
        return self._odd[self.known]

    @property
    def outputs(self) -> NDArray[np.int64]:
        """What the network said of them, ``(n, 5)``."""
        return self._outputs[self.known]


def _read_band(decoder: range_coder.Decoder, band: Band, model: EntropyModel) -> None:
    """Read a band's symbols and keep what the network said of each."""
    network, total = model.network, model.total
    shares = np.arange(1, total)
    for ys, xs in wavefronts(*band.known.shape[1:]):
        started = network.start(band.seen.around(ys, xs))
        for channel in range(CHANNELS):
            said = network.finish(channel, started[:, channel], band.seen.at(ys, xs))
            mixed = mixtures.from_outputs(said)
            odd = trellis.ODD[band.states[channel, ys]]
            lowest = model.lowest(mixed, odd)
            edges = model.edges(lowest[:, None] + shares - 1, odd[:, None])
            below = mixtures.frequencies_below(mixed, edges, shares, total)
            distributions = zip(below.tolist(), lowest.tolist(), strict=True)
            numbers = np.array([_read_symbol(decoder, *distribution) for distribution in distributions])
            band.seen.put(channel, ys, xs, model.values(numbers, odd))
            band.put(channel, ys, xs, numbers, odd, said)
            if model.trellis:
                band.states[channel, ys] = trellis.FOLLOWING[band.states[channel, ys], numbers & 1]


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
