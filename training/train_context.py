"""Train the context network to foretell quantised latents.

    python -m training.train_context PREPARED RUN [--steps N]

PREPARED is what ``training.prepare`` and ``training.quantise`` have made. Steps are drawn anew for each crop, and so
is where the grid of values begins, for trellis-coded quantisation uses grids that are shifted against each other.
"""

import numpy as np
import torch
from torch import Tensor

from .context_model import ContextModel, bits
from .crops import crops, load, stack
from .running import Run, parser

CROPS, SIDE = 8, 28
STEPS = (0.05, 2.0)
JUDGED = (0.35, 0.5, 0.7, 1.0)


def quantised(latents: Tensor, steps: Tensor, offsets: Tensor) -> Tensor:
    """Return latents rounded to the nearest values of a grid."""
    steps, offsets = (x[:, None, None, None] for x in (steps, offsets))
    return ((latents / steps - offsets).round() + offsets) * steps


def order_0_bits(values: Tensor, step: float) -> float:
    """Return the bits in all that a channel's symbols cost when only their frequencies are known."""
    total = 0.0
    for channel in (values / step).round().int():
        counts = torch.unique(channel, return_counts=True)[1].float()
        total -= (counts * (counts / counts.sum()).log2()).sum().item()
    return total


def main() -> None:
    run = Run(ContextModel, arguments := parser(__doc__, steps=20_000).parse_args())
    training, held_out = load(arguments.data)
    chosen = crops(training, CROPS, SIDE, run.random)

    def losses() -> dict[str, Tensor]:
        latents = stack([crop.latents() for crop in next(chosen)])
        steps = torch.exp(torch.empty(CROPS).uniform_(*np.log(STEPS)))
        values = quantised(latents, steps, torch.rand(CROPS))
        return {"bits": bits(run.network(values, steps), values, steps).mean()}

    def evaluate() -> dict[str, float]:
        figures = {}
        with torch.inference_mode():
            for step in JUDGED:
                steps, ours, order_0, count = torch.tensor([step]), 0.0, 0.0, 0
                for photograph in held_out:
                    values = quantised(torch.from_numpy(photograph.latents)[None], steps, torch.zeros(1))
                    ours += bits(run.average(values, steps), values, steps).sum().item()
                    order_0 += order_0_bits(values[0], step)
                    count += values.numel()
                figures |= {f"bits_at_{step}": ours / count, f"order_0_bits_at_{step}": order_0 / count}
        return figures

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
