"""The main job on two photographs: save them as .sdc, open that in another process, and look at the result.

    python examples/demo.py [FOLDER]

Saves each photograph twice into a folder (``out``): with the article's codec, the default, and with ``quality=40``.
``comparison.png`` shows both beside the original, and beside AVIF of the best quality that takes no more bytes than the
second or, where it cannot be that small, of its lowest. The first photograph suits the format; in the second, faces and
letters are too small for it.

The model is the one that PILLOW_SDC_MODEL names; else the one that comes with the package, so that the demonstration is
quick on any machine and needs no network. Stable Diffusion v1.4 itself is better and slower:
PILLOW_SDC_MODEL=CompVis/stable-diffusion-v1-4.
"""

import io
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut, coffee

from pillow_sdc.report.peers import AVIF, PeerEncoder

PHOTOGRAPHS = {"coffee": coffee, "astronaut": astronaut}
HEIGHT = 400
"""Height of the middle part shown of each photograph, in pixels."""

OPEN_AND_SAVE = """
import sys
from pathlib import Path
import pillow_sdc
from PIL import Image
pillow_sdc.configure(model=sys.argv[1])
for path in map(Path, sys.argv[2:]):
    Image.open(path).save(path.with_suffix(".png"))
"""


def side_by_side(columns: dict[str, Image.Image]) -> Image.Image:
    """Return the middles of pictures of one size in a row, each under its caption."""
    caption = 40
    sheet = Image.new("RGB", (HEIGHT * len(columns), HEIGHT + caption), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for i, (text, picture) in enumerate(columns.items()):
        left, top = ((length - HEIGHT) // 2 for length in picture.size)
        sheet.paste(picture.crop((left, top, left + HEIGHT, top + HEIGHT)), (i * HEIGHT, caption))
        draw.text((i * HEIGHT + 8, 8), text, "black", font)
    return sheet


def psnr(original: Image.Image, picture: Image.Image) -> float:
    """Return the ratio of peak signal to noise, in dB."""
    error = np.mean((np.asarray(original, float) - np.asarray(picture, float)) ** 2)
    return float(10 * np.log10(255**2 / error))


def command() -> Path:
    """Return what runs ``sdc`` in this environment, from the current folder."""
    path = Path(sysconfig.get_path("scripts"), "sdc")
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    model = os.environ.get("PILLOW_SDC_MODEL") or "compact"
    photographs = {name: Image.fromarray(load()) for name, load in PHOTOGRAPHS.items()}
    files = {name: (out / f"{name}.sdc", out / f"{name}-40.sdc") for name in photographs}

    print(f"Saving two photographs as .sdc, each twice, with the model {model} ...", flush=True)
    for name, photo in photographs.items():
        article, ours = files[name]
        photo.save(article, model=model)
        photo.save(ours, model=model, quality=40)

    print("Opening the files in another process ...", flush=True)
    paths = [str(path) for pair in files.values() for path in pair]
    subprocess.run([sys.executable, "-c", OPEN_AND_SAVE, model, *paths], check=True)

    print("Looking for the best AVIF that takes no more bytes than quality=40 ...", flush=True)
    rows, lines = [], []
    for name, photo in photographs.items():
        article, ours = files[name]
        size, smaller = article.stat().st_size, ours.stat().st_size
        avif = PeerEncoder(AVIF, np.asarray(photo)).best_within(smaller).data
        first, second = (Image.open(path.with_suffix(".png")) for path in (article, ours))
        peer = Image.open(io.BytesIO(avif))
        columns = {
            "original": photo,
            f"SDC, default: {size:,} bytes": first,
            f"SDC, quality=40: {smaller:,} bytes": second,
            f"AVIF: {len(avif):,} bytes": peer,
        }
        rows.append(np.asarray(side_by_side(columns)))
        lines.append(
            f"{name}: {size:,} bytes by default (PSNR {psnr(photo, first):.1f} dB), {smaller:,} with quality=40 "
            f"({psnr(photo, second):.1f} dB), AVIF {len(avif):,} ({psnr(photo, peer):.1f} dB)"
        )
    comparison = out / "comparison.png"
    Image.fromarray(np.vstack(rows)).save(comparison)

    print()
    print("\n".join(lines))
    print(f"Look at {comparison}: original, SDC twice, AVIF. In pixels AVIF is nearer; look at what is sharp.")
    print(f"Next, with a photograph of your own: {command()} encode photo.jpg --quality 40")


if __name__ == "__main__":
    main()
