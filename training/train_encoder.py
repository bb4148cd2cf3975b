"""Train the encoder to give the teacher's latents.

    python -m training.train_encoder PHOTOS RUN --teacher TEACHER [--steps N]

An encoder of this size soon knows a thousand photographs by heart. So it sees altered copies of them, which the teacher
labels on the way.
"""

from pathlib import Path

import torch
from torch import Tensor

from pillow_sdc.models.compact_networks import Encoder

from .crops import photograph_paths, pixels, read_photo, split
from .labelled import LabelledCrops
from .running import Run, parser
from .teacher import Teacher

CROPS, NEW = 6, 2
SIDE = 24

SENSITIVE = torch.tensor([-0.52, -0.28, -0.32, 0.74])
"""The direction of latent space that matters most to decoders: about five times as much as those across it."""
ALONG_WEIGHT = 0.5


def error(latents: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """Return the mean squared error, and that along the sensitive direction."""
    difference = latents - teacher
    along = torch.einsum("nchw,c->nhw", difference, SENSITIVE)
    return {"latents": difference.square().mean(), "along": ALONG_WEIGHT * along.square().mean()}


def main() -> None:
    arguments_parser = parser(__doc__, steps=12_000)
    arguments_parser.add_argument("--teacher", type=Path, required=True)
    arguments = arguments_parser.parse_args()
    run = Run(Encoder, arguments)
    teacher = Teacher(arguments.teacher)
    training, held_out = split([read_photo(path) for path in photograph_paths(arguments.data)])
    labelled = LabelledCrops(training, teacher, SIDE, run.random)
    wanted = [teacher.encode(pixels(photo[None])) for photo in held_out]

    def losses() -> dict[str, Tensor]:
        photo, latents = labelled.draw(CROPS, NEW)
        with torch.autocast("cpu", torch.bfloat16):
            encoded = run.network(photo)
        return error(encoded.float(), latents)

    def evaluate() -> dict[str, float]:
        with torch.inference_mode():
            encoded = [run.average(pixels(photo[None])) for photo in held_out]
        squares = [(ours - latents).square().mean().item() for ours, latents in zip(encoded, wanted, strict=True)]
        return {"held_out_mse": sum(squares) / len(squares)}

    run.train(losses, evaluate, evaluate_every=500)


if __name__ == "__main__":
    main()
