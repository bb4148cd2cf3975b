"""The palette codec's estimate of its noise variance over the true one, for palette sizes and dithering strengths.

python benchmarks/noise_variance.py FOLDER --model DIRECTORY_OR_HUB_ID
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.format.codecs import PaletteCodec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    pillow_sdc.configure(model=arguments.model)
    pictures = []
    for path in sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"}):
        with Image.open(path) as photo:
            pictures.append(pillow_sdc.encode_latents(photo.convert("RGB")))

    table = Table("entries", "dither", "true, mean", "estimate / true: least", "mean", "most")
    for size in (16, 64, 256):
        for strength in (0.0, 0.5, 1.0):
            true, estimated = [], []
            for latents in pictures:
                codec = PaletteCodec(size, strength)
                decoded = codec.decode(codec.encode(latents), *latents.shape[1:])
                true.append(float(np.mean((decoded.latents - latents) ** 2)))
                estimated.append(decoded.noise_variance)
            ratios = np.array(estimated) / true
            row = (f"{np.mean(true):.4f}", f"{ratios.min():.2f}", f"{ratios.mean():.2f}", f"{ratios.max():.2f}")
            table.add_row(str(size), str(strength), *row)
    Console().print(table)


if __name__ == "__main__":
    main()
