"""A PyTorch DataLoader over a folder of .sdc files: first the pictures, then the latents.

    python examples/data_loader.py [FOLDER]

``PhotoFolder`` is the dataset of any tutorial; it knows nothing of SDC. ``LatentFolder`` skips the decoder: latent
diffusion trains on latents, and those are what the files hold. Both work in worker processes.

The model is the one that PILLOW_SDC_MODEL names, else the one that comes with the package.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from skimage.data import astronaut
from torch.utils.data import DataLoader, Dataset

import pillow_sdc

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
CROPS, SIDE = 8, 256


class PhotoFolder(Dataset[torch.Tensor]):
    """Pictures as float32 (3, height, width) from 0 to 1."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self.paths = sorted(folder.glob(pattern))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            return torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1) / 255


class LatentFolder(PhotoFolder):
    """Latents as float32 (4, height / 8, width / 8), scaled as Stable Diffusion's U-Net wants them."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(pillow_sdc.read_latents(self.paths[index]))


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"]) / "crops"
    out.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(astronaut())
    corners = np.random.default_rng(0).integers(0, photo.width - SIDE + 1, (CROPS, 2)).tolist()
    for number, (left, top) in enumerate(corners):
        photo.crop((left, top, left + SIDE, top + SIDE)).save(out / f"{number}.sdc")
    size = sum(path.stat().st_size for path in out.glob("*.sdc"))
    print(f"{out}: {CROPS} files of {SIDE}×{SIDE} pixels, {size:,} bytes")

    for dataset in (PhotoFolder(out, "*.sdc"), LatentFolder(out, "*.sdc")):
        start = time.perf_counter()
        for batch in DataLoader(dataset, batch_size=4, num_workers=1):
            mean, deviation = batch.mean().item(), batch.std().item()
            print(f"{type(dataset).__name__:12} {tuple(batch.shape)}, mean {mean:+.3f}, deviation {deviation:.3f}")
        print(f"{'':12} {time.perf_counter() - start:.1f} seconds, start of the worker included")


if __name__ == "__main__":
    main()
