"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PHOTOS RUN --teacher TEACHER [--steps N]

Like the encoder it sees altered copies of the photographs, which the teacher encodes and decodes on the way.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pillow_sdc.latent_codecs import PaletteCodec
from pillow_sdc.models.compact_networks import Decoder

from .crops import Crop, Photograph, noisy_batch, photograph_paths, pixels, read_photo, split
from .labelled import AlteredCrops, Pool
from .losses import closeness, contrast_distance, laplacian_pyramid, texture_distance
from .running import Run, parser
from .teacher import Teacher

CROPS = 6
SIDE = 24
Example = tuple[Photograph, NDArray[np.uint8]]
"""What the palette codec makes of the latents of a photograph or crop, and the teacher's picture of its latents."""

ACROSS = 3
"""Crops are labelled as a square of so many on a side: a palette is of as many latents as in a picture."""
FIRST = 8
PALETTES = (PaletteCodec(), PaletteCodec(), PaletteCodec(dither=0.0))
PHOTO_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 4.0)
TEACHER_WEIGHTS = (2.0, 1.0, 0.5)
SQUARES_WEIGHT = 4.0
TEXTURE_WEIGHT = 1.5
CONTRAST = 0.55
"""Weight of contrast, over that of texture."""
TEXTURE_FROM, TEXTURE_TO = 0.3, 0.7
"""Shares of the run between which the weight of texture grows, from a sixth of it: first right, then sharp."""


def texture_weight(progress: float) -> float:
    return TEXTURE_WEIGHT * float(np.interp(progress, (TEXTURE_FROM, TEXTURE_TO), (1 / 6, 1)))


def labelled(photos: NDArray[np.uint8], teacher: Teacher, random: np.random.Generator) -> list[Example]:
    """Label crops ``(9, 192, 192, 3)``."""
    latents = teacher.encode(pixels(photos))
    mosaic = latents.numpy().reshape(ACROSS, ACROSS, -1, SIDE, SIDE).transpose(2, 0, 3, 1, 4)
    side = ACROSS * SIDE
    codec = PALETTES[random.integers(len(PALETTES))]
    quantised = codec.decode(codec.encode(mosaic.reshape(-1, side, side)), side, side)
    tiles = quantised.latents.reshape(mosaic.shape).transpose(1, 3, 0, 2, 4).reshape(latents.shape)
    noise_variance = np.array([quantised.noise_variance], np.float32)
    return [
        (Photograph(photo, array, tile[None], noise_variance), decoded)
        for photo, array, tile, decoded in zip(
            photos, latents.numpy(), tiles, samples(teacher.decode(latents)), strict=True
        )
    ]


def labelled_whole(photo: NDArray[np.uint8], teacher: Teacher) -> Example:
    """Label a photograph."""
    latents = teacher.encode(pixels(photo[None]))
    array = latents[0].numpy()
    quantised = PaletteCodec.decode(PaletteCodec().encode(array), *array.shape[1:])
    noise_variance = np.array([quantised.noise_variance], np.float32)
    return Photograph(photo, array, quantised.latents[None], noise_variance), samples(teacher.decode(latents))[0]


def samples(decoded: Tensor) -> NDArray[np.uint8]:
    """Return pixels ``(n, 3, h, w)`` in [−1, 1] as samples ``(n, h, w, 3)``."""
    return ((decoded + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def main() -> None:
    arguments_parser = parser(__doc__, steps=12_000)
    arguments_parser.add_argument("--teacher", type=Path, required=True)
    arguments = arguments_parser.parse_args()
    run = Run(Decoder, arguments)
    teacher = Teacher(arguments.teacher)
    training, held_out_photos = split([read_photo(path) for path in photograph_paths(arguments.data)])
    held_out = [labelled_whole(photo, teacher) for photo in held_out_photos]
    photos = AlteredCrops(training, SIDE, run.random)
    pool = Pool[Example](run.random)
    together = ACROSS**2
    for _ in range(FIRST):
        pool.add(labelled(photos.draw(together), teacher, run.random))

    def losses() -> dict[str, Tensor]:
        if run.step % together == 0:
            pool.add(labelled(photos.draw(together), teacher, run.random))
        photographs, decoded_by_teacher = zip(*pool.draw(CROPS), strict=True)
        latents, noise_variance = noisy_batch([Crop(whole, 0, 0, SIDE) for whole in photographs], run.random)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = run.network(latents, noise_variance)
        # Judged up to the edges, so that those of pictures are good too.
        photo, target = (
            pixels(np.stack(squares)) for squares in ([whole.photo for whole in photographs], decoded_by_teacher)
        )
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
        }

    originals = [photograph.photo for photograph, _ in held_out]

    def evaluate() -> dict[str, float]:
        clean = judge(originals, [decode(run.average, p.latents, 0.0) for p, _ in held_out])
        noisy = judge(originals, [decode(run.average, p.quantised[0], p.noise_variance[0]) for p, _ in held_out])
        return {f"clean_{name}": value for name, value in clean.items()} | {
            f"palette_{name}": value for name, value in noisy.items()
        }

    print("teacher", judge(originals, [pixels(decoded[None]) for _, decoded in held_out]), flush=True)
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
