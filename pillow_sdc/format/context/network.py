"""The context network in integers: from latents already coded to what the next may be.

Places are coded row by row, in each place channel by channel. A place sees four rows above it and four columns to each
side, but in the row directly above only two to its right, so that all places of equal ``x + 3y`` can be coded at once.
Weights and inner values have eight bits: all sums stay below 2²⁴ and are exact in float32, in whatever order they are
summed. So encoder and decoder agree, wherever they run, though they compute in batches of different sizes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
OUTPUTS = 5
"""Numbers that are said of each latent; :mod:`.mixtures` knows what they mean."""

CONDITIONS = 3
"""Numbers that the network is told: the step's logarithm, its square, and whether latents are stretched."""

ROWS_ABOVE, COLUMNS_BESIDE, RIGHT_ABOVE = 4, 4, 2
SLOPE = RIGHT_ABOVE + 1

BAND = 128
"""Rows that are coded before those below them."""

INPUT_UNIT = 1 / 32
"""Of the latents that the network sees; weights are in 1/64, inner values in 1/16."""

LARGEST = 127
"""Inputs and weights lie between minus this and this, inner values between 0 and this."""

_INSIDE = 1 / INPUT_UNIT
"""What the network sees of a place besides its latents, 0 for those outside the picture."""

_SEEN = [
    (row, column)
    for row in range(-ROWS_ABOVE, 1)
    for column in range(-COLUMNS_BESIDE, COLUMNS_BESIDE + 1)
    if row < -1 or (row == -1 and column <= RIGHT_ABOVE) or (row == 0 and column < 0)
]
_CONDITION_BITS = 8


@dataclass(frozen=True)
class Layer:
    """A layer of each of the four networks that stand side by side, one a channel.

    Attributes:
        weights: Whole numbers, float32 ``(4, inputs, units)``.
        bias: int64 ``(4, units)``, in the unit of the products.
        conditions: int64 ``(4, units, 3)``, in 1/256 of that: what each of the conditions adds to the bias.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.int64]
    conditions: NDArray[np.int64]

    def bias_under(self, told: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the bias under conditions ``(3,)``, in 1/256."""
        bias: NDArray[np.int64] = self.bias + (self.conditions @ told >> _CONDITION_BITS)
        return bias.astype(np.float32)

    @staticmethod
    def named(name: str, arrays: Mapping[str, NDArray[np.integer]]) -> "Layer":
        """Return the layer whose arrays are called ``name.weights`` and so on."""
        weights, bias, conditions = (arrays[f"{name}.{part}"] for part in ("weights", "bias", "conditions"))
        return Layer(weights.astype(np.float32), bias.astype(np.int64), conditions.astype(np.int64))


class SeenLatents:
    """The latents of a band of rows that have been coded, and the rows above it, as the network sees them."""

    def __init__(self, rows: int, columns: int, above: "SeenLatents | None" = None) -> None:
        shape = (rows + ROWS_ABOVE, columns + 2 * COLUMNS_BESIDE, CHANNELS + 1)
        self._values = np.zeros(shape, np.float32)
        self._values[ROWS_ABOVE:, COLUMNS_BESIDE:-COLUMNS_BESIDE, CHANNELS] = _INSIDE
        if above is not None:
            self._values[:ROWS_ABOVE] = above._values[-ROWS_ABOVE:]
        self._window = np.array([row * shape[1] + column for row, column in _SEEN])

    def put(self, channel: int, ys: NDArray[np.int64], xs: NDArray[np.int64], latents: NDArray[np.floating]) -> None:
        """Take up a channel's latents ``(n,)`` at ``n`` places; each must be exact, so that its rounding is."""
        rounded = np.floor(latents / INPUT_UNIT + 0.5)
        rounded = np.minimum(np.maximum(rounded, -LARGEST), LARGEST)
        self._values[ys + ROWS_ABOVE, xs + COLUMNS_BESIDE, channel] = rounded

    def around(self, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is seen from places, ``(n, 190)``."""
        places = self._values.reshape(-1, CHANNELS + 1)
        here = (ys + ROWS_ABOVE) * self._values.shape[1] + xs + COLUMNS_BESIDE
        around: NDArray[np.float32] = places[here[:, None] + self._window].reshape(len(ys), -1)
        return around

    def at(self, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what is seen of places themselves, ``(n, 4)``."""
        here: NDArray[np.float32] = self._values[ys + ROWS_ABOVE, xs + COLUMNS_BESIDE, :CHANNELS]
        return here


class ContextNetwork:
    """The networks of all channels, under one picture's conditions."""

    def __init__(self, arrays: Mapping[str, NDArray[np.integer]], logarithm: int, *, stretched: bool) -> None:
        """Build it.

        Args:
            arrays: The layers ``window``, from what lies around a place; ``inner0`` and ``inner1``; ``last``, to the
                outputs. And ``here``, int8 ``(4, 4, units)``, weights from the channels of the place itself, zeros for
                those not yet coded.
            logarithm: Of the step over the reference, natural, in 1/256.
            stretched: Whether latents are stretched.
        """
        told = np.array([logarithm, logarithm**2 >> _CONDITION_BITS, stretched << _CONDITION_BITS])
        window = Layer.named("window", arrays)
        self._window = np.concatenate(list(window.weights), axis=1)
        self._window_bias = window.bias_under(told).reshape(-1)
        self._here = arrays["here"].astype(np.float32)
        inner = (Layer.named(name, arrays) for name in ("inner0", "inner1"))
        self._inner = [(layer.weights, layer.bias_under(told)) for layer in inner]
        last = Layer.named("last", arrays)
        self._last = last.weights, last.bias_under(told)

    @property
    def biases(self) -> list[NDArray[np.float32]]:
        """Those of the layers ``window``, ``inner0``, ``inner1`` and ``last``, under the picture's conditions."""
        return [self._window_bias, *(bias for _, bias in self._inner), self._last[1]]

    def start(self, around: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the networks of all channels ``(n, 4, units)`` make of what lies around ``n`` places."""
        started: NDArray[np.float32] = around @ self._window + self._window_bias
        return started.reshape(len(around), CHANNELS, -1)

    def finish(self, channel: int, started: NDArray[np.float32], here: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return a channel's outputs ``(n, 5)``.

        Args:
            channel: Which.
            started: Its part of :meth:`start`, ``(n, units)``.
            here: The places' own latents ``(n, 4)``, of which the channels before this one count.
        """
        hidden = _hidden(started + here @ self._here[channel], bits=7)
        for weights, bias in self._inner:
            hidden = _hidden(hidden @ weights[channel] + bias[channel], bits=6)
        weights, bias = self._last
        outputs: NDArray[np.float32] = hidden @ weights[channel] + bias[channel]
        return outputs.astype(np.int64)


def wavefronts(rows: int, columns: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows and columns of places that can be coded at once, in the order of coding."""
    for front in range(columns + SLOPE * (rows - 1)):
        first = max(0, -(-(front - columns + 1) // SLOPE))
        ys = np.arange(first, min(rows - 1, front // SLOPE) + 1)
        if len(ys):  # pictures of one or two columns leave gaps
            yield ys, front - SLOPE * ys


def _hidden(sums: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return sums of products, in the unit of inner values: ``bits`` fewer, rounded, rectified, eight bits at most."""
    hidden: NDArray[np.float32] = sums * np.float32(0.5**bits)
    hidden += np.float32(0.5)
    np.floor(hidden, out=hidden)
    # For small arrays twice as fast as numpy's clip, which takes most of its time to begin.
    np.maximum(hidden, np.float32(0), out=hidden)
    np.minimum(hidden, np.float32(LARGEST), out=hidden)
    return hidden
