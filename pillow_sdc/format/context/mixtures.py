"""Mixtures of two logistic distributions in integer arithmetic: the context network's predictions as frequencies.

A symbol's probability is the mass of the mixture within the symbol's bin (Salimans et al. 2017, "PixelCNN++").
All arithmetic is on integers, except for :func:`centroids`, where every operation is rounded the same on all machines.
The tables are computed with functions whose last bit depends on the machine; but no entry lies so close to half-way
between two integers that the last bits could matter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .range_coder import PRECISION

OUTPUT_UNIT = 1 / 1024
"""Unit of the network's outputs: a logit, two means in SD-scaled latents, two natural logarithms of scales."""

POSITION_UNIT = 1 / 8192
"""Unit of means and of the edges of bins, in SD-scaled latents."""

LOGITS = np.arange(-128, 129) / 16
LOG_SCALES = np.arange(-80, 33) / 16
STANDARD_DEVIATES = np.arange(-12 * 256, 12 * 256 + 1) / 256
"""Arguments for which the tables have entries."""

_PROBABILITY_BITS = 24
_INVERSE_BITS = 20
_SUBDIVISIONS = 8


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return values


MIXTURE_WEIGHTS = np.rint(_logistic(LOGITS) * 2**PRECISION).astype(np.int64)
"""The logistic function of :data:`LOGITS`, in units of 2⁻¹⁶."""

INVERSE_SCALES = np.rint(POSITION_UNIT * 256 * 2**_INVERSE_BITS * np.exp(-LOG_SCALES)).astype(np.int64)
"""Factors by :data:`LOG_SCALES`: a distance in :data:`POSITION_UNIT`, times the factor, over 2²⁰, is in 1/256 scale."""

LOGISTIC_CDF = np.rint(_logistic(STANDARD_DEVIATES) * 2**_PROBABILITY_BITS).astype(np.int64)
"""The logistic function of :data:`STANDARD_DEVIATES`, in units of 2⁻²⁴."""


@dataclass(frozen=True)
class Mixtures:
    """``n`` mixtures of two logistic distributions.

    Attributes:
        weights: ``(n,)``, the weight of the first distribution, in units of 2⁻¹⁶.
        means: ``(n, 2)``, in :data:`POSITION_UNIT`.
        scales: ``(n, 2)``, indices into :data:`LOG_SCALES`.
    """

    weights: NDArray[np.int64]
    means: NDArray[np.int64]
    scales: NDArray[np.int64]

    def __getitem__(self, selection: slice | NDArray[np.integer]) -> "Mixtures":
        """Return a selection of the mixtures."""
        return Mixtures(self.weights[selection], self.means[selection], self.scales[selection])


def from_outputs(outputs: NDArray[np.int64]) -> Mixtures:
    """Return the mixtures given by the network's outputs ``(n, 5)``."""
    ratio = round(OUTPUT_UNIT / POSITION_UNIT)
    logits = (outputs[:, 0] + 32 >> 6) + len(LOGITS) // 2
    scales = (outputs[:, 3:] + 32 >> 6) - round(LOG_SCALES[0] * 16)
    return Mixtures(
        MIXTURE_WEIGHTS[_clamp(logits, len(LOGITS) - 1)],
        outputs[:, 1:3] * ratio,
        _clamp(scales, len(LOG_SCALES) - 1),
    )


def _clamp(indices: NDArray[np.int64], largest: int) -> NDArray[np.int64]:
    # Twice as fast for small arrays as numpy's clip, which spends most of its time on set-up.
    limited: NDArray[np.int64] = np.minimum(np.maximum(indices, 0), largest)
    return limited


def mixture_means(mixtures: Mixtures) -> NDArray[np.int64]:
    """Return the mixtures' means ``(n,)``, in :data:`POSITION_UNIT`."""
    first, second = mixtures.means.T
    means: NDArray[np.int64] = second + (mixtures.weights * (first - second) >> PRECISION)
    return means


def cdf(mixtures: Mixtures, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cumulative distribution functions, in units of 2⁻²⁴, at positions ``(n, k)``."""
    middle = len(STANDARD_DEVIATES) // 2
    both = []
    for mean, scale in zip(mixtures.means.T, mixtures.scales.T, strict=True):
        deviates = (positions - mean[:, None]) * INVERSE_SCALES[scale][:, None] >> _INVERSE_BITS
        both.append(LOGISTIC_CDF[_clamp(deviates + middle, 2 * middle)])
    first, second = both
    below: NDArray[np.int64] = second + (mixtures.weights[:, None] * (first - second) >> PRECISION)
    return below


def cumulative_frequencies(
    mixtures: Mixtures, edges: NDArray[np.int64], indices: NDArray[np.int64], alphabet_size: int
) -> NDArray[np.int64]:
    """Return the starts, in [0, 2¹⁶), of the intervals that the range coder has for an alphabet.

    The alphabet divides the line of latents; interval ``i`` ends where interval ``i + 1`` starts. None is empty.

    Args:
        mixtures: ``n`` distributions.
        edges: ``(n, k)``, the positions on the line at which the intervals start, in :data:`POSITION_UNIT`.
        indices: Indices of the intervals, 1 to ``alphabet_size`` − 1, ``(n, k)`` or broadcast to that.
        alphabet_size: Number of intervals.

    Returns:
        ``(n, k)``, between 0 and 2¹⁶, both excluded.
    """
    below = cdf(mixtures, edges)
    starts: NDArray[np.int64] = (below * ((1 << PRECISION) - alphabet_size) >> _PROBABILITY_BITS) + indices
    return starts


def centroids(
    mixtures: Mixtures, lower: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of each mixture within its bin, in SD-scaled latents.

    Args:
        mixtures: ``n`` distributions.
        lower: ``(n,)``, lower edges of the bins, in :data:`POSITION_UNIT`.
        width: Width of all bins, in the same unit.
    """
    edges = lower[:, None] + (width * np.arange(_SUBDIVISIONS + 1) // _SUBDIVISIONS)
    masses = np.diff(cdf(mixtures, edges), axis=1)
    masses[masses.sum(axis=1) == 0] = 1  # so far out that the tables give zero everywhere
    centres = 2 * np.arange(_SUBDIVISIONS) + 1
    # Sums of integers are exact. Each floating-point operation after that is rounded by itself, the same everywhere.
    total = masses.sum(axis=1).astype(np.float64)
    mean = (masses @ centres).astype(np.float64) / total
    square = (masses @ centres**2).astype(np.float64) / total
    unit = width * POSITION_UNIT / (2 * _SUBDIVISIONS)
    within = 1 / 3  # variance within a subdivision, whose half width is the unit
    return lower * POSITION_UNIT + mean * unit, (square - mean * mean + within) * (unit * unit)
