"""What alpha costs, beside PNG and lossless WebP, and what replacing hidden colours saves.

    python benchmarks/alpha.py FOLDER [--model MODEL]

The planes are of 512×512 pixels; mattes are made of the folder's photographs.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.format import alpha

SIDE = 512
PHOTOS = 4


def drawn() -> Iterator[tuple[str, Image.Image]]:
    large = Image.new("L", (4 * SIDE, 4 * SIDE))
    ImageDraw.Draw(large).ellipse((300, 200, 1700, 1900), fill=255)
    disc = large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    yield "ellipse, hard", disc.point(lambda value: 255 * (value > 127))
    yield "ellipse, smooth", disc
    yield "ellipse, blurred", disc.filter(ImageFilter.GaussianBlur(20))
    text = Image.new("L", (SIDE, SIDE))
    for line in range(10):
        ImageDraw.Draw(text).text((20, 20 + 45 * line), "The quick brown fox jumps", fill=255, font_size=36)
    yield "text", text
    yield "gradient", Image.linear_gradient("L").resize((SIDE, SIDE))
    yield "opaque", Image.new("L", (SIDE, SIDE), 255)


def mattes(photos: list[Image.Image]) -> Iterator[tuple[str, Image.Image]]:
    for number, photo in enumerate(photos, 1):
        grey = np.asarray(photo.convert("L").filter(ImageFilter.GaussianBlur(3)), int) - 128
        yield f"photograph {number}, hard", Image.fromarray(np.where(grey > 0, 255, 0).astype(np.uint8))
        yield f"photograph {number}, matte", Image.fromarray(np.clip(8 * grey + 128, 0, 255).astype(np.uint8))


def png_bytes(plane: Image.Image) -> int:
    picture = plane.convert("1") if plane.point(lambda value: 255 * (value > 127)) == plane else plane
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.tell()


def webp_bytes(plane: Image.Image) -> int:
    black = Image.new("L", plane.size)
    sizes = []
    for planes, mode in (((black, black, black), "RGB"), ((black, black, black, plane), "RGBA")):
        buffer = io.BytesIO()
        Image.merge(mode, planes).save(buffer, "WEBP", quality=1, method=6)
        sizes.append(buffer.tell())
    return sizes[1] - sizes[0]


def with_colour(photo: NDArray[np.uint8], colour: NDArray[np.uint8], shown: NDArray[np.bool_], quality: int) -> str:
    """Return the bytes of a picture whose hidden places have ``colour``, and the PSNR of what it shows."""
    data = pillow_sdc.encode(np.where(shown[:, :, None], photo, colour), quality=quality)
    error = np.asarray(pillow_sdc.decode(data), float)[shown] - photo[shown]
    return f"{len(data):,}, {10 * np.log10(255**2 / np.mean(error**2)):.2f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="compact")
    parser.add_argument("--quality", type=int, default=50)
    arguments = parser.parse_args()
    pillow_sdc.configure(model=arguments.model)
    paths = sorted(arguments.folder.glob("*.png"))[:PHOTOS]
    photos = [Image.open(path).convert("RGB").resize((SIDE, SIDE)) for path in paths]
    console = Console()

    table = Table("alpha", "SDC, bytes", "PNG", "WebP")
    for name, plane in [*drawn(), *mattes(photos)]:
        size = len(alpha.encode(np.asarray(plane)))
        table.add_row(name, f"{size:,}", f"{png_bytes(plane):,}", f"{webp_bytes(plane):,}")
    console.print(table)

    table = Table("hidden colours", "replaced by ours", "as they are", "black", "grey")
    for number, photo in enumerate(photos, 1):
        plane = np.asarray(next(plane for name, plane in drawn() if name == "ellipse, smooth"))
        own = np.asarray(photo)
        ours = alpha.ColourShown(own, plane)[0:SIDE, 0:SIDE]
        fills = ours, own, np.zeros_like(own), np.full_like(own, 127)
        table.add_row(f"photograph {number}", *(with_colour(own, fill, plane > 0, arguments.quality) for fill in fills))
    console.print(table)


if __name__ == "__main__":
    main()
