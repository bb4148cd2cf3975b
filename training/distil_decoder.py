"""Distil the teacher's decoder unit by unit: each learns the output of the teacher's counterpart for the same input.

    python -m training.distil_decoder PHOTOS TEACHER RUN [--steps N] [--side LATENTS] [--crops N]

Trained as a whole, from latents to pictures, such a decoder was 25.8 dB from the teacher's pictures after 3,000 steps.
Its layers are the teacher's, in number and kind, but for the last ones, which are slimmer. So each of them, three
convolutions at most, can be given the teacher's own activations, and has the next ones to aim at (after Romero et al.
2015, "FitNets"): 27 dB after 400 steps. No weight is taken over.

Latents are clean or have a codec's noise in them, which makes no difference here: the teacher decodes them as they are.
"""

import torch
from torch import Tensor

from .decoder_crops import DecoderCrops, parser, whole_photographs
from .labelled import noisy_batch
from .losses import PICTURE_WEIGHTS, closeness, laplacian_pyramid
from .networks import Decoder, soft_clipped, to_pixels
from .precision import mixed_precision
from .running import Run

UNITS = ((0, 1), (2,), (3,), (4,), (5, 6), (7,), (8,), (9,), (10, 11), (12,), (13,), (14,), (15, 16, 17, 18))
"""Layers of the decoder that have, together, a counterpart in the teacher: the same layers."""

PICTURE_ERROR = 10.0
"""Weight of the picture's squared error, over its variance, beside its closeness; that of other units has 1."""


def main() -> None:
    arguments = parser(__doc__, steps=4_000).parse_args()
    run = Run(Decoder, arguments)
    crops = DecoderCrops(arguments, run)
    evaluate = whole_photographs(crops, run)

    def losses() -> dict[str, Tensor]:
        _photo, latents, noise_variance, _own = crops.draw()
        given, _noise_variance = noisy_batch(latents, noise_variance)
        activations = crops.teacher.activations(soft_clipped(given))
        errors = []
        with mixed_precision(run.device):
            for unit in UNITS:
                before, target = activations[unit[0]], activations[unit[-1] + 1]
                output = run.network.layers[unit[0] : unit[-1] + 1](before).float()
                if unit != UNITS[-1]:
                    errors.append(relative_error(output, target, before if len(unit) == 1 else None))
        output, target = to_pixels(output), to_pixels(target)
        picture = closeness(laplacian_pyramid(output), laplacian_pyramid(target), PICTURE_WEIGHTS)
        return {
            "units": torch.stack(errors).sum(),
            "picture": picture + PICTURE_ERROR * relative_error(output, target),
        }

    run.train(losses, evaluate)


def relative_error(output: Tensor, target: Tensor, before: Tensor | None = None) -> Tensor:
    """Return the squared error over the variance of the target, or of the difference between target and ``before``."""
    return (output - target).square().mean() / (target if before is None else target - before).var()


if __name__ == "__main__":
    main()
