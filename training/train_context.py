"""Train the context network to predict quantised latents.

    python -m training.train_context PHOTOS TEACHER RUN [--steps N]

A step is drawn for each crop. Half of the crops are weighted; a quarter of either half is rounded to the nearest
values, the rest quantised with a trellis.
"""

import itertools
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.format.context import trellis
from pillow_sdc.format.context.weighting import to_weighted

from .context_model import ContextModel, bits
from .labelled import Pool
from .photographs import AlteredCrops, numbered_crops, pixels, read_photos, split
from .running import Run, parser
from .teacher import Teacher, own_encoder
from .workers import in_order

CROPS, FIRST, KEPT = 8, 64, 1500
NEW_EVERY = 4
"""Training steps between new crops: labelling a crop takes longer than a step."""

OWN = 0.25
"""Fraction of the crops encoded by the embedded encoder, whose latents are smoother, in place of the teacher."""

SIDE = 28
STEPS = (0.15, 3.0)
EVALUATED = (0.35, 0.5, 0.7, 1.0)


def quantised(latents: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Return latents rounded to the nearest values, ``step`` apart."""
    return np.rint(latents / step) * np.float32(step)


def quantised_along_trellis(latents: NDArray[np.float32], step: float) -> NDArray[np.float32]:
    """Return latents after trellis-coded quantisation, with ``step`` between the values that a state allows."""
    return trellis.values(trellis.quantise(latents, step / 2)).astype(np.float32) * np.float32(step / 2)


def order_0_bits(values: Tensor, step: float) -> float:
    """Return the total bits of the symbols under order-0 coding with each channel's own frequencies."""
    total = 0.0
    for channel in (values / step).round().int():
        counts = torch.unique(channel, return_counts=True)[1].float()
        total -= (counts * (counts / counts.sum()).log2()).sum().item()
    return total


def main() -> None:
    run = Run(ContextModel, arguments := parser(__doc__, steps=20_000).parse_args())
    teacher, own_encode = Teacher(arguments.teacher, run.device), own_encoder(run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [teacher.encode(pixels(photo[None]).to(run.device))[0].cpu().numpy() for photo in held_out_photos]
    # Not rotated: photographs are upright, and the rows above may predict differently from the columns beside.
    times = arguments.times
    draw = partial(numbered_crops, AlteredCrops(training, SIDE, turned=False), times, run.seed)
    crops = in_order(draw, itertools.count(), arguments.workers)
    pool = Pool(KEPT * times)
    random = np.random.default_rng(run.seed)

    def label() -> None:
        encode = own_encode if random.random() < OWN else teacher.encode
        pool.add(encode(pixels(torch.from_numpy(next(crops)).to(run.device))).cpu())

    for _ in range(FIRST):
        label()

    def losses() -> dict[str, Tensor]:
        if run.step % NEW_EVERY == 0:
            label()
        steps = np.exp(random.uniform(*np.log(STEPS), CROPS * times))
        values, flags = [], []
        drawn = zip(pool.draw(CROPS * times)[0].numpy(), steps.tolist(), strict=True)
        for i, (latents, step) in enumerate(drawn):
            quantise = quantised_along_trellis if i % 4 else quantised
            flags.append(i // 4 % 2)
            values.append(quantise(to_weighted(latents).astype(np.float32) if flags[-1] else latents, step))
        batch, sizes = (torch.from_numpy(array).float().to(run.device) for array in (np.stack(values), steps))
        return {"bits": bits(run.network(batch, sizes, torch.tensor(flags, device=run.device)), batch, sizes).mean()}

    def evaluate() -> dict[str, float]:
        figures = {}
        with torch.inference_mode():
            for step in EVALUATED:
                steps, ours, order_0, count = torch.tensor([step], device=run.device), 0.0, 0.0, 0
                for latents in held_out:
                    values = torch.from_numpy(quantised(latents, step))[None].to(run.device)
                    ours += bits(run.average(values, steps, torch.zeros_like(steps)), values, steps).sum().item()
                    order_0 += order_0_bits(values[0], step)
                    count += values.numel()
                figures |= {f"bits_at_{step}": ours / count, f"order_0_bits_at_{step}": order_0 / count}
        return figures

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
