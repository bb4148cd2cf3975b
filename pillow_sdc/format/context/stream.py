"""Symbols to a stream of bytes and back, under the context network's predictions.

Places are coded band by band, within a band along the wavefronts of :mod:`.network`, within a wavefront channel by
channel, and then from top to bottom. The alphabet of the range coder consists of the few symbols around the mixture's
mean, and an escape each for the symbols below and above these. After an escape comes the distance of the symbol, in an
exponential Golomb code.
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
from .network import BAND, CHANNELS, OUTPUTS, SLOPE, CodedLatents, ContextNetwork, wavefronts

STEP_UNIT = 1 / 4096
"""Unit of the step, in SD-scaled latents: twice :data:`.mixtures.POSITION_UNIT`, so that half a step is an integer."""

REFERENCE_STEP = 2457.6
"""The step for which the network's first condition, the logarithm, is 0: 0.6, in units of :data:`STEP_UNIT`."""

_TRELLIS_BIN = 227
"""Width of the bin in which a latent's centroid is taken after trellis-coded quantisation, in 1/256 step. It has the
variance of the error of the 64-state trellis; the centroids are within 0.5 % of the best possible error for Gaussian
sources."""

_MAX_RADIUS = 64
_MAX_ESCAPE_BITS = 20
_TOO_FAR = "a symbol lies farther out than any writer puts it"
_BIT = 1 << range_coder.PRECISION - 1
_CHUNK = 1024
"""Number of places computed at once, chosen for the processor's cache; the result does not depend on it."""


@dataclass(frozen=True)
class SymbolPlanes:
    """The symbols of a picture.

    Attributes:
        symbols: int64 ``(4, h, w)``.
        odd: Same shape; 1 where the value of symbol k is (k + ½) steps, 0 where it is k steps.
    """

    symbols: NDArray[np.int64]
    odd: NDArray[np.int64]


class EntropyModel:
    """The model by which one picture's symbols are coded."""

    def __init__(self, arrays: Mapping[str, NDArray[np.integer]], step: int, *, weighted: bool, trellis: bool) -> None:
        """Prepare the network of these arrays for a step, in :data:`STEP_UNIT`."""
        # No step's logarithm lies so close to half-way between two integers that its last bits could matter.
        logarithm = round(256 * float(np.log(step / REFERENCE_STEP)))
        self.arrays = arrays
        self.network = ContextNetwork(arrays, logarithm, weighted=weighted)
        self.step = step
        self.trellis = trellis
        self.bin_width = 2 * step * _TRELLIS_BIN >> 8 if trellis else 2 * step
        """Width of the bin in which a latent's centroid is taken, in :data:`.mixtures.POSITION_UNIT`."""
        self.radius = min(_MAX_RADIUS, 2 + 12288 // step)
        """Number of symbols in the alphabet on each side of the middle one."""
        self.alphabet_size = 2 * self.radius + 3
        """Number of intervals: the symbols on both sides, the middle one, and the escapes below and above."""

    def lowest(self, mixed: Mixtures, odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lowest symbols ``(n,)`` of the alphabets."""
        middle = (mixtures.mixture_means(mixed) + (1 - odd) * self.step) // (2 * self.step)
        lowest: NDArray[np.int64] = middle - self.radius
        return lowest

    def edges(self, symbols: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lower edges of symbols' bins, in :data:`.mixtures.POSITION_UNIT`."""
        edges: NDArray[np.int64] = self.positions(symbols, odd) - self.step
        return edges

    def positions(self, symbols: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the values of symbols, the middles of their bins, in :data:`.mixtures.POSITION_UNIT`."""
        positions: NDArray[np.int64] = (2 * symbols + odd) * self.step
        return positions

    def values(self, symbols: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the values of symbols in SD-scaled latents."""
        values: NDArray[np.floating] = self.positions(symbols, odd) * POSITION_UNIT
        return values


def _kernel_for(model: EntropyModel) -> context_kernel.Kernel | None:
    """Return the compiled kernel if there is one and it supports a network of these sizes."""
    kernel = context_kernel.selection().kernel
    return kernel if kernel and kernel.takes(model.arrays) else None


def write(planes: SymbolPlanes, model: EntropyModel, steps: Steps = UNCOUNTED) -> bytes:
    """Return the stream of symbols; progress counts bands."""
    if kernel := _kernel_for(model):
        return kernel.write(planes.symbols, model, steps)
    return range_coder.encode(_coded_intervals(planes, model, steps))


def reconstruct(planes: SymbolPlanes, model: EntropyModel) -> tuple[NDArray[np.float64], float]:
    """Return the result of :func:`read` for the stream of these symbols, without writing or reading it."""
    if kernel := _kernel_for(model):
        predicted = kernel.predict(planes.symbols, model)
        return predicted.means, _mean([predicted.variances.ravel()])
    latents = np.empty(planes.symbols.shape)
    variances = []
    for band in _predict(planes, model):
        means, variance = _centroids(band.symbols.ravel(), band.odd.ravel(), band.outputs.reshape(-1, OUTPUTS), model)
        latents[:, band.rows] = means.reshape(latents[:, band.rows].shape)
        variances.append(variance)
    return latents, _mean(variances)


class _PredictedBand(NamedTuple):
    """A band's symbols, and the network's outputs for each.

    Attributes:
        rows: The rows of the picture that belong to the band.
        symbols, odd: ``(4, n)``, row by row.
        outputs: ``(4, n, 5)``.
    """

    rows: slice
    symbols: NDArray[np.int64]
    odd: NDArray[np.int64]
    outputs: NDArray[np.int64]


def _predict(planes: SymbolPlanes, model: EntropyModel) -> Iterator[_PredictedBand]:
    """Yield the network's predictions band by band, all symbols of a band at once."""
    _, rows, columns = planes.symbols.shape
    coded = None
    for top in range(0, rows, BAND):
        band = slice(top, min(rows, top + BAND))
        symbols, odd = (array[:, band].reshape(CHANNELS, -1) for array in (planes.symbols, planes.odd))
        ys, xs = np.divmod(np.arange(symbols.shape[1]), columns)
        coded = CodedLatents(band.stop - top, columns, coded)
        for channel in range(CHANNELS):
            coded.put(channel, ys, xs, model.values(symbols[channel], odd[channel]))
        outputs = np.empty((*symbols.shape, OUTPUTS), np.int64)
        for first in range(0, len(ys), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            sums = model.network.window_sums(coded.windows(ys[chunk], xs[chunk]))
            here = coded.at(ys[chunk], xs[chunk])
            for channel in range(CHANNELS):
                outputs[channel, chunk] = model.network.outputs(channel, sums[:, channel], here)
        yield _PredictedBand(band, symbols, odd, outputs)


def _coded_intervals(planes: SymbolPlanes, model: EntropyModel, steps: Steps) -> Iterator[tuple[int, int]]:
    """Yield the intervals that the range coder codes, start and frequency, of all symbols in coding order."""
    columns = planes.symbols.shape[2]
    for band in _predict(planes, model):
        mixed = mixtures.from_outputs(band.outputs.reshape(-1, OUTPUTS))
        starts, ends, escapes = _symbol_intervals(band.symbols.ravel(), band.odd.ravel(), mixed, model)
        ys, xs = np.divmod(np.arange(band.symbols.shape[1]), columns)
        channels = np.arange(CHANNELS)[:, None]
        order = np.argsort((((SLOPE * ys + xs) * CHANNELS + channels) * BAND + ys).ravel())
        coded = (array[order].tolist() for array in (starts, ends - starts, escapes))
        for start, frequency, escape in zip(*coded, strict=True):
            yield start, frequency
            if escape >= 0:
                yield from _golomb(escape)
        steps.done()


def _symbol_intervals(
    symbols: NDArray[np.int64], odd: NDArray[np.int64], mixed: Mixtures, model: EntropyModel
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return start and end of the intervals of symbols ``(n,)``, and the numbers after escapes, or −1."""
    lowest, alphabet_size = model.lowest(mixed, odd), model.alphabet_size
    indices = symbols - lowest + 1
    below, above = -indices, indices - (alphabet_size - 1)
    indices = indices.clip(0, alphabet_size - 1)
    both = np.stack([indices, indices + 1], axis=1)
    edges = model.edges(lowest[:, None] + both - 1, odd[:, None])
    cumulative = mixtures.cumulative_frequencies(mixed, edges, both, alphabet_size)
    starts = np.where(indices == 0, 0, cumulative[:, 0])
    ends = np.where(indices == alphabet_size - 1, 1 << range_coder.PRECISION, cumulative[:, 1])
    return starts, ends, np.maximum(below, above).clip(-1)


def _golomb(number: int) -> Iterator[tuple[int, int]]:
    """Yield the intervals of the bits of a number's exponential Golomb code, order 0."""
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
        if zeros > _MAX_ESCAPE_BITS:
            raise CorruptFileError(_TOO_FAR)
    number = 1
    for _ in range(zeros):
        number = number << 1 | bit()
    return number - 1


def read(
    stream: bytes, rows: int, columns: int, model: EntropyModel, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.float64], float]:
    """Return the latents ``(4, rows, columns)`` of a stream, and the mean variance around them.

    A latent is reconstructed at its centroid: the mean of its mixture within the symbol's bin. Progress counts bands.

    Raises:
        CorruptFileError: The stream is not one that :func:`write` writes for this shape.
    """
    decoder = range_coder.Decoder(stream)
    if kernel := _kernel_for(model):
        output = kernel.read(stream, rows, columns, model, whole=True, steps=steps)
        read = _from_kernel(output)
        decoder.state = output.state
    else:
        read = _read(decoder, rows, columns, model, steps)
    decoder.check_end()
    return read


def read_truncated(
    stream: bytes, rows: int, columns: int, model: EntropyModel, steps: Steps = UNCOUNTED
) -> tuple[NDArray[np.float64], float]:
    """Return the result of :func:`read` for a truncated stream, as far as it goes; missing latents are zero.

    Raises:
        CorruptFileError: The stream is not the beginning of one that :func:`write` writes for this shape.
    """
    if kernel := _kernel_for(model):
        return _from_kernel(kernel.read(stream, rows, columns, model, whole=False, steps=steps))
    return _read(range_coder.TruncatedDecoder(stream), rows, columns, model, steps)


def _from_kernel(output: context_kernel.KernelOutput) -> tuple[NDArray[np.float64], float]:
    if output.status == context_kernel.Status.DAMAGED:
        raise CorruptFileError(range_coder.DAMAGED)
    if output.status == context_kernel.Status.TOO_FAR:
        raise CorruptFileError(_TOO_FAR)
    return output.means, _mean([output.variances[output.variances >= 0]])


def _read(
    decoder: range_coder.Decoder, rows: int, columns: int, model: EntropyModel, steps: Steps
) -> tuple[NDArray[np.float64], float]:
    latents = np.zeros((CHANNELS, rows, columns))
    variances: list[NDArray[np.float64]] = []
    coded = None
    for top in range(0, rows, BAND):
        band = Band(min(BAND, rows - top), columns, coded)
        with suppress(TruncatedFileError):
            _read_band(decoder, band, model)
        coded = band.coded
        means, variance = _centroids(band.symbols, band.odd, band.outputs, model)
        latents[:, top : top + BAND][band.known] = means
        variances.append(variance)
        if not band.known.all():
            break
        steps.done()
    return latents, _mean(variances)


def _centroids(
    symbols: NDArray[np.int64], odd: NDArray[np.int64], outputs: NDArray[np.int64], model: EntropyModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the latents of symbols ``(n,)``, given the network's outputs ``(n, 5)``."""
    lower = model.positions(symbols, odd) - (model.bin_width >> 1)
    return mixtures.centroids(mixtures.from_outputs(outputs), lower, model.bin_width)


def _mean(parts: list[NDArray[np.float64]]) -> float:
    """Return the mean over some arrays, 0 if they are empty.

    The sum is exact and rounded once: the order of numpy's sums, and so their rounding, depends on the machine.
    """
    return math.fsum(chain.from_iterable(part.tolist() for part in parts)) / max(1, sum(map(len, parts)))


class Band:
    """A band of rows that is being read."""

    def __init__(self, rows: int, columns: int, above: CodedLatents | None) -> None:
        self.coded = CodedLatents(rows, columns, above)
        self.states = np.zeros((CHANNELS, rows), np.int64)
        self.known = np.zeros((CHANNELS, rows, columns), bool)
        """Which symbols have been read."""
        self._symbols, self._odd = (np.zeros((CHANNELS, rows, columns), np.int64) for _ in range(2))
        self._outputs = np.zeros((CHANNELS, rows, columns, OUTPUTS), np.int64)

    def put(
        self,
        channel: int,
        ys: NDArray[np.int64],
        xs: NDArray[np.int64],
        symbols: NDArray[np.int64],
        odd: NDArray[np.int64],
        outputs: NDArray[np.int64],
    ) -> None:
        """Set a channel's symbols at some places, and the network's outputs for them."""
        self.known[channel, ys, xs] = True
        self._symbols[channel, ys, xs] = symbols
        self._odd[channel, ys, xs] = odd
        self._outputs[channel, ys, xs] = outputs

    @property
    def symbols(self) -> NDArray[np.int64]:
        """The known symbols, ``(n,)``."""
        return self._symbols[self.known]

    @property
    def odd(self) -> NDArray[np.int64]:
        """Whether the values of the known symbols are odd, ``(n,)``."""
        return self._odd[self.known]

    @property
    def outputs(self) -> NDArray[np.int64]:
        """The network's outputs for the known symbols, ``(n, 5)``."""
        return self._outputs[self.known]


def _read_band(decoder: range_coder.Decoder, band: Band, model: EntropyModel) -> None:
    """Read a band's symbols."""
    network, alphabet_size = model.network, model.alphabet_size
    indices = np.arange(1, alphabet_size)
    for ys, xs in wavefronts(*band.known.shape[1:]):
        sums = network.window_sums(band.coded.windows(ys, xs))
        for channel in range(CHANNELS):
            outputs = network.outputs(channel, sums[:, channel], band.coded.at(ys, xs))
            mixed = mixtures.from_outputs(outputs)
            odd = trellis.ODD[band.states[channel, ys]]
            lowest = model.lowest(mixed, odd)
            edges = model.edges(lowest[:, None] + indices - 1, odd[:, None])
            starts = mixtures.cumulative_frequencies(mixed, edges, indices, alphabet_size)
            distributions = zip(starts.tolist(), lowest.tolist(), strict=True)
            symbols = np.array([_read_symbol(decoder, *distribution) for distribution in distributions])
            band.coded.put(channel, ys, xs, model.values(symbols, odd))
            band.put(channel, ys, xs, symbols, odd, outputs)
            if model.trellis:
                band.states[channel, ys] = trellis.NEXT_STATE[band.states[channel, ys], symbols & 1]


def _read_symbol(decoder: range_coder.Decoder, starts: list[int], lowest: int) -> int:
    """Return the next symbol, given the starts of all intervals but the first; ``starts[0]`` is that of ``lowest``."""
    index = bisect_right(starts, decoder.target())
    start = starts[index - 1] if index else 0
    end = starts[index] if index < len(starts) else 1 << range_coder.PRECISION
    decoder.consume(start, end - start)
    if not index:
        return lowest - 1 - _read_golomb(decoder)
    if index == len(starts):
        return lowest + index - 1 + _read_golomb(decoder)
    return lowest + index - 1
