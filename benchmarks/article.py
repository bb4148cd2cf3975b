"""The article's codecs on a folder of photographs: bytes, latent error and PSNR, whole files counted.

    python benchmarks/article.py FOLDER --model DIRECTORY_OR_HUB_ID

Metadata are stripped, so that bytes are those of the pictures. The row "float" is the autoencoder's own round trip.
"""

import argparse
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc import container
from pillow_sdc.image_codec import decode_samples
from pillow_sdc.models import get_models

CODECS = {
    "palette": {},
    "palette, dither 0": {"dither": 0},
    "palette, 64 entries": {"palette_size": 64},
    "uint8": {"codec": "uint8"},
}


class Score(NamedTuple):
    bytes: float
    latent_mse: float
    psnr: float


def psnr(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of 8-bit samples in decibels."""
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second.astype(float)) ** 2)))


def mean(scores: Iterable[Score]) -> Score:
    return Score(*np.mean(list(scores), axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    pillow_sdc.configure(model=arguments.model, denoise_steps=0)
    models = get_models(pillow_sdc.settings())

    scores: dict[str, list[Score]] = {name: [] for name in ("float", *CODECS)}
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    for path in paths:
        with Image.open(path) as photo:
            samples = np.asarray(photo.convert("RGB"))
        latents = pillow_sdc.encode_latents(samples)
        header = container.Header(samples.shape[1], samples.shape[0], "RGB", "uint8")
        scores["float"].append(Score(latents.nbytes, 0, psnr(samples, decode_samples(latents, header, models))))
        for name, options in CODECS.items():
            file = io.BytesIO()
            Image.fromarray(samples).save(file, "SDC", **options)
            error = float(np.mean((pillow_sdc.read_latents(file.getvalue()) - latents) ** 2))
            decoded = np.asarray(Image.open(file))
            scores[name].append(Score(len(file.getvalue()), error, psnr(samples, decoded)))

    table = Table("codec", "bytes", "latent MSE", "PSNR, dB", title=f"means over {len(paths)} photographs")
    for name, values in scores.items():
        score = mean(values)
        table.add_row(name, f"{score.bytes:,.0f}", f"{score.latent_mse:.5f}", f"{score.psnr:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
