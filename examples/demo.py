"""The main job on a real photograph: save it as .sdc, open that in another process, and look at the result.

    python examples/demo.py [FOLDER]

Saves the photograph twice into a folder (``out``): with the article's codec, the default, and with ``quality=40``.
``comparison.png`` shows both beside the original, and beside JPEG and WebP in the bytes of the first or, where they
cannot be that small, of their lowest quality.

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
from skimage.data import astronaut

from pillow_sdc.report.peers import JPEG, WEBP, PeerEncoder

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
    """Return pictures of one size in a row, each under its caption."""
    caption = 40
    width, height = next(iter(columns.values())).size
    sheet = Image.new("RGB", (width * len(columns), height + caption), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(20)
    for i, (text, picture) in enumerate(columns.items()):
        sheet.paste(picture, (i * width, caption))
        draw.text((i * width + 8, 8), text, "black", font)
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
    photo = Image.fromarray(astronaut())
    article, ours = out / "astronaut.sdc", out / "astronaut-40.sdc"

    print(
        f"Saving a photograph of {photo.width}×{photo.height} pixels as .sdc, twice, with the model {model} ...",
        flush=True,
    )
    photo.save(article, model=model)
    photo.save(ours, model=model, quality=40)

    print("Opening both files in another process ...", flush=True)
    subprocess.run([sys.executable, "-c", OPEN_AND_SAVE, model, str(article), str(ours)], check=True)
    first, second = (Image.open(path.with_suffix(".png")) for path in (article, ours))

    print("Looking for the best JPEG and WebP that take no more bytes than the first ...", flush=True)
    size, smaller = article.stat().st_size, ours.stat().st_size
    columns = {
        f"original, {photo.width * photo.height * 3:,} bytes": photo,
        f"SDC, {size:,} bytes": first,
        f"SDC, quality=40, {smaller:,} bytes": second,
    }
    peers = []
    for peer in (JPEG, WEBP):
        data = PeerEncoder(peer, np.asarray(photo)).best_within(size).data
        picture = columns[f"{peer.label}, {len(data):,} bytes"] = Image.open(io.BytesIO(data))
        peers.append(f"{peer.label} {psnr(photo, picture):.1f} dB in {len(data):,}")
    comparison = out / "comparison.png"
    side_by_side(columns).save(comparison)

    print()
    print(f"{article} has {size:,} bytes (the article's codec), {ours} has {smaller:,} (quality=40).")
    print(f"PSNR: {psnr(photo, first):.1f} and {psnr(photo, second):.1f} dB; {' and '.join(peers)} bytes.")
    print(f"Look at {comparison}: the original, both of these, JPEG and WebP, side by side.")
    print(f"Next, with a photograph of your own: {command()} encode photo.jpg --quality 40")


if __name__ == "__main__":
    main()
