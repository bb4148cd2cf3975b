"""Trellis-coded quantisation: a finer grid than the symbols pay for (Marcellin & Fischer 1990).

Values lie on a grid of whole steps. In each row of each channel a machine of four states says whether the next symbol
k stands for the even value 2k or the odd value 2k + 1; the parity of k then says which state follows. A symbol thus
costs what one of a grid twice as coarse would, but the encoder can choose, by dynamic programming over the whole row
(Viterbi 1967), among ways through the machine that between them reach every value.
"""

import numpy as np
from numpy.typing import NDArray

FOLLOWING = np.array([[0, 2], [2, 0], [1, 3], [3, 1]])
"""The state that follows, by state and parity of the symbol; every row begins in state 0."""

_STATES = len(FOLLOWING)
_PARITIES = 2

# For each state the two ways into it: from which state, by a symbol of which parity.
_FROM, _BY = (
    np.array([[way[part] for way in np.argwhere(state == FOLLOWING)] for state in range(_STATES)]) for part in (0, 1)
)


def is_odd(states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return 0 where the state stands before an even value, 1 where it stands before an odd one."""
    return states >> 1


def quantise(latents: NDArray[np.floating], step: float) -> NDArray[np.int64]:
    """Return the symbols whose values are nearest to the latents, in mean square over each row.

    Args:
        latents: ``(4, h, w)``.
        step: Distance between neighbouring values, positive.

    Returns:
        int64 ``(4, h, w)``.
    """
    rows = (latents.astype(np.float64) / step).reshape(-1, latents.shape[-1])
    places, chains = rows.shape[1], np.arange(len(rows))
    # Each way out of a state leads to values four steps apart: nearest[s, p] and its error, for all chains at once.
    first = (is_odd(np.arange(_STATES))[:, None] + 2 * np.arange(_PARITIES))[:, :, None]
    costs = np.full((_STATES, len(rows)), np.inf)
    costs[0] = 0
    symbols = np.empty((places, _STATES, _PARITIES, len(rows)), np.int64)
    ways = np.empty((places, _STATES, len(rows)), np.int8)
    for place in range(places):
        wanted = rows[:, place]
        nearest = first + 4 * np.rint((wanted - first) / 4)
        symbols[place] = (nearest - first).astype(np.int64) // 2 + np.arange(_PARITIES)[:, None]
        reached = costs[:, None] + (nearest - wanted) ** 2
        into = reached[_FROM, _BY]
        ways[place] = into.argmin(axis=1)
        costs = into.min(axis=1)

    chosen = np.empty(rows.shape, np.int64)
    states = costs.argmin(axis=0)
    for place in range(places - 1, -1, -1):
        way = ways[place, states, chains]
        before, parity = _FROM[states, way], _BY[states, way]
        chosen[:, place] = symbols[place, before, parity, chains]
        states = before
    return chosen.reshape(latents.shape)


def values(symbols: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the values ``(4, h, w)`` that symbols stand for, in steps."""
    rows = symbols.reshape(-1, symbols.shape[-1])
    result = np.empty_like(rows)
    states = np.zeros(len(rows), np.int64)
    for place in range(rows.shape[1]):
        result[:, place] = 2 * rows[:, place] + is_odd(states)
        states = FOLLOWING[states, rows[:, place] & 1]
    return result.reshape(symbols.shape)
