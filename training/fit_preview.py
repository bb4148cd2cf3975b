"""Fit the linear map from latents to a quarter of the picture, and print it as ``pipeline/preview.py`` holds it.

    python -m training.fit_preview PHOTOS TEACHER

It is fitted to latents as they are and, as often, as the codec ``context`` brings them back, at any of its steps. The
package's map is older: it was fitted to latents as they are, of other photographs. On those held out here it is 0.1 dB
better than this one, even at the coarsest step, and so was kept.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from rich.progress import track

from pillow_sdc.format.codecs import ContextCodec
from pillow_sdc.pipeline.preview import REACH, SIDE, WEIGHTS

from .labelled import STEPS
from .photographs import PIXELS_PER_LATENT, pixels, read_photos, split
from .teacher import Teacher

Pair = tuple[NDArray[np.float32], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("teacher", type=Path)
    arguments = parser.parse_args()
    teacher = Teacher(arguments.teacher, torch.device("cpu"))

    codec, random = ContextCodec(), np.random.default_rng(0)

    def pairs(photo: NDArray[np.uint8], step: int) -> tuple[Pair, Pair]:
        latents, wanted = teacher.encode(pixels(photo[None]))[0].numpy(), means(photo)
        coarse = codec.reconstruct_with_step(latents, step).latents
        return (windows(latents), wanted), (windows(coarse), wanted)

    training, held_out = split(read_photos(arguments.photos))
    inputs = 4 * (2 * REACH + 1) ** 2 + 1
    squares, products = np.zeros((inputs, inputs)), np.zeros((inputs, SIDE * SIDE * 3))
    for photo in track(training):
        for latents, wanted in pairs(photo, round(math.exp(random.uniform(*np.log(STEPS))))):
            squares += latents.T @ latents
            products += latents.T @ wanted
    solution = np.linalg.solve(squares, products)
    with np.printoptions(precision=4, suppress=True, floatmode="fixed", sign=" ", linewidth=120, threshold=100_000):
        print(repr(solution))
    of_held_out = [pairs(photo, STEPS[1]) for photo in held_out]
    for which, chosen in (("as they are", 0), ("at the coarsest step", 1)):
        for name, weights in (("this map", solution), ("the package's", WEIGHTS)):
            results = [(latents @ weights, wanted) for latents, wanted in (both[chosen] for both in of_held_out)]
            quarters = np.mean([psnr(decoded, wanted) for decoded, wanted in results])
            whole = np.mean([psnr(of_squares(decoded), of_squares(wanted)) for decoded, wanted in results])
            print(f"held out, latents {which}, {name}: {quarters:.2f} dB from quarters, {whole:.2f} dB from squares")


def psnr(decoded: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(10 * np.log10(4 / np.mean((decoded.clip(-1, 1) - wanted) ** 2)))


def of_squares(quarters: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the means ``(n, 3)`` of what is given for the quarters of squares, ``(n, 12)``."""
    return quarters.reshape(len(quarters), -1, 3).mean(1)


def windows(latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what the map sees at each place, ``(n, 37)``: channel, row and column of its window, and a constant."""
    padded = np.pad(latents, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")
    side = 2 * REACH + 1
    seen = sliding_window_view(padded, (side, side), (1, 2)).transpose(1, 2, 0, 3, 4)
    seen = seen.reshape(latents[0].size, -1)
    return np.hstack([seen, np.ones((len(seen), 1), np.float32)])


def means(photo: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean pixels, in [−1, 1], of a latent's squares, ``(n, 12)``: row, column and colour."""
    height, width = (length // PIXELS_PER_LATENT for length in photo.shape[:2])
    pixels_of_one = PIXELS_PER_LATENT // SIDE
    means = photo.reshape(height * SIDE, pixels_of_one, width * SIDE, pixels_of_one, 3).mean((1, 3), np.float32)
    means = means.reshape(height, SIDE, width, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return means.reshape(height * width, -1) / 127.5 - 1


if __name__ == "__main__":
    main()
