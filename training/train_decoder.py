"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PHOTOS TEACHER RUN [--steps N]

Like the encoder it sees altered copies of the photographs, which the teacher encodes and decodes on the way.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pillow_sdc.latent_codecs import QuantisedLatents
from pillow_sdc.models.compact_networks import Decoder

from .labelled import SIDE, TOGETHER, Labelled, Pool, label_crops, label_photograph, noisy_batch
from .losses import closeness, contrast_distance, grid_distance, laplacian_pyramid, texture_distance
from .photographs import AlteredCrops, pixels, read_photos, samples, split
from .precision import mixed_precision
from .running import Run, parser
from .teacher import Teacher, embedded_encoder

CROPS, FIRST = 6, 4
NEW_EVERY = 2 * TOGETHER
"""Steps between new crops: to label one costs more than a step."""

OWN = 0.4
"""Share of the crops that the embedded encoder encodes, whose latents are smoother, in place of the teacher."""

SQUARES_WEIGHT, SQUARES_FROM = 0.3, 0.002
TEACHER_WEIGHTS = (2.0, 1.0, 0.5)
TEXTURE_WEIGHT = 1.2
CONTRAST = 0.5
"""Weight of contrast, over that of texture."""
GRID_WEIGHT = 4.0
TEXTURE_FROM, TEXTURE_TO = 0.2, 0.5
"""Shares of the run between which the weight of texture grows, from a sixth of it: first right, then sharp."""


def texture_weight(progress: float) -> float:
    return TEXTURE_WEIGHT * float(np.interp(progress, (TEXTURE_FROM, TEXTURE_TO), (1 / 6, 1)))


def relative_squares(decoded: Tensor, photo: Tensor, by_teacher: Tensor) -> Tensor:
    """Return the squared error over the teacher's, picture by picture, as PSNR, a mean of logarithms, weighs them.

    Without it smooth pictures, whose errors are small but seen, hardly count.
    """
    ours, teachers = ((picture - photo).square().mean((1, 2, 3)) for picture in (decoded, by_teacher))
    return (ours / (teachers + SQUARES_FROM)).mean()


def main() -> None:
    run = Run(Decoder, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher, embedded_encode = Teacher(arguments.teacher), embedded_encoder()
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [label_photograph(photo, teacher) for photo in held_out_photos]
    own = [embedded_encode(pixels(photo[None]))[0].numpy() for photo in held_out_photos]
    photos = AlteredCrops(training, SIDE, run.random)
    pool = Pool[tuple[Labelled, NDArray[np.uint8]]](run.random)

    def label() -> None:
        encode = embedded_encode if run.random.random() < OWN else teacher.encode
        crops = label_crops(photos.draw(TOGETHER), encode, run.random)
        decoded = teacher.decode(torch.stack([torch.from_numpy(crop.latents) for crop in crops]))
        pool.add(zip(crops, samples(decoded), strict=True))

    for _ in range(FIRST):
        label()

    def losses() -> dict[str, Tensor]:
        if run.step % NEW_EVERY == 0:
            label()
        crops, by_teacher = zip(*pool.draw(CROPS), strict=True)
        latents, noise_variance = noisy_batch(crops, run.random)
        with mixed_precision():
            decoded = run.network(latents, noise_variance)
        # Judged up to the edges, so that those of pictures are good too.
        photo, target = pixels(np.stack([crop.photo for crop in crops])), pixels(np.stack(by_teacher))
        decoded = decoded.float()
        pyramid, original = laplacian_pyramid(decoded), laplacian_pyramid(photo)
        texture = [
            texture_distance(pyramid[0], original[0], 16, 3, 2),
            texture_distance(pyramid[1], original[1], 16, 2, 2),
            texture_distance(pyramid[2], original[2], 16, 2, 1),
        ]
        weight = texture_weight(run.progress)
        return {
            "squares": SQUARES_WEIGHT * relative_squares(decoded, photo, target),
            "teacher": closeness(pyramid, laplacian_pyramid(target, 3), TEACHER_WEIGHTS),
            "texture": weight * torch.stack(texture).sum(),
            "contrast": CONTRAST * weight * contrast_distance(pyramid, original),
            "grid": GRID_WEIGHT * grid_distance(pyramid[0], original[0]),
        }

    def evaluate() -> dict[str, float]:
        figures = {}
        for name, inputs in (
            ("clean", [QuantisedLatents(whole.latents, 0.0) for whole in held_out]),
            ("palette", [whole.palette for whole in held_out]),
            ("context", [whole.context for whole in held_out]),
            ("own", [QuantisedLatents(latents, 0.0) for latents in own]),
        ):
            judged = judge(held_out_photos, [decode(run.average, quantised) for quantised in inputs])
            figures |= {f"{name}_{figure}": value for figure, value in judged.items()}
        return figures

    by_teacher = [teacher.decode(torch.from_numpy(whole.latents)[None]) for whole in held_out]
    print("teacher", judge(held_out_photos, by_teacher), flush=True)
    run.train(losses, evaluate, evaluate_every=500)


def decode(network: Decoder, quantised: QuantisedLatents) -> Tensor:
    """Return the pixels ``(1, 3, 8h, 8w)`` of latents ``(4, h, w)``."""
    with torch.inference_mode():
        batch = torch.from_numpy(quantised.latents)[None]
        return network(batch, torch.tensor([quantised.noise_variance], dtype=torch.float32)).clamp(-1, 1)


def judge(photos: list[NDArray[np.uint8]], pictures: list[Tensor]) -> dict[str, float]:
    """Return PSNR, Laplacian energy over the original's, and texture distance of decoded pictures, as means."""
    torch.manual_seed(0)
    rows = []
    for photo, decoded in zip(photos, pictures, strict=True):
        original = pixels(photo[None])
        levels = zip(laplacian_pyramid(decoded, 3)[:3], laplacian_pyramid(original, 3)[:3], strict=True)
        rows.append(
            {
                "psnr": 10 * torch.log10(4 / (decoded - original).square().mean()).item(),
                "laplacian": (laplacian_energy(decoded) / laplacian_energy(original)).item(),
                "texture": 127.5 * sum(texture_distance(a, b, 64).item() for a, b in levels) / 3,
            }
        )
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def laplacian_energy(picture: Tensor) -> Tensor:
    luma = (picture * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    kernel = torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])
    return functional.conv2d(luma, kernel).square().mean()


if __name__ == "__main__":
    main()
