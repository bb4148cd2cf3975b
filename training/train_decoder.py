"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PHOTOS TEACHER RUN [--steps N]

Like the encoder it sees altered copies of the photographs, which the teacher encodes and decodes on the way.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pillow_sdc.models.compact_networks import Decoder

from .labelled import SIDE, TOGETHER, Labelled, Pool, label_crops, label_photograph, noisy_batch
from .losses import closeness, contrast_distance, grid_distance, laplacian_pyramid, texture_distance
from .photographs import AlteredCrops, pixels, read_photos, samples, split
from .running import Run, parser
from .teacher import Teacher

CROPS, FIRST = 6, 8
PHOTO_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 4.0)
TEACHER_WEIGHTS = (2.0, 1.0, 0.5)
SQUARES_WEIGHT = 4.0
TEXTURE_WEIGHT = 1.5
CONTRAST = 0.55
"""Weight of contrast, over that of texture."""
GRID_WEIGHT = 4.0
TEXTURE_FROM, TEXTURE_TO = 0.3, 0.7
"""Shares of the run between which the weight of texture grows, from a sixth of it: first right, then sharp."""


def texture_weight(progress: float) -> float:
    return TEXTURE_WEIGHT * float(np.interp(progress, (TEXTURE_FROM, TEXTURE_TO), (1 / 6, 1)))


def main() -> None:
    run = Run(Decoder, arguments := parser(__doc__, steps=12_000).parse_args())
    teacher = Teacher(arguments.teacher)
    training, held_out_photos = split(read_photos(arguments.photos))
    held_out = [label_photograph(photo, teacher) for photo in held_out_photos]
    photos = AlteredCrops(training, SIDE, run.random)
    pool = Pool[tuple[Labelled, NDArray[np.uint8]]](run.random)

    def label() -> None:
        crops = label_crops(photos.draw(TOGETHER), teacher, run.random)
        decoded = teacher.decode(torch.stack([torch.from_numpy(crop.latents) for crop in crops]))
        pool.add(zip(crops, samples(decoded), strict=True))

    for _ in range(FIRST):
        label()

    def losses() -> dict[str, Tensor]:
        if run.step % TOGETHER == 0:
            label()
        crops, by_teacher = zip(*pool.draw(CROPS), strict=True)
        latents, noise_variance = noisy_batch(crops, run.random)
        with torch.autocast("cpu", torch.bfloat16):
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
            "squares": SQUARES_WEIGHT * (decoded - photo).square().mean(),
            "photo": closeness(pyramid, original, PHOTO_WEIGHTS),
            "teacher": closeness(pyramid, laplacian_pyramid(target, 3), TEACHER_WEIGHTS),
            "texture": weight * torch.stack(texture).sum(),
            "contrast": CONTRAST * weight * contrast_distance(pyramid, original),
            "grid": GRID_WEIGHT * grid_distance(pyramid[0], original[0]),
        }

    def evaluate() -> dict[str, float]:
        clean = judge(held_out_photos, [decode(run.average, whole.latents, 0.0) for whole in held_out])
        noisy = judge(
            held_out_photos, [decode(run.average, whole.quantised, whole.noise_variance) for whole in held_out]
        )
        return {f"clean_{name}": value for name, value in clean.items()} | {
            f"palette_{name}": value for name, value in noisy.items()
        }

    by_teacher = [teacher.decode(torch.from_numpy(whole.latents)[None]) for whole in held_out]
    print("teacher", judge(held_out_photos, by_teacher), flush=True)
    run.train(losses, evaluate, evaluate_every=500)


def decode(network: Decoder, latents: NDArray[np.floating], noise_variance: float) -> Tensor:
    """Return the pixels ``(1, 3, 8h, 8w)`` of latents ``(4, h, w)``."""
    with torch.inference_mode():
        batch = torch.from_numpy(latents.astype(np.float32))[None]
        return network(batch, torch.tensor([noise_variance], dtype=torch.float32)).clamp(-1, 1)


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
