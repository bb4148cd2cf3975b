"""Put the teacher's latents of prepared photographs through the palette codec, so that decoders learn its noise.

    python -m training.quantise PREPARED [--part I/N]

Beside each ``NAME.npz`` goes a ``NAME.quantised`` with what ``training.crops`` says of it. The photographs are smaller
than those that a palette of 256 serves, so that smaller palettes stand for the noise of larger pictures.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.progress import track

from pillow_sdc.latent_codecs.palette import PaletteCodec

VERSIONS = (PaletteCodec(256), PaletteCodec(176), PaletteCodec(96), PaletteCodec(192, dither=0.0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--part", default="1/1", metavar="I/N")
    arguments = parser.parse_args()
    part, parts = map(int, arguments.part.split("/"))
    for path in track(sorted(arguments.prepared.glob("*.npz"))[part - 1 :: parts]):
        target = path.with_suffix(".quantised")
        if target.exists():
            continue
        with np.load(path) as arrays:
            latents = arrays["latents"]
        versions = [codec.decode(codec.encode(latents), *latents.shape[1:]) for codec in VERSIONS]
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            np.savez(
                file,
                quantised=np.stack([version.latents for version in versions]).astype(np.float16),
                noise_variance=np.array([version.noise_variance for version in versions], np.float32),
            )
        partial.replace(target)


if __name__ == "__main__":
    main()
