"""The context network as it is trained: the integers of the one that decodes, with gradients through the rounding.

Latents are coded row by row, in each place channel by channel. For each the network sees the values before it, as
integers in units of 1/32, and says a mixture of two logistic distributions. Weights are whole numbers of 1/64, inner
values of 1/16 from 0 to 127/16, so that all products are sums of 8-bit integers and exact wherever they are computed.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 4
ROWS_ABOVE, COLUMNS = 4, 4
"""The window: so many rows above, and so many columns to each side."""

RIGHT_ABOVE = 2
"""Columns to the right that are seen in the row above, so that places with equal x + 3y are coded at once."""

INPUT_UNIT, WEIGHT_UNIT, HIDDEN_UNIT = 1 / 32, 1 / 64, 1 / 16
LARGEST = 127
MIXED = 2
"""Logistic distributions that are mixed."""

REFERENCE_STEP = 0.6


def rounded(x: Tensor) -> Tensor:
    """Return x rounded to whole numbers; its gradient is that of x."""
    return x + (x.round() - x).detach()


def whole_weights(weights: Tensor) -> Tensor:
    """Return weights rounded to what eight bits hold."""
    return rounded((weights / WEIGHT_UNIT).clamp(-LARGEST, LARGEST)) * WEIGHT_UNIT


def window_mask() -> Tensor:
    """Return which places ``(5, 9)`` of the window are seen; the last row is that of the latent itself."""
    mask = torch.ones(ROWS_ABOVE + 1, 2 * COLUMNS + 1)
    mask[-1, COLUMNS:] = 0
    mask[-2, COLUMNS + 1 + RIGHT_ABOVE :] = 0
    return mask


class ContextModel(nn.Module):
    """Values ``(n, 4, h, w)`` and steps ``(n,)`` to mixtures ``(n, 4, 5, h, w)``: logit, two means, two log-scales."""

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.window = nn.Conv2d(CHANNELS + 1, CHANNELS * hidden, (ROWS_ABOVE + 1, 2 * COLUMNS + 1))
        self.here = nn.Conv2d(CHANNELS, CHANNELS * hidden, 1, bias=False)
        self.inner = nn.ModuleList(
            nn.Conv2d(CHANNELS * hidden, CHANNELS * hidden, 1, groups=CHANNELS) for _ in range(2)
        )
        self.steps = nn.ModuleList(nn.Linear(2, CHANNELS * hidden, bias=False) for _ in range(3))
        self.last = nn.Conv2d(CHANNELS * hidden, CHANNELS * (1 + 2 * MIXED), 1, groups=CHANNELS)
        self.register_buffer("seen", window_mask(), persistent=False)
        before = torch.tril(torch.ones(CHANNELS, CHANNELS), -1).repeat_interleave(hidden, 0)
        self.register_buffer("before", before[:, :, None, None], persistent=False)
        for linear in self.steps:
            nn.init.zeros_(linear.weight)

    def forward(self, values: Tensor, steps: Tensor) -> Tensor:
        """Return the mixtures."""
        seen = rounded((values / INPUT_UNIT).clamp(-LARGEST, LARGEST)) * INPUT_UNIT
        inside = torch.ones_like(seen[:, :1])
        padded = functional.pad(torch.cat([seen, inside], 1), (COLUMNS, COLUMNS, ROWS_ABOVE, 0))
        x = functional.conv2d(padded, whole_weights(self.window.weight) * self.seen, self.window.bias)
        x = x + functional.conv2d(seen, whole_weights(self.here.weight) * self.before)
        logarithm = (steps / REFERENCE_STEP).log()
        told = torch.stack([logarithm, logarithm.square()], 1)
        x = hidden_values(x + self.steps[0](told)[:, :, None, None])
        for layer, step in zip(self.inner, self.steps[1:], strict=True):
            x = hidden_values(grouped(layer, x) + step(told)[:, :, None, None])
        return grouped(self.last, x).unflatten(1, (CHANNELS, 1 + 2 * MIXED))


def hidden_values(x: Tensor) -> Tensor:
    """Return what is kept of a layer's output: rectified, rounded, at most 127 units."""
    return rounded((x / HIDDEN_UNIT).clamp(0, LARGEST)) * HIDDEN_UNIT


def grouped(layer: Any, x: Tensor) -> Tensor:
    """Return what a layer with whole weights makes of x, the channels' parts apart from each other."""
    return functional.conv2d(x, whole_weights(layer.weight), layer.bias, groups=CHANNELS)


def bits(mixtures: Tensor, values: Tensor, steps: Tensor) -> Tensor:
    """Return the bits ``(n, 4, h, w)`` that tell each value from others a step apart."""
    logit, means, log_scales = mixtures.float().split([1, MIXED, MIXED], 2)
    half = steps[:, None, None, None, None] / 2
    away = (values[:, :, None] - means).abs()
    # The farther edge first: in the tail both are about 1 the other way round, and their difference would be lost.
    scales = log_scales.clamp(-5, 2).exp()
    inside = torch.sigmoid((half - away) / scales) - torch.sigmoid((-half - away) / scales)
    shares = torch.cat([torch.sigmoid(logit), torch.sigmoid(-logit)], 2)
    return -(shares * inside).sum(2).clamp_min(2**-16).log2()
