"""Train the denoiser to see the noise that quantisation left in latents.

python -m training.train_denoiser PHOTOS TEACHER RUN [--steps N]
"""

import numpy as np
import torch
from torch import Tensor

from pillow_sdc.models.compact_networks import Denoiser

from .labelled import SIDE, TOGETHER, Labelled, Pool, label_crops, label_photograph, noisy_batch, stack
from .photographs import AlteredCrops, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher

CROPS, FIRST = 20, 4


def main() -> None:
    run = Run(Denoiser, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher = Teacher(arguments.teacher)
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [label_photograph(photo, teacher) for photo in held_out_photos]
    photos = AlteredCrops(training, SIDE, run.random)
    pool = Pool[Labelled](run.random)
    for _ in range(FIRST):
        pool.add(label_crops(photos.draw(TOGETHER), teacher.encode, run.random))

    def losses() -> dict[str, Tensor]:
        if run.step % TOGETHER == 0:
            pool.add(label_crops(photos.draw(TOGETHER), teacher.encode, run.random))
        batch = pool.draw(CROPS)
        noisy, variance = noisy_batch(batch, run.random)
        clean_latents = stack(crop.latents for crop in batch)
        # Crops that came clean take white noise, so that any timestep up to 200 can be asked for.
        clean = variance == 0
        variance[clean] = torch.exp(torch.empty(int(clean.sum())).uniform_(np.log(0.0008), np.log(0.35)))
        deviation = variance.sqrt()[:, None, None, None]
        noisy[clean] += deviation[clean] * torch.randn_like(noisy[clean])
        with mixed_precision():
            noise = run.network(noisy, variance)
        target = (noisy - clean_latents) / deviation
        return {"noise": (noise.float() - target).square().mean()}

    def evaluate() -> dict[str, float]:
        ratios: dict[str, list[float]] = {"palette": [], "context": [], "white": []}
        generator = torch.Generator().manual_seed(0)
        with torch.inference_mode():
            for whole in held_out:
                latents = torch.from_numpy(whole.latents)
                white = latents + 0.03**0.5 * torch.randn(latents.shape, generator=generator)
                for name, noisy, variance in (
                    ("palette", torch.from_numpy(whole.palette.latents), whole.palette.noise_variance),
                    ("context", torch.from_numpy(whole.context.latents), whole.context.noise_variance),
                    ("white", white, 0.03),
                ):
                    deviation = variance**0.5
                    cleaned = noisy - deviation * run.average(noisy[None], torch.tensor([variance]))[0]
                    before, after = ((x - latents).square().mean().item() for x in (noisy, cleaned))
                    ratios[name].append(after / before)
        return {name: float(np.mean(values)) for name, values in ratios.items()}

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
