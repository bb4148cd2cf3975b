#!/bin/sh
# Pillow 13.0.0 (PyPI): an uncompressed planar RGB TIFF of 16 bits opens, without a word, as another picture.
#
# One would guess: it opens as the interleaved or the deflated file of the same samples does, cut to 8 bits, or is
# refused.
# What happens: every byte of a plane is taken for a sample. The left half of each row fills the whole width, its low
# bytes as noise between the high ones.
# Why: for planes of their own, TiffImagePlugin takes the raw mode of each from the letters of the whole ("RGB;16L"
# gives "R", which is 8 bits), and so loses what follows the semicolon.
# Source: https://github.com/python-pillow/Pillow, src/PIL/TiffImagePlugin.py
# Who is hurt: whoever opens such files, which tifffile, scanners and scientific programs write: thumbnails and
# conversions are wrong and nothing fails.
# How to avoid it: refuse files with PlanarConfiguration 2 and BitsPerSample above 8 unless they are compressed (libtiff
# reads those, and reads them rightly), or open them with tifffile.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0 numpy==2.4.6 tifffile==2026.3.3
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

samples = np.linspace(0, 65535, 16 * 16).astype(np.uint16).reshape(16, 16)
samples = np.stack([samples, samples[::-1], samples.T], axis=2)
planes = np.moveaxis(samples, 2, 0)
expected = (samples >> 8).astype(int)


def error(array, **options):
    """The largest error of a sample of the file as Pillow opens it, of 255; 1 is rounding."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, photometric="rgb", **options)
    with Image.open(file) as picture:
        return int(np.abs(np.asarray(picture) - expected).max())


errors = {
    "interleaved": error(samples),
    "planar, deflated": error(planes, planarconfig="separate", compression="zlib"),
    "planar": error(planes, planarconfig="separate"),
}
print(f"Pillow {PIL.__version__}, largest error of a sample of a 16-bit RGB TIFF, of 255")
for name, value in errors.items():
    print(f"{name:17} {value}")
sys.exit(0 if errors["planar"] > 50 and max(errors["interleaved"], errors["planar, deflated"]) <= 1 else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   Pillow 13.0.0, largest error of a sample of a 16-bit RGB TIFF, of 255
#   interleaved       0
#   planar, deflated  0
#   planar            136
