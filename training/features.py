"""Feature distillation: from a quarter of the resolution on, the encoder has as many layers, as wide, as the teacher.

So each layer has a counterpart to learn from (Romero et al. 2015, "FitNets"), which tells it far more than the output
alone, and leaves it less to learn by heart.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WEIGHT = 0.5

LAYERS = range(-9, -1)
"""Indices of the layers, counted from the end, because the student has fewer at its beginning."""

UNTIL = 0.8
"""Fraction of the steps over which the weight falls to 0."""


@contextmanager
def watched(layers: nn.Sequential, indices: Iterable[int]) -> Iterator[list[Tensor]]:
    """Return a list, to which each of those layers adds its output while the context lasts."""
    features: list[Tensor] = []
    hooks = [layers[i].register_forward_hook(lambda _layer, _inputs, output: features.append(output)) for i in indices]
    try:
        yield features
    finally:
        for hook in hooks:
            hook.remove()


def distance(features: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Return the squared error of features, layer by layer ``(n, c, h, w)``, over the teacher's variance, as a mean."""
    errors = []
    for ours, theirs in zip(features, teachers, strict=True):
        wanted = theirs.float()
        errors.append((ours.float() - wanted).square().mean() / wanted.var())
    return torch.stack(errors).mean()


def weight(progress: float) -> float:
    """Return the weight of features after a fraction of the steps; it falls to 0, as only latents matter in the end."""
    return WEIGHT * max(0.0, 1 - progress / UNTIL)
