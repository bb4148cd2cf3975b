"""Tune the encoder to a decoder, so that the pictures which both make are better.

    python -m training.tune_encoder PHOTOS TEACHER RUN --start ENCODER --decoder DECODER [--steps N]

Latents that are as near to the teacher's as the encoder can bring them leave it free how it is wrong. Here it is told
what the decoder makes of them, with and without noise as quantisation leaves; the teacher's latents it has to keep to.
"""

import math
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pillow_sdc.models.compact_networks import Decoder, Encoder

from .labelled import KINDS, SIDE, TOGETHER, Pool, labelled_crops, labelled_photographs
from .photographs import AlteredCrops, pixels, read_photos, samples, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher
from .train_decoder import DYED, GRAINY, VEILED, decode, judge, picture_losses
from .train_encoder import error

CROPS, EVERY, KEPT, FILLED = 6, 40, 2400, 40
"""Crops of a step, steps between new crops, crops in the pool, and how often crops are labelled before the first."""

ERROR_WEIGHT = 60.0
TEXTURE_WEIGHT = 25.0
QUANTISED = 0.5
"""Share of the crops whose latents get as much noise as a codec left in the teacher's."""


def main() -> None:
    asked = parser(__doc__, steps=2400)
    asked.add_argument("--decoder", type=Path, required=True, metavar="SAFETENSORS", help="exported weights")
    asked.add_argument("--error", type=float, default=ERROR_WEIGHT, help="weight of the error against the teacher")
    asked.add_argument("--texture", type=float, default=TEXTURE_WEIGHT, help="weight of the pictures' texture")
    run = Run(Encoder, arguments := asked.parse_args())
    decoder = Decoder().to(run.device, memory_format=torch.channels_last).requires_grad_(False)
    decoder.load_state_dict(load_file(arguments.decoder))
    teacher = Teacher(arguments.teacher, run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    times, workers = arguments.times, arguments.workers
    altered = AlteredCrops(training, SIDE, dyed=DYED, veiled=VEILED, grainy=GRAINY)
    crops = labelled_crops(altered, teacher, TOGETHER, run.seed, groups=times, workers=workers)
    pool = Pool(KEPT * times)
    held_out = labelled_photographs(held_out_photos, teacher, workers)

    def label() -> None:
        for _ in range(times):
            labelled = next(crops)
            pool.add(*labelled, samples(teacher.decode(labelled.latents[:, 0])))

    for _ in range(min(math.ceil(FILLED / times), run.steps)):
        label()

    def losses() -> dict[str, Tensor]:
        if run.step % EVERY == 0:
            label()
        photo, latents, variances, _, by_teacher = pool.draw(CROPS * times)
        photo, by_teacher = pixels(photo), pixels(by_teacher)
        each, kind = torch.arange(len(photo)), torch.randint(1, len(KINDS), (len(photo),))
        quantised = torch.rand(len(photo), device=run.device) < QUANTISED
        variance = torch.where(quantised, variances[each, kind], 0.0)
        with mixed_precision(run.device):
            encoded = run.network(photo)
            noise = torch.randn_like(encoded) * variance.sqrt()[:, None, None, None]
            decoded = decoder(encoded + noise, variance)
        by_error = {name: arguments.error * loss for name, loss in error(encoded.float(), latents[:, 0]).items()}
        texture = torch.full_like(variance, arguments.texture)
        return by_error | picture_losses(decoded.float(), photo, by_teacher, texture)

    def evaluate() -> dict[str, float]:
        with torch.inference_mode():
            encoded = [run.average(pixels(whole.photo)) for whole in held_out]
        pairs = zip(encoded, held_out, strict=True)
        off = [(ours - whole.latents[:, 0]).square().mean().item() for ours, whole in pairs]
        clean = held_out[0].noise_variance.new_zeros(1)
        pictures = [decode(decoder, ours, clean) for ours in encoded]
        return {"held_out_mse": sum(off) / len(off), **judge(held_out, pictures)}

    run.train(losses, evaluate)


if __name__ == "__main__":
    main()
