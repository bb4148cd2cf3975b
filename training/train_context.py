"""Train the context network to foretell quantised latents.

    python -m training.train_context PREPARED RUN [--steps N]

PREPARED is what ``training.prepare`` and ``training.quantise`` have made. Steps are drawn anew for each crop; half of
the crops are rounded to the nearest values, half quantised along a trellis.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.latent_codecs import trellis

from .context_model import ContextModel, bits
from .crops import crops, load, stack
from .running import Run, parser

CROPS, SIDE = 8, 28
STEPS = (0.05, 2.0)
JUDGED = (0.35, 0.5, 0.7, 1.0)


def quantised(latents: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Return latents rounded to the nearest values, ``step`` apart."""
    return np.rint(latents / step) * np.float32(step)


def quantised_along_trellis(latents: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Return latents quantised along a trellis where the values that symbols choose between are ``step`` apart."""
    return trellis.values(trellis.quantise(latents, step / 2)).astype(np.float32) * np.float32(step / 2)


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
        steps = np.exp(run.random.uniform(*np.log(STEPS), CROPS))
        ways = run.random.permutation([quantised, quantised_along_trellis] * (CROPS // 2))
        batch = zip(ways, next(chosen), steps.tolist(), strict=True)
        values = stack([quantise(crop.latents(), step) for quantise, crop, step in batch])
        told = torch.from_numpy(steps).float()
        return {"bits": bits(run.network(values, told), values, told).mean()}

    def evaluate() -> dict[str, float]:
        figures = {}
        with torch.inference_mode():
            for step in JUDGED:
                steps, ours, order_0, count = torch.tensor([step]), 0.0, 0.0, 0
                for photograph in held_out:
                    values = torch.from_numpy(quantised(photograph.latents, step))[None]
                    ours += bits(run.average(values, steps), values, steps).sum().item()
                    order_0 += order_0_bits(values[0], step)
                    count += values.numel()
                figures |= {f"bits_at_{step}": ours / count, f"order_0_bits_at_{step}": order_0 / count}
        return figures

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
