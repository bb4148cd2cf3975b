"""Train the encoder to produce the teacher's latents.

    python -m training.train_encoder PHOTOS TEACHER RUN [--steps N]

An encoder of this size soon knows a thousand photographs by heart. So it sees altered copies of them, which the teacher
labels on the way, and learns not only what the teacher's output is but what its layers make before.
"""

import itertools
from functools import partial

import torch
from torch import Tensor

from . import features
from .labelled import SIDE, Pool
from .networks import Encoder
from .photographs import AlteredCrops, numbered_crops, pixels, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher
from .workers import in_order

CROPS, NEW, FIRST, KEPT = 6, 2, 16, 1500

SENSITIVE = torch.tensor([-0.52, -0.28, -0.32, 0.74])
"""The direction of latent space to which decoders are most sensitive: about five times as much as to the others."""
ALONG_WEIGHT = 0.5


def error(latents: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Return the mean squared error, and that along the sensitive direction."""
    difference = latents - teacher
    along = torch.einsum("nchw,c->nhw", difference, SENSITIVE.to(difference.device))
    return {"latents": difference.square().mean(), "along": ALONG_WEIGHT * along.square().mean()}


def main() -> None:
    run = Run(Encoder, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher = Teacher(arguments.teacher, run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    times = arguments.times
    draw = partial(numbered_crops, AlteredCrops(training, SIDE), NEW * times, run.seed)
    crops = in_order(draw, itertools.count(), arguments.workers)
    pool = Pool(KEPT * times)

    def label() -> None:
        drawn = torch.from_numpy(next(crops)).to(run.device)
        with features.watched(teacher.encoder_layers, features.LAYERS) as made:
            latents = teacher.encode(pixels(drawn))
        pool.add(drawn, latents, *(layer.bfloat16() for layer in made))  # in half the memory

    for _ in range(FIRST // NEW):
        label()
    held_out = [pixels(photo[None]).to(run.device) for photo in held_out_photos]
    wanted = [teacher.encode(photo) for photo in held_out]

    def losses() -> dict[str, Tensor]:
        label()
        photo, latents, *wanted_features = pool.draw(CROPS * times)
        with mixed_precision(run.device), features.watched(run.network.layers, features.LAYERS) as made:
            encoded = run.network(pixels(photo))
        weight = features.weight(run.progress)
        return {
            **error(encoded.float(), latents),
            "features": weight * features.distance(made, wanted_features),
        }

    def evaluate() -> dict[str, float]:
        with torch.inference_mode():
            encoded = [run.average(photo) for photo in held_out]
        squares = [(ours - latents).square().mean().item() for ours, latents in zip(encoded, wanted, strict=True)]
        return {"held_out_mse": sum(squares) / len(squares)}

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
