"""Which quality? Details of photographs at three qualities, beside AVIF in as many bytes, whole and at half size.

    python examples/qualities.py [FOLDER]

Writes ``qualities.png`` into a folder (``out``). From left to right: the original; SDC; AVIF of the best quality that
takes no more bytes, or else of its lowest; AVIF of the picture at half its width and height, likewise, enlarged again.

The model is the one that PILLOW_SDC_MODEL names, else the one that comes with the package.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut, chelsea, coffee

import pillow_sdc
from pillow_sdc.report.peers import AVIF, AVIF_AT_HALF_SIZE, PeerEncoder

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
QUALITIES = 20, 40, 70
DETAILS = {"cat": (chelsea, (96, 32)), "coffee": (coffee, (200, 120)), "astronaut": (astronaut, (152, 40))}
"""Photographs, and the upper left corner of the part that is shown of each, in pixels."""
SIDE, SCALE, CAPTION = 176, 1.5, 24


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, (load, (x, y)) in DETAILS.items():
        samples = load()
        box = (x, y, x + SIDE, y + SIDE)
        peers = [(peer.label, PeerEncoder(peer, samples)) for peer in (AVIF, AVIF_AT_HALF_SIZE)]
        for quality in QUALITIES:
            started = time.perf_counter()
            file = pillow_sdc.encode(samples, quality=quality)
            seconds = time.perf_counter() - started
            print(f"{name}, quality {quality}: {len(file):,} bytes, encoded in {seconds:.2f} s")
            shown = [("original", samples), (f"SDC {quality}, {len(file):,} B", np.asarray(pillow_sdc.decode(file)))]
            for label, encoder in peers:
                best = encoder.best_within(len(file))
                shown.append((f"{label}, {len(best.data):,} B", encoder.decode(best.data)))
            rows.append(row(shown, box))
    sheet = np.vstack(rows)
    Image.fromarray(sheet).save(out / "qualities.png")
    print(f"look at     {out / 'qualities.png'}")


def row(shown: list[tuple[str, np.ndarray]], box: tuple[int, int, int, int]) -> np.ndarray:
    """Return a part of pictures, enlarged, side by side under captions."""
    side = int(SIDE * SCALE)
    tiles = []
    for caption, samples in shown:
        tile = Image.new("RGB", (side, CAPTION + side), "white")
        part = Image.fromarray(samples).crop(box).resize((side, side), Image.Resampling.BICUBIC)
        tile.paste(part, (0, CAPTION))
        ImageDraw.Draw(tile).text((4, 3), caption, "black", ImageFont.load_default(15))
        tiles.append(np.asarray(tile))
    return np.hstack(tiles)


if __name__ == "__main__":
    main()
