"""Run the teacher's encoder over a folder of photographs once, and keep the latents.

    python -m training.prepare PHOTOS TEACHER OUT [--part I/N]

PHOTOS is a folder of pictures, TEACHER a diffusers directory of an AutoencoderTiny of SD v1's latent space. For each
photograph OUT gets a ``.npz``; ``training.crops`` says what is in it. Existing files are kept, so that a run that was
cut off goes on; ``--part 1/2`` and ``--part 2/2`` share the work.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from .crops import photograph_paths, pixels, read_photo
from .teacher import Teacher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("teacher", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", default="1/1", metavar="I/N")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    part, parts = map(int, arguments.part.split("/"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    teacher = Teacher(arguments.teacher)

    for path in track(photograph_paths(arguments.photos)[part - 1 :: parts]):
        target = arguments.out / f"{path.stem}.npz"
        if target.exists():
            continue
        photo = read_photo(path)
        latents = teacher.encode(pixels(photo[None]))
        partial = target.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(file, photo=photo, latents=latents[0].numpy())
        partial.replace(target)


if __name__ == "__main__":
    main()
