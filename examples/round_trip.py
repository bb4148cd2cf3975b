"""Save every photograph of a folder as .sdc, open it again, and print what that cost.

    python examples/round_trip.py FOLDER --model DIRECTORY_OR_HUB_ID

The latents that the autoencoder makes of the photograph are compared with those that the file brings back, and the
photograph with the opened picture.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import pillow_sdc


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="auto", help="a diffusers directory or hub id of the SD v1 family")
    parser.add_argument("--codec", default="palette", choices=["palette", "context", "uint8"])
    arguments = parser.parse_args()
    pillow_sdc.configure(model=arguments.model)

    print(f"{'photograph':24} {'bytes':>8} {'latent MSE':>11} {'PSNR, dB':>9}")
    totals = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(arguments.folder.iterdir()):
            if path.suffix.lower() not in {".png", ".jpg", ".jpeg", ".webp"}:
                continue
            photo = Image.open(path).convert("RGB")
            photo.info.clear()  # a colour profile would be stored too
            latents = pillow_sdc.encode_latents(photo)
            compressed = Path(folder, "photo.sdc")
            photo.save(compressed, codec=arguments.codec)
            latent_error = np.mean((pillow_sdc.read_latents(compressed) - latents) ** 2)
            with Image.open(compressed) as opened:
                error = np.mean((np.asarray(photo, float) - np.asarray(opened, float)) ** 2)
            row = compressed.stat().st_size, float(latent_error), float(10 * np.log10(255**2 / error))
            totals.append(row)
            print(f"{path.name:24} {row[0]:8,} {row[1]:11.4f} {row[2]:9.2f}")
    means = np.mean(totals, axis=0)
    print(f"{'mean':24} {means[0]:8,.0f} {means[1]:11.4f} {means[2]:9.2f}")


if __name__ == "__main__":
    main()
