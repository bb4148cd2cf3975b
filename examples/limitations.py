"""What becomes of a face and of small text: originals beside two qualities of .sdc, at 200 %.

    python examples/limitations.py [FOLDER]

Writes ``limitations.png`` into a folder (``out``). Look at the eyes, the teeth and the letters. The last column takes
the finest quality there is; what is still wrong in it, no number of bytes would repair: the autoencoder loses it.

The model is the one that PILLOW_SDC_MODEL names, else the one that comes with the package. Stable Diffusion's own
autoencoder does better, and has the same weakness.
"""

import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut, page

import pillow_sdc

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
FACE, WORDS = (152, 60, 312, 220), (0, 4, 160, 104)
SAVED = {"default": {}, "quality 100": {"quality": 100}}
SCALE, CAPTION = 2, 28


def round_trip(picture: Image.Image, options: dict[str, int]) -> tuple[Image.Image, int]:
    """Return what .sdc brings back of a picture, and the bytes of the file."""
    file = pillow_sdc.encode(picture, **options)
    return pillow_sdc.decode(file), len(file)


def psnr(original: Image.Image, decoded: Image.Image) -> float:
    error = np.mean((np.asarray(original, float) - np.asarray(decoded, float)) ** 2)
    return float(10 * np.log10(255**2 / error))


def row(name: str, picture: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Return a part of the picture, and the same of each .sdc file, enlarged, under captions."""
    shown = {"original": picture}
    for caption, options in SAVED.items():
        decoded, size = round_trip(picture, options)
        shown[f"{caption}, {size:,} bytes"] = decoded
        within = psnr(picture.crop(box), decoded.crop(box))
        print(f"{name}, {caption}: {size:,} bytes, PSNR {psnr(picture, decoded):.1f} dB, of the part {within:.1f} dB")
    width, height = (SCALE * (box[2] - box[0]), SCALE * (box[3] - box[1]))
    sheet = Image.new("RGB", (width * len(shown), height + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for column, (caption, image) in enumerate(shown.items()):
        part = image.crop(box).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(part, (column * width, CAPTION))
        draw.text((column * width + 6, 4), caption, "black", font)
    return sheet


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    rows = [row("face", Image.fromarray(astronaut()), FACE), row("text", Image.fromarray(page()), WORDS)]
    sheet = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    top = 0
    for each in rows:
        sheet.paste(each, (0, top))
        top += each.height
    sheet.save(out / "limitations.png")
    print(f"look at     {out / 'limitations.png'}")


if __name__ == "__main__":
    main()
