"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PHOTOS TEACHER RUN [--steps N]

Like the encoder it sees altered copies of the photographs, which the teacher encodes and decodes on the way. It is told
which latents are the embedded encoder's, as the decoder in use reads from their mark.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .labelled import KINDS, Labelled, labelled_photographs, noisy_batch
from .losses import (
    closeness,
    contrast_distance,
    grid_distance,
    laplacian_pyramid,
    pattern_distance,
    texture_distance,
)
from .networks import Decoder
from .photographs import pixels, read_photos, split
from .precision import mixed_precision
from .running import Run, parser
from .supply import Supply
from .teacher import Teacher, embedded_encoder

OWN = 0.4
"""Share of the crops that the embedded encoder encodes in place of the teacher."""

SQUARES_FROM = 0.002
SHADE_WEIGHT, SHADE_FROM, SHADE_LEVELS = 1.0, 0.0002, (3, 4)
"""Levels whose squares are judged apart: what is wrong there is seen in smooth pictures, and little beside detail."""
LIKENESS_WEIGHT = 0.5
"""Of the squares between the decoder's picture and the teacher's, at first; it falls to nothing. The teacher's follows
from the latents entirely, where the photograph can only be guessed."""
TEXTURE_WEIGHTS = 7.0, 3.0, 3.0
"""For the embedded encoder's latents and the teacher's clean and noisy ones. A decoder that knows of noise can rather
be right than sharp."""
TEXTURE_LEVELS = 1.0, 0.3, 0.1
"""Over them, for the three finest levels. The eye looks for the finest first, and being sharp there costs little error:
there is little in it. Pictures put together of the finest of a sharp decoder's and the rest of a plain one's had half a
decibel more than the sharp one's, and eight tenths of its Laplacian energy."""
CONTRAST = 0.5
"""Weight of contrast, over that of texture."""
TEACHER_WEIGHTS = (4.0, 2.0, 2.0, 2.0, 4.0)
GRID_WEIGHT, PATTERN_WEIGHT = 10.0, 0.5


def saturated(decoded: Tensor, photo: Tensor) -> Tensor:
    """Return the pixels with those beyond black and white brought back to the photograph's, where it is that itself.

    They are clamped in the end.
    """
    return torch.where((photo.abs() > 0.995) & ((decoded - photo) * photo > 0), photo, decoded)


def relative_squares(decoded: Tensor, photo: Tensor, by_teacher: Tensor, start: float = SQUARES_FROM) -> Tensor:
    """Return the squared error over the teacher's, picture by picture, as PSNR, a mean of logarithms, weighs them.

    Without it smooth pictures, whose errors are small but seen, hardly count. ``start`` is added to the teacher's.
    """
    ours, teachers = ((picture - photo).square().mean((1, 2, 3)) for picture in (decoded, by_teacher))
    return (ours / (teachers + start)).mean()


def picture_losses(
    decoded: Tensor, photo: Tensor, by_teacher: Tensor, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Return the losses of decoded pixels, judged up to the edges, so that those of pictures are good too.

    Args:
        decoded: Pixels ``(n, 3, h, w)``.
        photo: Those of the photographs.
        by_teacher: Those that the teacher decodes.
        weights: Of texture, ``(n,)``; without them errors alone count.
    """
    decoded = saturated(decoded, photo)
    pyramid, original, teachers = (laplacian_pyramid(pictures) for pictures in (decoded, photo, by_teacher))
    shade = [relative_squares(pyramid[i], original[i], teachers[i], SHADE_FROM) for i in SHADE_LEVELS]
    losses = {
        "shade": SHADE_WEIGHT * torch.stack(shade).sum(),
        "squares": relative_squares(decoded, photo, by_teacher),
    }
    if weights is None:
        return losses
    texture = [
        TEXTURE_LEVELS[0] * texture_distance(pyramid[0], original[0], 16, 3, 2),
        TEXTURE_LEVELS[1] * texture_distance(pyramid[1], original[1], 16, 2, 2),
        TEXTURE_LEVELS[2] * texture_distance(pyramid[2], original[2], 16, 2, 1),
    ]
    return losses | {
        "texture": (weights * torch.stack(texture).sum(0)).mean(),
        "contrast": (CONTRAST * weights * contrast_distance(pyramid, original, TEXTURE_LEVELS)).mean(),
        "teacher": closeness(pyramid, teachers, TEACHER_WEIGHTS),
        "pattern": PATTERN_WEIGHT * pattern_distance(pyramid[0], original[0]),
        "grid": GRID_WEIGHT * grid_distance(pyramid[0], original[0]),
    }


def for_foreign_latents() -> Decoder:
    """Return a decoder whose pictures of its own encoder's latents cannot be trained."""
    network = Decoder()
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.endswith(".foreign"))
    return network


def main() -> None:
    asked = parser(__doc__, steps=12_000)
    asked.add_argument(
        "--texture",
        type=float,
        nargs=3,
        default=TEXTURE_WEIGHTS,
        metavar=("OWN", "CLEAN", "NOISY"),
        help="weights of texture, for latents of the embedded encoder and the teacher's; 0 0 0 for none",
    )
    asked.add_argument(
        "--foreign", action="store_true", help="train nothing but what is applied to latents of other encoders"
    )
    arguments = asked.parse_args()
    run = Run(for_foreign_latents if arguments.foreign else Decoder, arguments)
    own_weight, clean_weight, noisy_weight = arguments.texture
    teacher, embedded_encode = Teacher(arguments.teacher, run.device), embedded_encoder(run.device)
    training, held_out_photos = split(read_photos(arguments.photos))
    supply = Supply(training, teacher, run.seed, arguments, 0.0 if arguments.foreign else OWN)
    held_out = labelled_photographs(held_out_photos, teacher, arguments.workers)
    own = [embedded_encode(pixels(whole.photo)) for whole in held_out]

    def losses() -> dict[str, Tensor]:
        batch, photo, by_teacher = supply.draw(run.step)
        latents, noise_variance = noisy_batch(batch.latents, batch.noise_variance)
        with mixed_precision(run.device):
            decoded = run.network(latents, noise_variance, (~batch.own).float())
        if not any(arguments.texture):
            likeness = relative_squares(saturated(decoded.float(), photo), by_teacher, photo)
            by_error = picture_losses(decoded.float(), photo, by_teacher)
            return by_error | {"likeness": LIKENESS_WEIGHT * (1 - run.progress) * likeness}
        clean_or_noisy = torch.where(noise_variance > 0, noisy_weight, clean_weight)
        weights = torch.where(batch.own, own_weight, clean_or_noisy)
        return picture_losses(decoded.float(), photo, by_teacher, weights)

    print("teacher", judge(held_out, [teacher.decode(whole.latents[:, 0]) for whole in held_out]), flush=True)
    run.train(losses, lambda: figures(run.average, held_out, own))


def figures(network: Decoder, held_out: list[Labelled], own: list[Tensor]) -> dict[str, float]:
    """Return how photographs are judged, decoded from each kind of latents and from those that are our encoder's."""
    clean = held_out[0].noise_variance.new_zeros(1)
    inputs = {"own": [(latents, clean) for latents in own]}
    for i, kind in enumerate(KINDS):
        inputs[kind] = [(whole.latents[:, i], whole.noise_variance[:, i]) for whole in held_out]
    return {
        f"{kind}_{figure}": value
        for kind, those in inputs.items()
        for figure, value in judge(held_out, [decode(network, *one, float(kind != "own")) for one in those]).items()
    }


@torch.inference_mode()
def decode(network: Decoder, latents: Tensor, noise_variance: Tensor, foreign: float = 0.0) -> Tensor:
    """Return the pixels ``(n, 3, 8h, 8w)`` of latents, which are the embedded encoder's or foreign (1) to it."""
    return network(latents, noise_variance, torch.full_like(noise_variance, foreign)).clamp(-1, 1)


@torch.inference_mode()
def judge(held_out: list[Labelled], pictures: list[Tensor]) -> dict[str, float]:
    """Return PSNR, Laplacian energy over the original's, and texture distance of decoded pictures, as means."""
    rows = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for whole, decoded in zip(held_out, pictures, strict=True):
            photo = pixels(whole.photo)
            levels = zip(laplacian_pyramid(decoded, 3)[:3], laplacian_pyramid(photo, 3)[:3], strict=True)
            rows.append(
                {
                    "psnr": 10 * torch.log10(4 / (decoded - photo).square().mean()).item(),
                    "laplacian": (laplacian_energy(decoded) / laplacian_energy(photo)).item(),
                    "texture": 127.5 * sum(texture_distance(a, b, 64).item() for a, b in levels) / 3,
                }
            )
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def laplacian_energy(picture: Tensor) -> Tensor:
    luma = (picture * picture.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    kernel = picture.new_tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    return functional.conv2d(luma, kernel).square().mean()


if __name__ == "__main__":
    main()
