"""The main job on a real photograph: save it as .sdc, open it in another process, and look at both.

    python examples/demo.py [FOLDER]

Writes ``astronaut.sdc`` and ``comparison.png`` into a folder (``out``), the latter with the photograph beside what the
file brings back and beside JPEG and WebP of the same size or, where they cannot be that small, of their lowest quality.

The model is the one that PILLOW_SDC_MODEL names; else the one that comes with the package, so that the demonstration is
quick on any machine and needs no network. Stable Diffusion v1.4 itself is better and slower:
PILLOW_SDC_MODEL=CompVis/stable-diffusion-v1-4.
"""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from skimage.data import astronaut

import pillow_sdc
from pillow_sdc.report.peers import JPEG, WEBP, PeerEncoder

OPEN_AND_SAVE = """
import sys
import pillow_sdc
from PIL import Image
pillow_sdc.configure(model=sys.argv[1])
Image.open(sys.argv[2]).save(sys.argv[3])
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


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    model = os.environ.get("PILLOW_SDC_MODEL") or "compact"
    photo = Image.fromarray(astronaut())

    compressed, opened = out / "astronaut.sdc", out / "astronaut.png"
    photo.save(compressed, model=model)
    subprocess.run([sys.executable, "-c", OPEN_AND_SAVE, model, str(compressed), str(opened)], check=True)

    size = compressed.stat().st_size
    columns = {f"original, {photo.width * photo.height * 3:,} bytes": photo, f"SDC, {size:,} bytes": Image.open(opened)}
    for peer in (JPEG, WEBP):
        data = PeerEncoder(peer, np.asarray(photo)).best_within(size).data
        columns[f"{peer.label}, {len(data):,} bytes"] = Image.open(io.BytesIO(data))
    comparison = out / "comparison.png"
    side_by_side(columns).save(comparison)

    error = np.mean((np.asarray(photo, float) - np.asarray(Image.open(opened), float)) ** 2)
    print(f"model       {model}")
    print(f"file        {compressed}: {pillow_sdc.info(compressed)}")
    print(f"PSNR        {10 * np.log10(255**2 / error):.2f} dB")
    print(f"look at     {comparison}")


if __name__ == "__main__":
    main()
