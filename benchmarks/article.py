"""The article's codecs on a folder of photographs, and Pillow's own formats at the same bytes.

    python benchmarks/article.py FOLDER --model DIRECTORY_OR_HUB_ID

Whole files are counted; metadata are stripped, so that bytes are those of the pictures. The row "float" is the
autoencoder's own round trip. Laplacian energy is over the original's. JPEG, WebP and AVIF files are those of the
highest quality that takes no more bytes than the palette codec's file, or of the lowest where that takes more.
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
from pillow_sdc.report.metrics import laplacian_ratio, psnr
from pillow_sdc.report.peers import AVIF, JPEG, WEBP, PeerEncoder, decode

CODECS = {
    "palette": {},
    "palette, dither 0": {"dither": 0},
    "palette, 64 entries": {"palette_size": 64},
    "uint8": {"codec": "uint8"},
}
PEERS = {peer.label: peer for peer in (JPEG, WEBP, AVIF)}


class Score(NamedTuple):
    bytes: float
    latent_mse: float
    psnr: float
    laplacian_ratio: float


def score(original: NDArray[np.uint8], decoded: NDArray[np.uint8], size: int, latent_mse: float) -> Score:
    return Score(size, latent_mse, psnr(original, decoded), laplacian_ratio(original, decoded))


def mean(scores: Iterable[Score]) -> Score:
    return Score(*np.mean(list(scores), axis=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    pillow_sdc.configure(model=arguments.model, denoise_steps=0)

    scores: dict[str, list[Score]] = {name: [] for name in ("float", *CODECS, *PEERS)}
    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    for path in paths:
        with Image.open(path) as photo:
            samples = np.asarray(photo.convert("RGB"))
        latents = pillow_sdc.encode_latents(samples)
        height, width = samples.shape[:2]
        decoded = np.asarray(pillow_sdc.decode_latents(latents, size=(width, height)))
        scores["float"].append(score(samples, decoded, latents.nbytes, 0))
        for name, options in CODECS.items():
            file = io.BytesIO()
            Image.fromarray(samples).save(file, "SDC", **options)
            error = float(np.mean((pillow_sdc.read_latents(file.getvalue()) - latents) ** 2))
            scores[name].append(score(samples, np.asarray(Image.open(file)), len(file.getvalue()), error))
        for name, peer in PEERS.items():
            data = PeerEncoder(peer, samples).best_within(int(scores["palette"][-1].bytes)).data
            scores[name].append(score(samples, decode(data), len(data), np.nan))

    table = Table(
        "codec", "bytes", "latent MSE", "PSNR, dB", "Laplacian energy", title=f"means over {len(paths)} photographs"
    )
    for name, values in scores.items():
        means = mean(values)
        latent_mse = "" if np.isnan(means.latent_mse) else f"{means.latent_mse:.5f}"
        table.add_row(name, f"{means.bytes:,.0f}", latent_mse, f"{means.psnr:.2f}", f"{means.laplacian_ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
