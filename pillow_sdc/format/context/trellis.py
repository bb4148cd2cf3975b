"""Trellis-coded quantisation: a finer grid than the symbols pay for (Marcellin & Fischer 1990).

Values lie on a grid of whole steps. In each row of each channel a machine of 64 states says whether the next symbol k
stands for the even value 2k or the odd value 2k + 1; the parity of k then says which state follows. A symbol thus
costs what one of a grid twice as coarse would, but the encoder can choose, by dynamic programming over the whole row
(Viterbi 1967), among ways through the machine that between them reach every value.

The machine is Ungerboeck's code for amplitude modulation with 64 states (1982, table I: parity checks 103 and 024 in
octal): the even or odd values are chosen by the first check, the parity of the symbol enters by the second. For a
Gaussian source it leaves 0.49 dB to the rate–distortion bound where rounding leaves 1.55 and four states 0.62.
"""

import numpy as np
from numpy.typing import NDArray

from . import kernel as context_kernel

_STATES = 64
_ODD_IF, _FLIPPED_IF = 0b001010, 0b100001


def _machine() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whether values are odd, by state, and the state that follows, by state and parity of the symbol."""
    states = np.arange(_STATES)
    odd, flipped = (
        np.array([int(state & mask).bit_count() & 1 for state in states]) for mask in (_ODD_IF, _FLIPPED_IF)
    )
    following = (2 * states % _STATES)[:, None] | (np.arange(2) ^ flipped[:, None])
    return odd, following


ODD, FOLLOWING = _machine()
"""Whether the next value is odd, by state, and the state that follows, by state and parity; rows begin in state 0."""

# For each state the two ways into it: from which state, by a symbol of which parity.
_FROM, _BY = (
    np.array([[way[part] for way in np.argwhere(state == FOLLOWING)] for state in range(_STATES)]) for part in (0, 1)
)
_RESIDUES = ODD[_FROM] + 2 * _BY
"""Of the values on those ways, modulo 4."""

_CHUNK = 256
"""Chains that are computed at once: as many as fit into a processor's cache. Between two chunks the caller can be
interrupted."""


def quantise(latents: NDArray[np.floating], step: float) -> NDArray[np.int64]:
    """Return the symbols whose values are nearest to the latents, in mean square over each row.

    Args:
        latents: ``(4, h, w)``.
        step: Distance between neighbouring values, positive.

    Returns:
        int64 ``(4, h, w)``.
    """
    wanted = (latents.astype(np.float64) / step).reshape(-1, latents.shape[-1])
    kernel = context_kernel.choice().kernel
    best_ways = kernel.quantise if kernel else _best_ways
    chunks = (wanted[first : first + _CHUNK] for first in range(0, len(wanted), _CHUNK))
    return np.concatenate([best_ways(chunk) for chunk in chunks]).reshape(latents.shape)


def _best_ways(wanted: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the symbols of chains ``(n, places)`` whose values, in steps, are nearest to those wanted."""
    chains, places = np.arange(len(wanted)), wanted.shape[1]
    residues = np.arange(4)[:, None, None]
    nearest = residues + 4 * np.rint((wanted - residues) / 4)
    errors = np.ascontiguousarray(np.moveaxis((nearest - wanted) ** 2, 2, 0))
    costs = np.full((_STATES, len(wanted)), np.inf)
    costs[0] = 0
    ways = np.empty((places, _STATES, len(wanted)), bool)
    for place in range(places):
        first, second = (costs[_FROM[:, way]] + errors[place, _RESIDUES[:, way]] for way in range(2))
        np.less(second, first, out=ways[place])
        costs = np.minimum(first, second)

    symbols = np.empty(wanted.shape, np.int64)
    states = costs.argmin(axis=0)
    for place in range(places - 1, -1, -1):
        way = ways[place, states, chains].astype(np.int64)
        symbols[:, place] = nearest[_RESIDUES[states, way], chains, place] // 2
        states = _FROM[states, way]
    return symbols


def values(symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values ``(4, h, w)`` that symbols stand for, in steps."""
    rows = symbols.reshape(-1, symbols.shape[-1])
    result = np.empty_like(rows)
    states = np.zeros(len(rows), np.int64)
    for place in range(rows.shape[1]):
        result[:, place] = 2 * rows[:, place] + ODD[states]
        states = FOLLOWING[states, rows[:, place] & 1]
    return result.reshape(symbols.shape)
