"""Train the distilled decoder as a whole: to the teacher's picture at fine levels, to the photograph at coarse ones.

    python -m training.tune_decoder PHOTOS TEACHER RUN --start WEIGHTS [--photograph SHARE SHARE SHARE SHARE SHARE]
        [--contrast EXPONENT]

``--photograph`` says which share of each level of the target's Laplacian pyramid is the photograph in place of the
teacher's picture of the same noisy latents, the finest level first. What is left of the photograph after quantisation
is known best at coarse levels, where regression to it removes the noise, of whose variance the decoder is told. Fine
levels stay the teacher's, which follow from the latents entirely, lest they blur.

The teacher's picture of noisy latents lacks contrast there, the more the coarser the step. So it takes the
photograph's, place by place, so far as ``--contrast`` says: a pattern that follows from the latents, as strong as it is
in photographs.
"""

from torch import Tensor

from .decoder import Decoder
from .decoder_crops import DecoderCrops, parser, whole_photographs
from .labelled import noisy_batch
from .losses import LEVELS, PICTURE_WEIGHTS, closeness, laplacian_pyramid, with_contrast
from .photographs import pixels
from .precision import mixed_precision
from .running import Run

SHARES = 0.0, 0.25, 0.5, 1.0, 1.0
CONTRAST = 0.7


def main() -> None:
    asked = parser(__doc__, steps=3_000)
    asked.add_argument("--photograph", type=float, nargs=LEVELS + 1, default=SHARES, metavar="SHARE")
    asked.add_argument("--contrast", type=float, default=CONTRAST, metavar="EXPONENT")
    arguments = asked.parse_args()
    run = Run(Decoder, arguments)
    crops = DecoderCrops(arguments, run)
    evaluate = whole_photographs(crops, run)

    def losses() -> dict[str, Tensor]:
        photo, latents, variances, _own = crops.draw()
        given, noise_variance = noisy_batch(latents, variances)
        by_teacher = crops.teacher.decode_unclamped(given).clone()
        with mixed_precision(run.device):
            decoded = run.network(given, noise_variance).float()
        levels = zip(laplacian_pyramid(by_teacher), laplacian_pyramid(pixels(photo)), arguments.photograph, strict=True)
        target = [
            with_contrast(teachers, photographs, arguments.contrast).lerp(photographs, share) if share < 1 else photographs
            for teachers, photographs, share in levels
        ]
        return {"picture": closeness(laplacian_pyramid(decoded), target, PICTURE_WEIGHTS)}

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
