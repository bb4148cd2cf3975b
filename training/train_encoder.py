"""Train the encoder to give the teacher's latents.

    python -m training.train_encoder PHOTOS TEACHER RUN [--steps N]

An encoder of this size soon knows a thousand photographs by heart. So it sees altered copies of them, which the teacher
labels on the way, and learns not only what the teacher's output is but what its layers make before.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pillow_sdc.models.compact_networks import Encoder

from . import features
from .labelled import SIDE, Pool
from .photographs import AlteredCrops, pixels, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher

CROPS, NEW, FIRST = 6, 2, 16

SENSITIVE = torch.tensor([-0.52, -0.28, -0.32, 0.74])
"""The direction of latent space that matters most to decoders: about five times as much as those across it."""
ALONG_WEIGHT = 0.5


def error(latents: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Return the mean squared error, and that along the sensitive direction."""
    difference = latents - teacher
    along = torch.einsum("nchw,c->nhw", difference, SENSITIVE)
    return {"latents": difference.square().mean(), "along": ALONG_WEIGHT * along.square().mean()}


def main() -> None:
    run = Run(Encoder, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher = Teacher(arguments.teacher)
    training, held_out = split(read_photos(arguments.photos))
    photos = AlteredCrops(training, SIDE, run.random)
    pool = Pool[tuple[NDArray[np.uint8], Tensor, tuple[Tensor, ...]]](run.random)

    def label(count: int) -> None:
        drawn = photos.draw(count)
        with features.watched(teacher.encoder_layers, features.LAYERS) as made:
            latents = teacher.encode(pixels(drawn))
        pool.add(zip(drawn, latents, features.by_picture(made), strict=True))

    label(FIRST)
    wanted = [teacher.encode(pixels(photo[None])) for photo in held_out]

    def losses() -> dict[str, Tensor]:
        label(NEW)
        photo, latents, wanted_features = zip(*pool.draw(CROPS), strict=True)
        with mixed_precision(), features.watched(run.network.layers, features.LAYERS) as made:
            encoded = run.network(pixels(np.stack(photo)))
        weight = features.weight(run.progress)
        return {
            **error(encoded.float(), torch.stack(latents)),
            "features": weight * features.distance(made, wanted_features),
        }

    def evaluate() -> dict[str, float]:
        with torch.inference_mode():
            encoded = [run.average(pixels(photo[None])) for photo in held_out]
        squares = [(ours - latents).square().mean().item() for ours, latents in zip(encoded, wanted, strict=True)]
        return {"held_out_mse": sum(squares) / len(squares)}

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
