"""The context network in integer arithmetic: it predicts the distribution of the next latent from those already coded.

Places are coded row by row, and at each place channel by channel. The window of a place has four rows above it and four
columns to each side, but in the row directly above only two to the right. So all places of equal ``x + 3y``, a
*wavefront*, do not depend on each other and are computed at once. Weights and activations have eight bits: all sums
stay below 2²⁴ and are exact in float32, whatever the order of summation. So encoder and decoder agree on any machine,
though they compute in batches of different sizes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = 4
OUTPUTS = 5
"""Number of outputs for each latent, the parameters of its mixture (:func:`.mixtures.from_outputs`)."""

CONDITIONS = 3
"""Number of conditions, scalars for the whole picture: the step's logarithm, its square, and the flag *weighted*."""

ROWS_ABOVE, COLUMNS_BESIDE, RIGHT_ABOVE = 4, 4, 2
SLOPE = RIGHT_ABOVE + 1

BAND = 128
"""Number of rows of a band; a band is coded before the rows below it."""

INPUT_UNIT = 1 / 32
"""Unit of the network's inputs, in SD-scaled latents; weights are in 1/64, activations in 1/16."""

MAX_INT8 = 127
"""Largest magnitude of inputs and weights; activations lie between 0 and this."""

_INSIDE = 1 / INPUT_UNIT
"""The input beside a place's latents that marks it as inside the picture; 0 outside."""

_WINDOW = [
    (row, column)
    for row in range(-ROWS_ABOVE, 1)
    for column in range(-COLUMNS_BESIDE, COLUMNS_BESIDE + 1)
    if row < -1 or (row == -1 and column <= RIGHT_ABOVE) or (row == 0 and column < 0)
]
_CONDITION_BITS = 8


@dataclass(frozen=True)
class Layer:
    """A layer of each of the four networks, one for each channel, with a bias that depends on the conditions.

    This is FiLM (Perez et al. 2018) without the scale.

    Attributes:
        weights: Integers as float32 ``(4, inputs, units)``.
        bias: int64 ``(4, units)``, in the unit of the products.
        conditions: int64 ``(4, units, 3)``, in 1/256 of that unit: the weights of the conditions in the bias.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.int64]
    conditions: NDArray[np.int64]

    def biases_for(self, conditions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the biases ``(4, units)`` for conditions ``(3,)``, in 1/256."""
        bias: NDArray[np.int64] = self.bias + (self.conditions @ conditions >> _CONDITION_BITS)
        return bias.astype(np.float32)

    @staticmethod
    def named(name: str, arrays: Mapping[str, NDArray[np.integer]]) -> "Layer":
        """Return the layer with the arrays ``name.weights``, ``name.bias`` and ``name.conditions``."""
        weights, bias, conditions = (arrays[f"{name}.{part}"] for part in ("weights", "bias", "conditions"))
        return Layer(weights.astype(np.float32), bias.astype(np.int64), conditions.astype(np.int64))


class CodedLatents:
    """The latents of a band already coded, and of the rows above it, as inputs of the network."""

    def __init__(self, rows: int, columns: int, above: "CodedLatents | None" = None) -> None:
        shape = (rows + ROWS_ABOVE, columns + 2 * COLUMNS_BESIDE, CHANNELS + 1)
        self._values = np.zeros(shape, np.float32)
        self._values[ROWS_ABOVE:, COLUMNS_BESIDE:-COLUMNS_BESIDE, CHANNELS] = _INSIDE
        if above is not None:
            self._values[:ROWS_ABOVE] = above._values[-ROWS_ABOVE:]
        self._window = np.array([row * shape[1] + column for row, column in _WINDOW])

    def put(self, channel: int, ys: NDArray[np.int64], xs: NDArray[np.int64], latents: NDArray[np.floating]) -> None:
        """Set a channel's latents ``(n,)`` at ``n`` places. They must be exact, so that their rounding is."""
        rounded = np.floor(latents / INPUT_UNIT + 0.5)
        rounded = np.minimum(np.maximum(rounded, -MAX_INT8), MAX_INT8)
        self._values[ys + ROWS_ABOVE, xs + COLUMNS_BESIDE, channel] = rounded

    def windows(self, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows of places, ``(n, 190)``."""
        places = self._values.reshape(-1, CHANNELS + 1)
        here = (ys + ROWS_ABOVE) * self._values.shape[1] + xs + COLUMNS_BESIDE
        windows: NDArray[np.float32] = places[here[:, None] + self._window].reshape(len(ys), -1)
        return windows

    def at(self, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the inputs from the places themselves, ``(n, 4)``."""
        here: NDArray[np.float32] = self._values[ys + ROWS_ABOVE, xs + COLUMNS_BESIDE, :CHANNELS]
        return here


class ContextNetwork:
    """The networks of all channels, under one picture's conditions."""

    def __init__(self, arrays: Mapping[str, NDArray[np.integer]], logarithm: int, *, weighted: bool) -> None:
        """Build the networks.

        Args:
            arrays: The layers ``window``, with the window of a place as input; ``inner0`` and ``inner1``; ``last``,
                with the outputs. And ``here``, int8 ``(4, 4, units)``, the weights of the place's own channels, zero
                for those not yet coded.
            logarithm: Natural logarithm of the step over the reference step, in 1/256.
            weighted: Whether latents are weighted.
        """
        conditions = np.array([logarithm, logarithm**2 >> _CONDITION_BITS, weighted << _CONDITION_BITS])
        window = Layer.named("window", arrays)
        self._window = np.concatenate(list(window.weights), axis=1)
        self._window_bias = window.biases_for(conditions).reshape(-1)
        self._here = arrays["here"].astype(np.float32)
        inner = (Layer.named(name, arrays) for name in ("inner0", "inner1"))
        self._inner = [(layer.weights, layer.biases_for(conditions)) for layer in inner]
        last = Layer.named("last", arrays)
        self._last = last.weights, last.biases_for(conditions)

    @property
    def biases(self) -> list[NDArray[np.float32]]:
        """Biases of the layers ``window``, ``inner0``, ``inner1`` and ``last``, under the picture's conditions."""
        return [self._window_bias, *(bias for _, bias in self._inner), self._last[1]]

    def window_sums(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the sums of the layer ``window`` for all channels, ``(n, 4, units)``, from ``n`` windows."""
        sums: NDArray[np.float32] = windows @ self._window + self._window_bias
        return sums.reshape(len(windows), CHANNELS, -1)

    def outputs(self, channel: int, sums: NDArray[np.float32], here: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return a channel's outputs ``(n, 5)``.

        Args:
            channel: Index of the channel.
            sums: The channel's part of :meth:`window_sums`, ``(n, units)``.
            here: The places' own latents ``(n, 4)``; only the channels before this one have an effect.
        """
        activations = _activations(sums + here @ self._here[channel], bits=7)
        for weights, bias in self._inner:
            activations = _activations(activations @ weights[channel] + bias[channel], bits=6)
        weights, bias = self._last
        outputs: NDArray[np.float32] = activations @ weights[channel] + bias[channel]
        return outputs.astype(np.int64)


def wavefronts(rows: int, columns: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows and columns of the places of each wavefront, in coding order."""
    for front in range(columns + SLOPE * (rows - 1)):
        first = max(0, -(-(front - columns + 1) // SLOPE))
        ys = np.arange(first, min(rows - 1, front // SLOPE) + 1)
        if len(ys):  # pictures of one or two columns have empty wavefronts
            yield ys, front - SLOPE * ys


def _activations(sums: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    """Return activations from sums of products: scaled by 2⁻ᵇⁱᵗˢ, rounded, and clamped to 0 to 127."""
    activations: NDArray[np.float32] = sums * np.float32(0.5**bits)
    activations += np.float32(0.5)
    np.floor(activations, out=activations)
    # Twice as fast for small arrays as numpy's clip, which spends most of its time on set-up.
    np.maximum(activations, np.float32(0), out=activations)
    np.minimum(activations, np.float32(MAX_INT8), out=activations)
    return activations
