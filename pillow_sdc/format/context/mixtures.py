"""Mixtures of two logistic distributions in integers: what the context network says, as a range coder needs it.

A symbol's probability is the mixture's mass between the middles of its value and its neighbours' (Salimans et al. 2017,
"PixelCNN++"). Everything here is whole numbers, and what is not, :func:`centroids`, is rounded alike everywhere. The
tables come from functions that no two machines round alike in the last bit; but no entry lies so near to the middle
between two whole numbers that the last bits could matter.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .range_coder import PRECISION

OUTPUT_UNIT = 1 / 1024
"""Of the network's outputs: a logit, two means in SD-scaled latents, two natural logarithms of scales."""

POSITION_UNIT = 1 / 8192
"""Of latents, where edges of symbols and means are compared."""

LOGITS = np.arange(-128, 129) / 16
LOG_SCALES = np.arange(-80, 33) / 16
STANDARD_DEVIATES = np.arange(-12 * 256, 12 * 256 + 1) / 256
"""What the tables hold an entry for."""

_PROBABILITY_BITS = 24
_INVERSE_BITS = 20
_SUBDIVISIONS = 8


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    values: NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return values


WEIGHTS = np.rint(_logistic(LOGITS) * 2**PRECISION).astype(np.int64)
"""The logistic function of :data:`LOGITS`, in 2⁻¹⁶."""

INVERSE_SCALES = np.rint(POSITION_UNIT * 256 * 2**_INVERSE_BITS * np.exp(-LOG_SCALES)).astype(np.int64)
"""For each of :data:`LOG_SCALES`: a distance in :data:`POSITION_UNIT` times it, over 2²⁰, is in 1/256 of the scale."""

PROBABILITIES = np.rint(_logistic(STANDARD_DEVIATES) * 2**_PROBABILITY_BITS).astype(np.int64)
"""The logistic function of :data:`STANDARD_DEVIATES`, in 2⁻²⁴."""


@dataclass(frozen=True)
class Mixtures:
    """``n`` mixtures of two.

    Attributes:
        weights: ``(n,)``, the first distribution's share in 2⁻¹⁶.
        means: ``(n, 2)``, in :data:`POSITION_UNIT`.
        scales: ``(n, 2)``, indices into :data:`LOG_SCALES`.
    """

    weights: NDArray[np.int64]
    means: NDArray[np.int64]
    scales: NDArray[np.int64]

    def __getitem__(self, chosen: slice | NDArray[np.integer]) -> "Mixtures":
        """Return some of them."""
        return Mixtures(self.weights[chosen], self.means[chosen], self.scales[chosen])


def from_outputs(outputs: NDArray[np.int64]) -> Mixtures:
    """Return the mixtures that the network's outputs ``(n, 5)`` stand for."""
    ratio = round(OUTPUT_UNIT / POSITION_UNIT)
    logits = (outputs[:, 0] + 32 >> 6) + len(LOGITS) // 2
    scales = (outputs[:, 3:] + 32 >> 6) - round(LOG_SCALES[0] * 16)
    return Mixtures(
        WEIGHTS[_limited(logits, len(LOGITS) - 1)],
        outputs[:, 1:3] * ratio,
        _limited(scales, len(LOG_SCALES) - 1),
    )


def _limited(indices: NDArray[np.int64], largest: int) -> NDArray[np.int64]:
    # For small arrays twice as fast as numpy's clip, which takes most of its time to begin.
    limited: NDArray[np.int64] = np.minimum(np.maximum(indices, 0), largest)
    return limited


def middles(mixtures: Mixtures) -> NDArray[np.int64]:
    """Return the mixtures' means ``(n,)``, in :data:`POSITION_UNIT`."""
    first, second = mixtures.means.T
    middle: NDArray[np.int64] = second + (mixtures.weights * (first - second) >> PRECISION)
    return middle


def probabilities_below(mixtures: Mixtures, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distribution functions, in 2⁻²⁴, at positions ``(n, k)`` in :data:`POSITION_UNIT`."""
    middle = len(STANDARD_DEVIATES) // 2
    both = []
    for mean, scale in zip(mixtures.means.T, mixtures.scales.T, strict=True):
        deviates = (positions - mean[:, None]) * INVERSE_SCALES[scale][:, None] >> _INVERSE_BITS
        both.append(PROBABILITIES[_limited(deviates + middle, 2 * middle)])
    first, second = both
    below: NDArray[np.int64] = second + (mixtures.weights[:, None] * (first - second) >> PRECISION)
    return below


def frequencies_below(
    mixtures: Mixtures, edges: NDArray[np.int64], shares: NDArray[np.int64], total: int
) -> NDArray[np.int64]:
    """Return where, in [0, 2¹⁶), shares of symbols begin.

    The line is divided into ``total`` shares, of which 0 ends where 1 begins, and so on. None is empty.

    Args:
        mixtures: ``n`` of them.
        edges: ``(n, k)``, where the shares begin on the line, in :data:`POSITION_UNIT`.
        shares: Their numbers, 1 to ``total`` − 1, ``(n, k)`` or broadcast to that.
        total: How many there are.

    Returns:
        ``(n, k)``, between 0 and 2¹⁶, both excluded.
    """
    below = probabilities_below(mixtures, edges)
    starts: NDArray[np.int64] = (below * ((1 << PRECISION) - total) >> _PROBABILITY_BITS) + shares
    return starts


def centroids(
    mixtures: Mixtures, lower: NDArray[np.int64], width: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the mixtures within an interval each, as SD-scaled latents.

    Args:
        mixtures: ``n`` of them.
        lower: ``(n,)``, where the intervals begin, in :data:`POSITION_UNIT`.
        width: Of all intervals, in the same unit.
    """
    edges = lower[:, None] + (width * np.arange(_SUBDIVISIONS + 1) // _SUBDIVISIONS)
    masses = np.diff(probabilities_below(mixtures, edges), axis=1)
    masses[masses.sum(axis=1) == 0] = 1  # so far out that the tables know nothing
    middles_of_parts = 2 * np.arange(_SUBDIVISIONS) + 1
    # Sums of whole numbers are exact; then each floating-point operation is rounded by itself, alike everywhere.
    total = masses.sum(axis=1).astype(np.float64)
    mean = (masses @ middles_of_parts).astype(np.float64) / total
    square = (masses @ middles_of_parts**2).astype(np.float64) / total
    unit = width * POSITION_UNIT / (2 * _SUBDIVISIONS)
    within = 1 / 3  # of a part, whose half is the unit
    return lower * POSITION_UNIT + mean * unit, (square - mean * mean + within) * (unit * unit)
