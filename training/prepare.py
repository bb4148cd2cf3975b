"""Run the teacher over a folder of photographs once, and keep what the trainings need.

    python -m training.prepare PHOTOS TEACHER OUT [--part I/N]

PHOTOS is a folder of pictures, TEACHER a diffusers directory of an AutoencoderTiny of SD v1's latent space. For each
photograph OUT gets a ``.npz`` and a ``.features``; ``training.crops`` says what is in them. Existing files are kept,
so that a run that was cut off goes on; ``--part 1/2`` and ``--part 2/2`` share the work.
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from torch import Tensor, nn

from .crops import PIXELS_PER_LATENT, pixels

SUFFIXES = {".png", ".webp", ".jpg"}


class Teacher:
    """An AutoencoderTiny, watched at the ends of its encoder's stages at a quarter and an eighth of the resolution."""

    def __init__(self, directory: Path) -> None:
        network = AutoencoderTiny.from_pretrained(directory, local_files_only=True)
        self._network = network.eval().to(memory_format=torch.channels_last)
        self._features: dict[str, Tensor] = {}
        layers = list(network.encoder.layers)
        stages = list(stage_ends(layers))
        for name, layer in zip(("eighth", "quarter"), (stages[-1], stages[-2]), strict=True):
            layer.register_forward_hook(lambda _, __, output, name=name: self._features.update({name: output}))

    @torch.inference_mode()
    def __call__(self, photo: NDArray[np.uint8]) -> dict[str, NDArray[np.generic]]:
        """Return latents, decoded picture and features of a photograph ``(8h, 8w, 3)``."""
        # bfloat16 is off by a mean square of 1e-4, far less than a student can learn, and twice as fast.
        with torch.autocast("cpu", torch.bfloat16):
            latents = self._network.encode(pixels(photo[None])).latents
            decoded = self._network.decode(latents).sample
        samples = ((decoded[0].float().clamp(-1, 1) + 1) * 127.5).round().byte()
        features = {name: value[0].permute(1, 2, 0).half().numpy() for name, value in self._features.items()}
        return {"latents": latents[0].float().numpy(), "decoded": samples.permute(1, 2, 0).numpy(), **features}


def stage_ends(layers: list[nn.Module]) -> Iterator[nn.Module]:
    """Yield the last block of each resolution: what stands before a convolution, except the first."""
    for block, following in pairwise(layers[1:]):
        if isinstance(following, nn.Conv2d):
            yield block


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

    paths = sorted(path for path in arguments.photos.iterdir() if path.suffix in SUFFIXES)
    for path in track(paths[part - 1 :: parts]):
        target = arguments.out / f"{path.stem}.npz"
        if target.exists():
            continue
        with Image.open(path) as picture:
            photo = np.array(picture.convert("RGB"))
        height, width = (length // PIXELS_PER_LATENT * PIXELS_PER_LATENT for length in photo.shape[:2])
        photo = photo[:height, :width]
        made = teacher(photo)
        features = {name: made.pop(name) for name in ("quarter", "eighth")}
        save(target.with_suffix(".features"), features)
        save(target, {"photo": photo, **made})


def save(path: Path, arrays: dict[str, NDArray[np.generic]]) -> None:
    """Write arrays in numpy's format, in one move."""
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **arrays)
    partial.replace(path)


if __name__ == "__main__":
    main()
