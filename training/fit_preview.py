"""Fit the linear map from latents to an eighth of the picture, and print it as ``pillow_sdc.preview`` holds it.

python -m training.fit_preview PHOTOS TEACHER
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from .photographs import PIXELS_PER_LATENT, pixels, read_photos, split
from .teacher import Teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("teacher", type=Path)
    arguments = parser.parse_args()
    teacher = Teacher(arguments.teacher)
    pairs = [
        flattened(teacher.encode(pixels(photo[None]))[0].numpy(), photo)
        for photo in track(read_photos(arguments.photos))
    ]
    training, held_out = split(pairs)
    latents, means = zip(*training, strict=True)
    solution, *_ = np.linalg.lstsq(np.concatenate(latents), np.concatenate(means), rcond=None)
    print("weights", np.array2string(solution[:4].T, precision=4, separator=", "))
    print("offset", np.array2string(solution[4], precision=4, separator=", "))
    errors = [np.mean((values @ solution - mean) ** 2) for values, mean in held_out]
    print(f"held out: {np.mean([10 * np.log10(4 / error) for error in errors]):.2f} dB")


def flattened(latents: np.ndarray, photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return latents and a constant, ``(n, 5)``, and the mean pixels of their squares, in [−1, 1], ``(n, 3)``."""
    _, rows, columns = latents.shape
    squares = photo.reshape(rows, PIXELS_PER_LATENT, columns, PIXELS_PER_LATENT, 3).mean(axis=(1, 3)) / 127.5 - 1
    values = latents.reshape(4, -1).T.astype(np.float64)
    return np.hstack([values, np.ones((len(values), 1))]), squares.reshape(-1, 3)


if __name__ == "__main__":
    main()
