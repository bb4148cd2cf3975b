"""Photographs at equal bytes: by the embedded model, its files decoded by its teacher, and AVIF.

    python benchmarks/equal_bytes.py FOLDER --teacher DIRECTORY_OR_HUB_ID [--bytes 2000 3000] [--sheet PNG]
        [--against NETWORKS] [--record NAME:JSON]

The folder's photographs are cropped to squares of 512×512 pixels around their middle; smaller ones are left out. Files
of SDC are written with ``target_size``; of AVIF, at speed 4, that of the best quality that fits, if one does. Means are
over the photographs for which there is such a file; beside AVIF's are those of the embedded model for the same ones.
``--sheet`` writes the busiest detail of each photograph at 200 %: the original, and the first size's pictures in the
order of the table.
"""

import argparse
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from compact import DETAIL, Quality, busiest, networks_of
from PIL import Image, ImageOps
from record import keep, record_at
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pillow_sdc
from pillow_sdc.report.metrics import Samples
from pillow_sdc.report.peers import AVIF, PeerEncoder

SIDE = 512
SUFFIXES = {".png", ".webp", ".jpg", ".jpeg"}


def photographs(folder: Path) -> list[Samples]:
    found = []
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES):
        with Image.open(path) as photo:
            if min(photo.size) >= SIDE:
                found.append(np.asarray(ImageOps.fit(photo.convert("RGB"), (SIDE, SIDE), centering=(0.5, 0.5))))
    return found


def best_avif(photo: Samples, most: int) -> bytes | None:
    """Return the AVIF file of the best quality that has no more bytes."""
    best = PeerEncoder(AVIF, photo).best_within(most)
    return best.data if best.fits else None


def decoded(files: Iterable[bytes | None], **settings: Any) -> list[Samples | None]:
    with pillow_sdc.configure(device="cpu", **settings):
        return [None if file is None else np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--bytes", type=int, nargs="+", default=[2000, 3000])
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--against", type=Path, metavar="NETWORKS", help="another version's, to decode the files")
    parser.add_argument("--record", type=record_at, metavar="NAME:JSON", help="keep the table there")
    arguments = parser.parse_args()
    photos = photographs(arguments.folder)
    columns = ("PSNR, dB", "MS-SSIM", "Laplacian", "texture", "cross-hatch, bits")
    table = Table("bytes", "decoder", "photographs", *columns, title=f"{len(photos)} photographs of {SIDE}×{SIDE}")
    sheet: list[list[Samples | None]] = []
    for size in arguments.bytes:
        with pillow_sdc.configure(model="compact", device="cpu"):
            files = [pillow_sdc.encode(photo, target_size=size) for photo in track(photos, f"{size} bytes")]
        avif = [best_avif(photo, size) for photo in photos]
        embedded = decoded(files, model="compact")
        rows = {"embedded": embedded}
        if arguments.against:
            with networks_of(arguments.against):
                rows["other version"] = decoded(files, model="compact")
        rows |= {
            "teacher": decoded(files, model=arguments.teacher, denoise_steps=0),
            "AVIF": decoded(avif),
            "embedded, where AVIF fits": [
                None if file is None else picture for file, picture in zip(avif, embedded, strict=True)
            ],
        }
        sheet = sheet or list(rows.values())[:-1]
        for name, pictures in rows.items():
            pairs = [(photo, one) for photo, one in zip(photos, pictures, strict=True) if one is not None]
            quality = Quality.of(*map(list, zip(*pairs, strict=True))) if pairs else None
            table.add_row(f"{size:,}", name, str(len(pairs)), *(cells(quality) if quality else ()))
    Console().print(table)
    if arguments.record:
        keep(*arguments.record, table)
    if arguments.sheet:
        save_sheet(photos, sheet, arguments.sheet)


def cells(quality: Quality) -> list[str]:
    return [
        f"{quality.psnr:.2f}",
        f"{quality.ms_ssim:.4f}",
        f"{quality.laplacian_ratio:.2f}",
        f"{quality.textures.mean():.2f}",
        f"{quality.cross_hatch:+.2f}",
    ]


def save_sheet(photos: list[Samples], ways: list[list[Samples | None]], path: Path) -> None:
    blank = np.full((DETAIL, DETAIL, 3), 255, np.uint8)
    rows = []
    for photo, *pictures in zip(photos, *ways, strict=True):
        x, y = busiest(photo)
        details = [blank if one is None else one[y : y + DETAIL, x : x + DETAIL] for one in (photo, *pictures)]
        rows.append(np.hstack(details))
    Image.fromarray(np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)).save(path)


if __name__ == "__main__":
    main()
