"""Weights rounded as the package has them, while they are trained in float."""

import torch
from torch import Tensor, nn

WEIGHT_LEVELS = 64
"""Levels of a weight on either side of zero: with seven bits, sums of processors before VNNI do not saturate."""


def rounded_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's parameters by name, the kernels in seven bits with a range for each output channel.

    As :func:`training.quantise.quantised` does it: the first convolution and the last stay as they are. Gradients pass
    the rounding as if it were not there (Bengio et al. 2013, straight-through).
    """
    parameters = dict(network.named_parameters())
    kernels = [name for name, parameter in parameters.items() if parameter.ndim == 4]
    return {**parameters, **{name: _rounded(parameters[name]) for name in kernels[1:-1]}}


def _rounded(kernel: Tensor) -> Tensor:
    with torch.no_grad():
        scale = kernel.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12) / WEIGHT_LEVELS
        error = (kernel / scale).round() * scale - kernel
    return kernel + error
