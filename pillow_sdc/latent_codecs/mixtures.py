"""Mixtures of two logistic distributions in integers: what the context network says, as a range coder needs it.

A symbol's probability is the mixture's mass between the middles of its value and its neighbours' (Salimans et al. 2017,
"PixelCNN++"). Everything that the decoder must agree on is whole numbers and looked up in frozen tables; only
:func:`moments`, which no symbol depends on, computes in floating point.
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
_SUBDIVISIONS = 16


@dataclass(frozen=True)
class Tables:
    """The functions that need rounding, tabulated once for all machines.

    Attributes:
        weights: The logistic function of :data:`LOGITS`, in 2⁻¹⁶.
        inverse_scales: The exponential function of minus :data:`LOG_SCALES`, as what a distance in
            :data:`POSITION_UNIT` times it, over 2²⁰, is in 1/256 of the scale.
        probabilities: The logistic function of :data:`STANDARD_DEVIATES`, in 2⁻²⁴.
    """

    weights: NDArray[np.int64]
    inverse_scales: NDArray[np.int64]
    probabilities: NDArray[np.int64]

    @staticmethod
    def computed() -> "Tables":
        """Return the tables as this machine rounds them: to be written once, not to be decoded with."""
        position = POSITION_UNIT * 256 * 2**_INVERSE_BITS
        return Tables(
            np.rint(65536 / (1 + np.exp(-LOGITS))).astype(np.int64),
            np.rint(position * np.exp(-LOG_SCALES)).astype(np.int64),
            np.rint(2**_PROBABILITY_BITS / (1 + np.exp(-STANDARD_DEVIATES))).astype(np.int64),
        )


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


def from_outputs(outputs: NDArray[np.int64], tables: Tables) -> Mixtures:
    """Return the mixtures that the network's outputs ``(n, 5)`` stand for."""
    ratio = round(OUTPUT_UNIT / POSITION_UNIT)
    logits = (outputs[:, 0] + 32 >> 6) + len(LOGITS) // 2
    scales = (outputs[:, 3:] + 32 >> 6) - round(LOG_SCALES[0] * 16)
    return Mixtures(
        tables.weights[logits.clip(0, len(LOGITS) - 1)],
        outputs[:, 1:3] * ratio,
        scales.clip(0, len(LOG_SCALES) - 1),
    )


def middles(mixtures: Mixtures) -> NDArray[np.int64]:
    """Return the mixtures' means ``(n,)``, in :data:`POSITION_UNIT`."""
    first, second = mixtures.means.T
    middle: NDArray[np.int64] = second + (mixtures.weights * (first - second) >> 16)
    return middle


def probabilities_below(mixtures: Mixtures, positions: NDArray[np.int64], tables: Tables) -> NDArray[np.int64]:
    """Return the distribution functions, in 2⁻²⁴, at positions ``(n, k)`` in :data:`POSITION_UNIT`."""
    scales = tables.inverse_scales[mixtures.scales][:, None]
    deviates = (positions[:, :, None] - mixtures.means[:, None]) * scales >> _INVERSE_BITS
    middle = len(STANDARD_DEVIATES) // 2
    both = tables.probabilities[deviates.clip(-middle, middle) + middle]
    below: NDArray[np.int64] = both[:, :, 1] + (mixtures.weights[:, None] * (both[:, :, 0] - both[:, :, 1]) >> 16)
    return below


def cumulative_frequencies(mixtures: Mixtures, edges: NDArray[np.int64], tables: Tables) -> NDArray[np.int64]:
    """Return where the shares of symbols begin in [0, 2¹⁶].

    Args:
        mixtures: ``n`` of them.
        edges: ``(n, k + 1)``, the ascending edges of ``k`` symbols in :data:`POSITION_UNIT`.
        tables: The frozen tables.

    Returns:
        ``(n, k + 3)``, strictly ascending from 0 to 2¹⁶: first comes the share of all that lies below the edges, then
        those of the symbols, last that of all above. None is empty.
    """
    shares = edges.shape[1] + 1
    below = probabilities_below(mixtures, edges, tables)
    inner = (below * ((1 << PRECISION) - shares) >> _PROBABILITY_BITS) + np.arange(1, shares)
    ends = np.broadcast_to([0, 1 << PRECISION], (len(edges), 2))
    return np.concatenate([ends[:, :1], inner, ends[:, 1:]], axis=1)


def moments(
    mixtures: Mixtures, lower: NDArray[np.int64], upper: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and variance of the mixtures between two edges each, as SD-scaled latents.

    Args:
        mixtures: ``n`` of them.
        lower: ``(n,)``, in :data:`POSITION_UNIT`.
        upper: The same, above.
    """
    fractions = np.linspace(0, 1, _SUBDIVISIONS + 1)
    edges = (lower[:, None] + (upper - lower)[:, None] * fractions) * POSITION_UNIT
    means, scales = mixtures.means * POSITION_UNIT, np.exp(LOG_SCALES[mixtures.scales])
    deviates = ((edges[:, :, None] - means[:, None]) / scales[:, None]).clip(-700, 700)
    # Above the mean the mirror image is computed, for differences near 1 would lose their digits.
    mirror = np.where(deviates[:, 1:] + deviates[:, :-1] > 0, -1, 1)
    parts = 1 / (1 + np.exp(-mirror * deviates[:, 1:])) - 1 / (1 + np.exp(-mirror * deviates[:, :-1]))
    weights = np.stack([mixtures.weights, 65536 - mixtures.weights], axis=1) / 65536
    masses = (mirror * parts * weights[:, None]).sum(axis=2) + 1e-300
    masses /= masses.sum(axis=1, keepdims=True)
    centres = (edges[:, 1:] + edges[:, :-1]) / 2
    mean = (masses * centres).sum(axis=1)
    within = (edges[:, 1] - edges[:, 0]) ** 2 / 12
    return mean, (masses * (centres - mean[:, None]) ** 2).sum(axis=1) + within
