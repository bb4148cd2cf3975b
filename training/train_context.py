"""Train the context network to foretell quantised latents.

    python -m training.train_context PHOTOS TEACHER RUN [--steps N]

Steps are drawn anew for each crop; half of the crops are stretched, and a quarter of either rounded to the nearest
values, the others quantised along a trellis.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.latent_codecs import trellis
from pillow_sdc.latent_codecs.sensitivity import stretched

from .context_model import ContextModel, bits
from .labelled import Pool, stack
from .photographs import AlteredCrops, pixels, read_photos, split
from .running import Run, parser
from .teacher import Teacher, embedded_encoder

CROPS, FIRST = 8, 64
NEW_EVERY = 4
"""Steps between new crops: to label one costs more than a step."""

OWN = 0.25
"""Share of the crops that the embedded encoder encodes, whose latents are smoother, in place of the teacher."""

SIDE = 28
STEPS = (0.15, 3.0)
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
    teacher = Teacher(arguments.teacher)
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [teacher.encode(pixels(photo[None]))[0].numpy() for photo in held_out_photos]
    # Upright, as photographs are: what is above may say other things than what is beside.
    photos = AlteredCrops(training, SIDE, run.random, turned=False)
    pool = Pool[NDArray[np.float32]](run.random)
    embedded_encode = embedded_encoder()

    def label() -> None:
        encode = embedded_encode if run.random.random() < OWN else teacher.encode
        pool.add(encode(pixels(photos.draw(1))).numpy())

    for _ in range(FIRST):
        label()

    def losses() -> dict[str, Tensor]:
        if run.step % NEW_EVERY == 0:
            label()
        steps = np.exp(run.random.uniform(*np.log(STEPS), CROPS))
        values, stretches = [], []
        for i, (latents, step) in enumerate(zip(pool.draw(CROPS), steps.tolist(), strict=True)):
            quantise = quantised_along_trellis if i % 4 else quantised
            stretches.append(i // 4 % 2)
            values.append(quantise(stretched(latents).astype(np.float32) if stretches[-1] else latents, step))
        batch, told = stack(values), torch.from_numpy(steps).float()
        return {"bits": bits(run.network(batch, told, torch.tensor(stretches)), batch, told).mean()}

    def evaluate() -> dict[str, float]:
        figures = {}
        with torch.inference_mode():
            for step in JUDGED:
                steps, ours, order_0, count = torch.tensor([step]), 0.0, 0.0, 0
                for latents in held_out:
                    values = torch.from_numpy(quantised(latents, step))[None]
                    ours += bits(run.average(values, steps, torch.zeros(1)), values, steps).sum().item()
                    order_0 += order_0_bits(values[0], step)
                    count += values.numel()
                figures |= {f"bits_at_{step}": ours / count, f"order_0_bits_at_{step}": order_0 / count}
        return figures

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
