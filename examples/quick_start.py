"""A photograph saved as .sdc, opened again, and made smaller: ten lines of use.

    python examples/quick_start.py [FOLDER]

Writes into a folder (``out``). The model is the one that PILLOW_SDC_MODEL names, else the one that comes with the
package.
"""

import os
import sys
from pathlib import Path

from PIL import Image
from skimage.data import coffee

import pillow_sdc  # not needed where the package is installed: Pillow knows .sdc there. The last lines call it.

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    photo = Image.fromarray(coffee())

    photo.save(out / "coffee.sdc")  # the article's codec
    photo.save(out / "coffee-40.sdc", quality=40)  # our own coder
    photo.save(out / "coffee-2000.sdc", target_size=2000)  # the best that takes no more than 2,000 bytes
    with Image.open(out / "coffee.sdc") as image:
        image.load()  # opening reads the header alone; here the model decodes
        print(f"decoded by  {image.info['sdc']['model']} on {image.info['sdc']['device']}")
        image.save(out / "coffee.png")
    with Image.open(out / "coffee.sdc") as image:
        image.thumbnail((75, 75))  # straight from the latents: no model
        image.save(out / "coffee-thumbnail.png")
    pillow_sdc.read_preview(out / "coffee.sdc").save(out / "coffee-preview.png")  # an eighth of the size, likewise

    print(f"pixels      {photo.width}×{photo.height}, {photo.width * photo.height * 3:,} bytes as they are")
    for path in sorted(out.glob("coffee*.sdc")):
        file = pillow_sdc.info(path)
        print(f"{path}: {file.file_bytes:,} bytes, {file.bits_per_pixel:.3f} bits per pixel, codec {file.codec}")
    print(f"look at     {out / 'coffee.png'}, {out / 'coffee-thumbnail.png'} and {out / 'coffee-preview.png'}")


if __name__ == "__main__":
    main()
