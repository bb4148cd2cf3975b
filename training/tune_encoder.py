"""Tune the encoder to a decoder, so that the pictures which both make are better.

    python -m training.tune_encoder PHOTOS TEACHER RUN --start ENCODER --decoder DECODER [--steps N]

Latents that are as near to the teacher's as the encoder can bring them leave it free how it is wrong. Here it is told
what the decoder makes of them, with and without noise as quantisation leaves; the teacher's latents it has to keep to.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .labelled import KINDS, labelled_photographs
from .networks import Decoder, Encoder
from .photographs import pixels, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .supply import Supply
from .teacher import Teacher
from .train_decoder import decode, judge, picture_losses
from .train_encoder import error

ERROR_WEIGHT = 60.0
TEXTURE_WEIGHT = 50.0
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
    supply = Supply(training, teacher, run.seed, arguments)
    held_out = labelled_photographs(held_out_photos, teacher, arguments.workers)

    def losses() -> dict[str, Tensor]:
        batch, photo, by_teacher = supply.draw(run.step)
        each, kind = torch.arange(len(photo)), torch.randint(1, len(KINDS), (len(photo),))
        quantised = torch.rand(len(photo), device=run.device) < QUANTISED
        variance = torch.where(quantised, batch.noise_variance[each, kind], 0.0)
        with mixed_precision(run.device):
            encoded = run.network(photo)
            noise = torch.randn_like(encoded) * variance.sqrt()[:, None, None, None]
            decoded = decoder(encoded + noise, variance, torch.zeros_like(variance))
        by_error = {name: arguments.error * loss for name, loss in error(encoded.float(), batch.latents[:, 0]).items()}
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
