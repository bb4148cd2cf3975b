"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PHOTOS TEACHER RUN [--steps N]

Like the encoder it sees altered copies of the photographs, which the teacher encodes and decodes on the way.
"""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Source:
    """Crops of one size.

    Attributes:
        side: Of a crop, in latents.
        drawn: Crops of a step.
        together: Crops that are labelled together.
        every: Steps between new crops: to label one costs more than a step.
        kept: Crops in the pool.
    """

    side: int
    drawn: int
    together: int
    every: int
    kept: int


SOURCES = Source(SIDE, 6, TOGETHER, 24, 1200), Source(40, 2, 4, 14, 400)
"""Steps take crops of these in turns. Only large ones have an inside that sees no edge, as pictures have."""

OWN = 0.3
"""Share of the crops that the embedded encoder encodes, whose latents are smoother, in place of the teacher."""

DYED = 0.6
"""Share of the crops in other colours; without it purple cloth and deep blue were wrong by ten levels and more."""

SQUARES_WEIGHT, SQUARES_FROM = 0.45, 0.002
SHADE_WEIGHT, SHADE_FROM, SHADE_LEVELS = 0.15, 0.0004, (3, 4)
"""Levels whose squares are judged apart: what is wrong there is seen in smooth pictures, and little beside detail."""
TEACHER_WEIGHTS = (2.0, 1.0, 1.0, 1.0, 2.0)
TEXTURE_WEIGHT = 1.1
CONTRAST = 0.5
"""Weight of contrast, over that of texture."""
GRID_WEIGHT = 4.0
TEXTURE_FROM, TEXTURE_TO = 0.2, 0.5
"""Shares of the run between which the weight of texture grows, from a sixth of it: first right, then sharp."""


def texture_weight(progress: float) -> float:
    return TEXTURE_WEIGHT * float(np.interp(progress, (TEXTURE_FROM, TEXTURE_TO), (1 / 6, 1)))


def relative_squares(decoded: Tensor, photo: Tensor, by_teacher: Tensor, start: float = SQUARES_FROM) -> Tensor:
    """Return the squared error over the teacher's, picture by picture, as PSNR, a mean of logarithms, weighs them.

    Without it smooth pictures, whose errors are small but seen, hardly count. ``start`` is added to the teacher's.
    """
    ours, teachers = ((picture - photo).square().mean((1, 2, 3)) for picture in (decoded, by_teacher))
    return (ours / (teachers + start)).mean()


def main() -> None:
    run = Run(Decoder, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher, embedded_encode = Teacher(arguments.teacher), embedded_encoder()
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [label_photograph(photo, teacher) for photo in held_out_photos]
    own = [embedded_encode(pixels(photo[None]))[0].numpy() for photo in held_out_photos]
    photos = {source: AlteredCrops(training, source.side, run.random, dyed=DYED) for source in SOURCES}
    pools = {source: Pool[tuple[Labelled, NDArray[np.uint8]]](run.random, source.kept) for source in SOURCES}

    def label(source: Source) -> None:
        encode = embedded_encode if run.random.random() < OWN else teacher.encode
        crops = label_crops(photos[source].draw(source.together), encode, run.random)
        decoded = teacher.decode(torch.stack([torch.from_numpy(crop.latents) for crop in crops]))
        pools[source].add(zip(crops, samples(decoded), strict=True))

    for source in SOURCES:
        label(source)

    def losses() -> dict[str, Tensor]:
        for source in SOURCES:
            if run.step % source.every == 0:
                label(source)
        source = SOURCES[run.step % len(SOURCES)]
        crops, by_teacher = zip(*pools[source].draw(source.drawn), strict=True)
        latents, noise_variance = noisy_batch(crops, run.random)
        with mixed_precision():
            decoded = run.network(latents, noise_variance)
        # Judged up to the edges, so that those of pictures are good too.
        photo, target = pixels(np.stack([crop.photo for crop in crops])), pixels(np.stack(by_teacher))
        decoded = decoded.float()
        pyramid, original, teachers = (laplacian_pyramid(pictures) for pictures in (decoded, photo, target))
        texture = [
            texture_distance(pyramid[0], original[0], 16, 3, 2),
            texture_distance(pyramid[1], original[1], 16, 2, 2),
            texture_distance(pyramid[2], original[2], 16, 2, 1),
        ]
        weight = texture_weight(run.progress)
        shade = [relative_squares(pyramid[i], original[i], teachers[i], SHADE_FROM) for i in SHADE_LEVELS]
        return {
            "shade": SHADE_WEIGHT * torch.stack(shade).sum(),
            "squares": SQUARES_WEIGHT * relative_squares(decoded, photo, target),
            "teacher": closeness(pyramid, teachers, TEACHER_WEIGHTS),
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
