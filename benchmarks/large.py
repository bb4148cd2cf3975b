"""A picture of 4096×4096 pixels through the embedded model: peak memory, time, and what the seams of tiles cost.

    python benchmarks/large.py FOLDER

The picture is a patchwork of the folder's photographs, each beside its mirror image. It is saved and opened by a
process of its own, whose peak resident memory is reported; then it is decoded in one piece as well. Seams are the
pixels that several tiles have a part in; their error is compared with that of the same pixels without tiles.
"""

import argparse
import inspect
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import timing
from numpy.typing import NDArray
from PIL import Image, ImageOps

import pillow_sdc
from pillow_sdc.format import container
from pillow_sdc.models import get_models
from pillow_sdc.pipeline import stages
from pillow_sdc.pipeline.tiling import split

SIDE = 4096
PATCH = 512
CHILD = f"""
{inspect.getsource(timing)}
import sys
import pillow_sdc
from PIL import Image
pillow_sdc.configure(model="compact", device="cpu")
photo = Image.open(sys.argv[1])
photo.load()
saving = seconds(lambda: photo.save(sys.argv[2]))
opened = Image.open(sys.argv[2])
print(saving, seconds(opened.load), peak_memory())
opened.save(sys.argv[3], compress_level=1)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    original = patchwork(arguments.folder)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("original.png", "picture.sdc", "opened.png")]
        original.save(paths[0], compress_level=1)
        command = [sys.executable, "-c", CHILD, *map(str, paths)]
        save_time, load_time, peak = map(float, timing.run(command).output.split())
        file = paths[1].read_bytes()
        with Image.open(paths[2]) as opened:
            tiled = np.asarray(opened)
    whole = decode_in_one_piece(file)

    print(f"{SIDE}×{SIDE}: {len(file):,} bytes, save {save_time:.1f} s, open and load {load_time:.1f} s")
    print(f"peak resident memory of a process that does both: {peak:,.0f} MiB, the picture itself twice included")
    seams = seam_pixels()
    errors = {name: squared_error(original, picture) for name, picture in (("tiles", tiled), ("one piece", whole))}
    for name, place in ((f"seams, {seams.mean():.0%} of all", seams), ("elsewhere", ~seams)):
        values = {way: float(error[place].mean()) for way, error in errors.items()}
        ratio = values["tiles"] / values["one piece"]
        print(f"MSE, {name}: {values['tiles']:.2f} in tiles, {values['one piece']:.2f} in one piece, ratio {ratio:.4f}")


def patchwork(folder: Path) -> Image.Image:
    paths = sorted(path for path in folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    canvas = Image.new("RGB", (SIDE, SIDE))
    for i in range((SIDE // PATCH) ** 2):
        row, column = divmod(i, SIDE // PATCH)
        with Image.open(paths[(i // 2) % len(paths)]) as photo:
            patch = ImageOps.fit(photo.convert("RGB"), (PATCH, PATCH))
        canvas.paste(ImageOps.mirror(patch) if i % 2 else patch, (column * PATCH, row * PATCH))
    return canvas


def decode_in_one_piece(file: bytes) -> NDArray[np.uint8]:
    fp = io.BytesIO(file)
    layout = container.read_layout(fp)
    quantised = stages.decode_latents(fp, layout)
    autoencoder = get_models(pillow_sdc.Settings(model="compact", device="cpu")).autoencoder
    pixels = autoencoder.decode(quantised.latents, quantised.noise_variance)
    return np.moveaxis(((pixels + 1) * 127.5).round().astype(np.uint8), 0, 2)


def seam_pixels() -> NDArray[np.bool_]:
    """Return which pixels ``(H, W)`` are computed in more than one tile."""
    scale = container.PIXELS_PER_LATENT
    covered = np.zeros(SIDE, int)
    for span in split(SIDE // scale, stages.TILE, stages.TILE_OVERLAP):
        covered[span.start * scale : span.stop * scale] += 1
    return covered[:, None] * covered > 1


def squared_error(original: Image.Image, decoded: NDArray[np.uint8]) -> NDArray[np.float32]:
    return ((np.asarray(original, np.float32) - decoded) ** 2).mean(axis=2)


if __name__ == "__main__":
    main()
