"""The context network for training: the same integers as in the codec, with straight-through gradients for rounding.

Latents are coded row by row, at each place channel by channel. For each latent the network gets those before it, as
integers in units of 1/32, and predicts a mixture of two logistic distributions. Weights are multiples of 1/64, and the
activations multiples of 1/16 from 0 to 127/16, so all sums are of products of 8-bit integers, exact on any machine.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pillow_sdc.format.context.network import (
    CHANNELS,
    COLUMNS_BESIDE,
    CONDITIONS,
    MAX_INT8,
    OUTPUTS,
    RIGHT_ABOVE,
    ROWS_ABOVE,
)

INPUT_UNIT, WEIGHT_UNIT, HIDDEN_UNIT = 1 / 32, 1 / 64, 1 / 16
STEP_UNIT = 1 / 256
COMPONENTS = 2
"""Number of logistic distributions in a mixture."""

REFERENCE_STEP = 0.6


def rounded(x: Tensor) -> Tensor:
    """Return x rounded to integers, halves upwards; its gradient is that of x."""
    return x + ((x + 0.5).floor() - x).detach()


def whole_weights(weights: Tensor) -> Tensor:
    """Return weights rounded and clamped to eight bits."""
    return rounded((weights / WEIGHT_UNIT).clamp(-MAX_INT8, MAX_INT8)) * WEIGHT_UNIT


def window_mask() -> Tensor:
    """Return the mask ``(5, 9)`` of the places in the window; the last row is that of the latent itself."""
    mask = torch.ones(ROWS_ABOVE + 1, 2 * COLUMNS_BESIDE + 1)
    mask[-1, COLUMNS_BESIDE:] = 0
    mask[-2, COLUMNS_BESIDE + 1 + RIGHT_ABOVE :] = 0
    return mask


class ContextModel(nn.Module):
    """Values ``(n, 4, h, w)`` and steps ``(n,)`` to mixtures ``(n, 4, 5, h, w)``: logit, two means, two log-scales."""

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.window = nn.Conv2d(CHANNELS + 1, CHANNELS * hidden, (ROWS_ABOVE + 1, 2 * COLUMNS_BESIDE + 1))
        self.here = nn.Conv2d(CHANNELS, CHANNELS * hidden, 1, bias=False)
        self.inner = nn.ModuleList(
            nn.Conv2d(CHANNELS * hidden, CHANNELS * hidden, 1, groups=CHANNELS) for _ in range(2)
        )
        self.conditions = nn.ParameterList(torch.zeros(CHANNELS * hidden, CONDITIONS) for _ in range(3))
        self.last = nn.Conv2d(CHANNELS * hidden, CHANNELS * OUTPUTS, 1, groups=CHANNELS)
        self.register_buffer("seen", window_mask(), persistent=False)
        before = torch.tril(torch.ones(CHANNELS, CHANNELS), -1).repeat_interleave(hidden, 0)
        self.register_buffer("before", before[:, :, None, None], persistent=False)

    def forward(self, values: Tensor, steps: Tensor, weighted: Tensor) -> Tensor:
        """Return the mixtures; ``weighted`` ``(n,)`` is 1 where the values are those of weighted latents, else 0."""
        seen = rounded((values / INPUT_UNIT).clamp(-MAX_INT8, MAX_INT8)) * INPUT_UNIT
        inside = torch.ones_like(seen[:, :1])
        padded = functional.pad(torch.cat([seen, inside], 1), (COLUMNS_BESIDE, COLUMNS_BESIDE, ROWS_ABOVE, 0))
        conditions = rounded((steps / REFERENCE_STEP).log() / STEP_UNIT)
        conditions = torch.stack([conditions, (conditions.square() * STEP_UNIT).floor(), weighted / STEP_UNIT], 1)
        x = functional.conv2d(padded, whole_weights(self.window.weight) * self.seen)
        x = x + functional.conv2d(seen, whole_weights(self.here.weight) * self.before)
        x = activations(x + bias(self.window, INPUT_UNIT, self.conditions[0], conditions))
        for layer, condition in zip(self.inner, list(self.conditions)[1:], strict=True):
            x = activations(grouped(layer, x) + bias(layer, HIDDEN_UNIT, condition, conditions))
        x = grouped(self.last, x) + bias(self.last, HIDDEN_UNIT)
        return x.unflatten(1, (CHANNELS, OUTPUTS))

    def frozen(self) -> dict[str, NDArray[np.integer]]:
        """Return the integers that :class:`pillow_sdc.format.context.network.ContextNetwork` computes with."""
        arrays = {}
        window = whole_weights(self.window.weight)[:, :, self.seen.bool()].transpose(1, 2).flatten(1)
        layers = [("window", self.window, window, INPUT_UNIT, self.conditions[0])]
        for i, (layer, condition) in enumerate(zip(self.inner, list(self.conditions)[1:], strict=True)):
            layers.append((f"inner{i}", layer, whole_weights(layer.weight).flatten(1), HIDDEN_UNIT, condition))
        last = whole_weights(self.last.weight).flatten(1)
        layers.append(("last", self.last, last, HIDDEN_UNIT, torch.zeros(len(last), CONDITIONS)))
        for name, layer, weights, unit, condition in layers:
            unit *= WEIGHT_UNIT
            whole = weights.unflatten(0, (CHANNELS, -1)).transpose(1, 2) / WEIGHT_UNIT
            arrays[f"{name}.weights"] = whole.detach().numpy().astype(np.int8)
            arrays[f"{name}.bias"] = rounded(layer.bias / unit).unflatten(0, (CHANNELS, -1)).detach().numpy()
            arrays[f"{name}.conditions"] = rounded(condition / unit).unflatten(0, (CHANNELS, -1)).detach().numpy()
        here = (whole_weights(self.here.weight) * self.before).flatten(1).unflatten(0, (CHANNELS, -1))
        arrays["here"] = (here.transpose(1, 2) / WEIGHT_UNIT).detach().numpy().astype(np.int8)
        return {name: array if array.dtype == np.int8 else array.astype(np.int32) for name, array in arrays.items()}


def bias(layer: Any, unit: float, condition: Tensor | None = None, conditions: Tensor | None = None) -> Tensor:
    """Return a layer's bias ``(n, units, 1, 1)`` under the conditions, in integer multiples of the products' unit."""
    unit *= WEIGHT_UNIT
    total = rounded(layer.bias / unit)[None]
    if condition is not None and conditions is not None:
        exact = conditions @ rounded(condition / unit).T * STEP_UNIT
        total = total + exact + (exact.floor() - exact).detach()
    return (total * unit)[:, :, None, None]


def activations(x: Tensor) -> Tensor:
    """Return the activations of a layer's output: rectified, rounded, at most 127 units."""
    return rounded((x / HIDDEN_UNIT).clamp(0, MAX_INT8)) * HIDDEN_UNIT


def grouped(layer: Any, x: Tensor) -> Tensor:
    """Return the output of a layer with integer weights, where each channel has its own inputs and units."""
    return functional.conv2d(x, whole_weights(layer.weight), groups=CHANNELS)


def bits(mixtures: Tensor, values: Tensor, steps: Tensor) -> Tensor:
    """Return the bits ``(n, 4, h, w)`` of the values, each with a bin of one step."""
    logit, means, log_scales = mixtures.float().split([1, COMPONENTS, COMPONENTS], 2)
    half = steps[:, None, None, None, None] / 2
    away = (values[:, :, None] - means).abs()
    # Evaluated on the side where both CDFs are small: in the other tail both are about 1, and cancellation loses all.
    scales = log_scales.clamp(-5, 2).exp()
    inside = torch.sigmoid((half - away) / scales) - torch.sigmoid((-half - away) / scales)
    weights = torch.cat([torch.sigmoid(logit), torch.sigmoid(-logit)], 2)
    return -(weights * inside).sum(2).clamp_min(2**-16).log2()
