"""Train the distilled decoder as a whole, but for the layers that paint: towards the photograph, as sharp as it is.

    python -m training.tune_decoder PHOTOS TEACHER RUN --start WEIGHTS [--trained LAYERS]
        [--closeness WEIGHT WEIGHT WEIGHT WEIGHT WEIGHT] [--contrast WEIGHT WEIGHT WEIGHT]

Quantisation leaves the coarse levels of a Laplacian pyramid nearly intact. There the decoder, which is given the noise
variance, learns to come near to the photograph. At fine levels regression to the photograph would blur: there the root
mean squares of 8×8 blocks come near to the photograph's.

The layers of higher resolution stand still. They are the teacher's, and paint as it does. A decoder that was trained
in all its layers met the same losses by a pattern like scales, which no figure showed. Weights are rounded to seven
bits in each step, those that stand still, too, so that the others make up for it.
"""

from torch import Tensor
from torch.func import functional_call

from .decoder_crops import DecoderCrops, parser, whole_photographs
from .labelled import noisy_batch
from .losses import CONTRASTS, LEVELS, closeness, contrast_distance, laplacian_pyramid
from .networks import Decoder
from .photographs import pixels
from .precision import mixed_precision
from .rounding import rounded_weights
from .running import Run

TRAINED = 8
"""First layers that are trained, beside the cleaning: those up to a quarter of the resolution."""
CLOSENESS = 0.0, 1.0, 2.0, 3.0, 6.0
"""Weights of the pyramid's levels, the finest first, in the distance to the photograph."""
CONTRAST = 0.42, 1.25, 1.25
"""Weights of the finest levels in the distance between block contrasts."""


def main() -> None:
    asked = parser(__doc__, steps=4_500)
    asked.add_argument("--trained", type=int, default=TRAINED, metavar="LAYERS", help="first ones, beside the cleaning")
    weights = {"type": float, "metavar": "WEIGHT"}
    asked.add_argument(
        "--closeness", nargs=LEVELS + 1, default=CLOSENESS, help="of levels, the finest first", **weights
    )
    asked.add_argument("--contrast", nargs=CONTRASTS, default=CONTRAST, help="likewise", **weights)
    arguments = asked.parse_args()

    def network() -> Decoder:
        decoder = Decoder()
        decoder.layers[arguments.trained :].requires_grad_(False)
        return decoder

    run = Run(network, arguments)
    crops = DecoderCrops(arguments, run)
    evaluate = whole_photographs(crops, run)

    def losses() -> dict[str, Tensor]:
        photo, latents, variances, _own = crops.draw()
        given, noise_variance = noisy_batch(latents, variances)
        with mixed_precision(run.device):
            decoded = functional_call(run.network, rounded_weights(run.network), (given, noise_variance)).float()
        made, wanted = laplacian_pyramid(decoded), laplacian_pyramid(pixels(photo))
        return {
            "closeness": closeness(made, wanted, arguments.closeness),
            "contrast": contrast_distance(made, wanted, arguments.contrast),
        }

    run.train(losses, evaluate, average_over=300)


if __name__ == "__main__":
    main()
