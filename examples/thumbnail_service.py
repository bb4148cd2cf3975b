"""A thumbnail service that was written before there was .sdc, and serves it all the same.

    python examples/thumbnail_service.py [FOLDER]

``thumbnail_of`` is a function as many web applications have it. It knows nothing of SDC, and nothing in it was changed.
For .sdc it is quick besides: of a picture eight times as large, Pillow asks for a draft, which comes straight from the
latents. Larger thumbnails work as well; for them the model decodes.

The photographs are encoded by the model that PILLOW_SDC_MODEL names, else by the one that comes with the package.
"""

import io
import os
import sys
import time
from pathlib import Path

from PIL import Image, ImageOps
from skimage.data import astronaut, coffee, rocket

os.environ.setdefault("PILLOW_SDC_MODEL", "compact")
ORIENTATION, TURNED_LEFT = 0x0112, 6


def thumbnail_of(upload: bytes, side: int = 48) -> bytes:
    """Return a JPEG of at most ``side`` by ``side`` pixels, upright."""
    with Image.open(io.BytesIO(upload)) as image:
        image.thumbnail((side, side))  # before anything else, so that a large picture is never decoded in full
        buffer = io.BytesIO()
        ImageOps.exif_transpose(image).convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def make_uploads(folder: Path) -> list[Path]:
    """Save three photographs, each as JPEG and as .sdc, one of them as a camera held upright would."""
    paths = []
    for picture in (astronaut, coffee, rocket):
        photo, exif = Image.fromarray(picture()), Image.Exif()
        if picture is coffee:
            photo = photo.transpose(Image.Transpose.ROTATE_90)
            exif[ORIENTATION] = TURNED_LEFT
        for ending in (".jpg", ".sdc"):
            paths.append(folder / (picture.__name__ + ending))
            photo.save(paths[-1], exif=exif)
    return paths


def main() -> None:
    out = Path(*sys.argv[1:] or ["out"])
    out.mkdir(parents=True, exist_ok=True)
    for path in make_uploads(out):
        start = time.perf_counter()
        thumbnail = thumbnail_of(path.read_bytes())
        milliseconds = 1000 * (time.perf_counter() - start)
        target = out / f"{path.stem}-of-{path.suffix[1:]}-thumbnail.jpg"
        target.write_bytes(thumbnail)
        size = Image.open(io.BytesIO(thumbnail)).size
        print(f"{path}: {path.stat().st_size:,} bytes, thumbnail of {size[0]}×{size[1]} in {milliseconds:.1f} ms")
    print(f"look at     {out}/*-thumbnail.jpg")


if __name__ == "__main__":
    main()
