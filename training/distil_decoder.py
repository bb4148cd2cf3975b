"""Distil the teacher's decoder: the same picture of the same latents, clean or with quantisation noise.

    python -m training.distil_decoder PHOTOS TEACHER RUN [--steps N] [--side LATENTS] [--crops N]
    python -m training.distil_decoder PHOTOS TEACHER RUN --start WEIGHTS --photograph 0 0.25 0.5 1 1 --features 0

The teacher's picture is a function of the latents, so regressing to it gives sharp pictures without any loss for
texture. The student's blocks have counterparts in the teacher's decoder and learn from each (Romero et al. 2015,
"FitNets"). At first the target is the teacher's picture of the noisy latents themselves, at all levels of its Laplacian
pyramid.

Then ``--photograph`` says which share of each level's target is the photograph in place of that picture, the finest
level first. What is left of the photograph after quantisation is known best at coarse levels, where regression to it
removes the noise, of whose variance the student is told; fine levels stay the teacher's, lest they blur.
"""

import numpy as np
import torch
from torch import Tensor

from pillow_sdc.models.compact import watermark

from . import features
from .decoder import COUNTERPARTS, TEACHERS, Decoder
from .labelled import KINDS, Pool, labelled_crops, labelled_photographs, noisy_batch
from .losses import LEVELS, closeness, laplacian_pyramid
from .photographs import AlteredCrops, pixels, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .supply import DYED, GRAINY, VEILED
from .teacher import Teacher

SIDE, CROPS = 16, 4
TOGETHER = 16
"""Crops that are quantised as one square."""
KEPT, FIRST, EVERY = 3200, 25, 12
"""Crops in the pool, times that it is added to before the first step, and steps between later additions."""
OWN = 0.4
"""Share of the crops that the embedded encoder encodes in place of the teacher."""
MARKED = 0.5
"""Share of these that carry the watermark of the first kind's files."""

JUDGED = 6
"""Photographs of those held out that each evaluation decodes."""

PICTURE_WEIGHTS = 4.0, 2.0, 2.0, 2.0, 4.0
"""Of the pyramid's levels, the finest first."""


def main() -> None:
    asked = parser(__doc__, steps=6_000)
    asked.add_argument("--side", type=int, default=SIDE, help="of a crop, in latents")
    asked.add_argument("--crops", type=int, default=CROPS, help="in a step")
    asked.add_argument("--photograph", type=float, nargs=LEVELS + 1, default=[0.0] * (LEVELS + 1), metavar="SHARE")
    asked.add_argument("--features", type=float, default=features.WEIGHT, help="weight of the layers, at first")
    arguments = asked.parse_args()
    run = Run(Decoder, arguments)
    teacher = Teacher(arguments.teacher, run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    crops = labelled_crops(
        AlteredCrops(training, arguments.side, dyed=DYED, veiled=VEILED, grainy=GRAINY),
        teacher,
        TOGETHER,
        (*run.seed, arguments.side),
        own=OWN,
        groups=arguments.times,
        workers=arguments.workers,
    )
    pool = Pool(KEPT * arguments.times)
    mark = torch.from_numpy(watermark.mark(np.zeros((4, arguments.side, arguments.side), np.float32))).to(run.device)
    held_out = labelled_photographs(held_out_photos[:JUDGED], teacher, arguments.workers)
    pictures = [[teacher.decode(whole.latents[:, i]) for i in range(len(KINDS))] for whole in held_out]
    for _ in range(min(FIRST, arguments.steps)):
        pool.add(*next(crops))

    def losses() -> dict[str, Tensor]:
        if run.step % EVERY == 0:
            for _ in range(arguments.times):
                pool.add(*next(crops))
        photo, *kinds, own = pool.draw(arguments.crops * arguments.times)
        latents, noise_variance = noisy_batch(*kinds)
        with features.watched(teacher.decoder_layers, TEACHERS) as wanted:
            by_teacher = teacher.decode_unclamped(latents).clone()
        marked = own & (torch.rand(len(own), device=own.device) < MARKED)
        given = latents + marked[:, None, None, None] * mark
        with mixed_precision(run.device), features.watched(run.network.layers, COUNTERPARTS) as made:
            decoded = run.network(given, noise_variance).float()
        of_teachers_width = [ours[:, : theirs.shape[1]] for ours, theirs in zip(made, wanted, strict=True)]
        levels = zip(laplacian_pyramid(by_teacher), laplacian_pyramid(pixels(photo)), arguments.photograph, strict=True)
        target = [teachers.lerp(photographs, share) for teachers, photographs, share in levels]
        losses = {"picture": closeness(laplacian_pyramid(decoded), target, PICTURE_WEIGHTS)}
        if arguments.features:
            weight = arguments.features * features.falling(run.progress)
            losses["features"] = weight * features.distance(of_teachers_width, wanted)
        return losses

    def evaluate() -> dict[str, float]:
        figures = dict.fromkeys(KINDS, 0.0)
        for whole, by_teacher in zip(held_out, pictures, strict=True):
            for i, kind in enumerate(KINDS):
                with torch.inference_mode(), mixed_precision(run.device):
                    decoded = run.average(whole.latents[:, i], whole.noise_variance[:, i]).float().clamp(-1, 1)
                error = (decoded - by_teacher[i]).square().mean()
                figures[kind] += (10 * torch.log10(4 / error)).item() / len(held_out)
        return figures

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
