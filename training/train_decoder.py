"""Train the decoder to bring photographs back from the teacher's latents, clean and with quantisation noise.

    python -m training.train_decoder PREPARED RUN [--steps N]

PREPARED is what ``training.prepare`` and ``training.quantise`` have made.
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pillow_sdc.models.compact_networks import Decoder

from .crops import PIXELS_PER_LATENT, Photograph, crops, load, noisy_batch, pixels
from .losses import closeness, contrast_distance, laplacian_pyramid, texture_distance
from .running import Run, parser

CROPS = 6
SIDE = 24
PHOTO_WEIGHTS = (0.5, 1.0, 2.0, 4.0, 4.0)
TEACHER_WEIGHTS = (2.0, 1.0, 0.5)
SQUARES_WEIGHT = 4.0
TEXTURE_WEIGHT = 3.0
CONTRAST = 0.55
"""Weight of contrast, over that of texture."""
TEXTURE_FROM, TEXTURE_TO = 0.3, 0.7
"""Shares of the run between which the weight of texture grows, from a sixth of it: first right, then sharp."""


def texture_weight(progress: float) -> float:
    return TEXTURE_WEIGHT * float(np.interp(progress, (TEXTURE_FROM, TEXTURE_TO), (1 / 6, 1)))


def main() -> None:
    run = Run(Decoder, arguments := parser(__doc__, steps=20_000).parse_args())
    training, held_out = load(arguments.data)
    chosen = crops(training, CROPS, SIDE, run.random)

    def losses() -> dict[str, Tensor]:
        batch = next(chosen)
        latents, noise_variance = noisy_batch(batch, run.random)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = run.network(latents, noise_variance)
        # Judged up to the edges, so that those of pictures are good too.
        photo, teacher = (
            pixels(np.stack([crop.cut(getattr(crop.photograph, name), PIXELS_PER_LATENT) for crop in batch]))
            for name in ("photo", "decoded")
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
            "teacher": closeness(pyramid, laplacian_pyramid(teacher, 3), TEACHER_WEIGHTS),
            "texture": weight * torch.stack(texture).sum(),
            "contrast": CONTRAST * weight * contrast_distance(pyramid, original),
        }

    teacher = judge(held_out, lambda photograph: pixels(photograph.decoded[None]))

    def evaluate() -> dict[str, float]:
        clean = judge(held_out, lambda p: decode(run.average, p.latents, 0.0))
        noisy = judge(held_out, lambda p: decode(run.average, p.quantised[0], p.noise_variance[0]))
        return {f"clean_{name}": value for name, value in clean.items()} | {
            f"palette_{name}": value for name, value in noisy.items()
        }

    print("teacher", teacher, flush=True)
    run.train(losses, evaluate, evaluate_every=250)


def decode(network: Decoder, latents: NDArray[np.floating], noise_variance: float) -> Tensor:
    """Return the pixels ``(1, 3, 8h, 8w)`` of latents ``(4, h, w)``."""
    with torch.inference_mode():
        batch = torch.from_numpy(latents.astype(np.float32))[None]
        return network(batch, torch.tensor([noise_variance], dtype=torch.float32)).clamp(-1, 1)


def judge(photographs: list[Photograph], decode: Callable[[Photograph], Tensor]) -> dict[str, float]:
    """Return PSNR, Laplacian energy over the original's, and texture distance of decoded pictures, as means."""
    torch.manual_seed(0)
    rows = []
    for photograph in photographs:
        decoded, original = decode(photograph), pixels(photograph.photo[None])
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
