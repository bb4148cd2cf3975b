"""Train the denoiser to predict quantisation noise in latents.

python -m training.train_denoiser PHOTOS TEACHER RUN [--steps N]
"""

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from .labelled import KINDS, SIDE, TOGETHER, Labelled, Pool, labelled_crops, labelled_photographs, noisy_batch
from .networks import Denoiser
from .photographs import AlteredCrops, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher

CROPS, FIRST, KEPT = 20, 4, 1500


def main() -> None:
    run = Run(Denoiser, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher = Teacher(arguments.teacher, run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    photos, times, workers = AlteredCrops(training, SIDE), arguments.times, arguments.workers
    crops = labelled_crops(photos, teacher, TOGETHER, run.seed, groups=times, workers=workers)
    held_out = labelled_photographs(held_out_photos, teacher, workers)
    pool = Pool(KEPT * times)
    for _ in range(FIRST * times):
        pool.add(*next(crops))

    def losses() -> dict[str, Tensor]:
        if run.step % TOGETHER == 0:
            for _ in range(times):
                pool.add(*next(crops))
        batch = Labelled(*pool.draw(CROPS * times))
        noisy, variance = noisy_batch(batch.latents, batch.noise_variance)
        # Clean crops get white noise, so that all timesteps up to 200 are trained.
        any_variance = torch.exp(torch.empty_like(variance).uniform_(np.log(0.0008), np.log(0.35)))
        clean = variance == 0
        variance = torch.where(clean, any_variance, variance)
        deviation = variance.sqrt()[:, None, None, None]
        noisy = noisy + clean[:, None, None, None] * deviation * torch.randn_like(noisy)
        with mixed_precision(run.device):
            noise = run.network(noisy, variance)
        target = (noisy - batch.latents[:, 0]) / deviation
        return {"noise": (noise.float() - target).square().mean()}

    def evaluate() -> dict[str, float]:
        ratios: dict[str, list[float]] = defaultdict(list)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(0)
            for whole in held_out:
                latents = whole.latents[0, 0]
                white = latents + 0.03**0.5 * torch.randn_like(latents)
                noisy = torch.cat([whole.latents[0, 1:], white[None]])
                variance = torch.cat([whole.noise_variance[0, 1:], whole.noise_variance.new_tensor([0.03])])
                noise = run.average(noisy, variance)
                cleaned = noisy - variance.sqrt()[:, None, None, None] * noise
                before, after = ((x - latents).square().mean((1, 2, 3)) for x in (noisy, cleaned))
                for name, ratio in zip((*KINDS[1:], "white"), (after / before).tolist(), strict=True):
                    ratios[name].append(ratio)
        return {name: float(np.mean(values)) for name, values in ratios.items()}

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
