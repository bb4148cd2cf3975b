#!/bin/sh
# Pillow 13.0.0 (PyPI): a JPEG is saved with another resolution than the given one if that is above 65535 dpi.
#
# One would guess: the resolution is kept, as in PNG, BMP and TIFF, or, as the field of a JPEG has 16 bits, is refused,
# or given per centimetre, which is in range.
# What happens: it is taken modulo 65536, without a word: 100000 dpi become 34464, and 65836 become a usual 300.
# Why: the encoder puts a C int into the 16-bit fields of libjpeg without a look at its range.
# Source: https://github.com/python-pillow/Pillow, src/encode.c and src/libImaging/JpegEncode.c
# Who is hurt: whoever converts pictures of microscopes and scanners for chips or films with
# `save(..., dpi=picture.info["dpi"])`: a pixel of 0.25 micrometres is 101600 dpi, and lengths measured in the JPEG come
# out 2.8 times too large.
# How to avoid it: save such pictures as PNG or TIFF, or leave `dpi` away above 65535 and keep it elsewhere.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys

import PIL
from PIL import Image

GIVEN = (300, 65535, 65836, 100000, 101600)
FORMATS = ("PNG", "BMP", "TIFF", "JPEG")


def saved(file_format, dpi):
    """The resolution of a picture that was saved with one and opened again, rounded."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, file_format, dpi=(dpi, dpi))
    with Image.open(file) as picture:
        return round(picture.info["dpi"][0])


found = {file_format: [saved(file_format, dpi) for dpi in GIVEN] for file_format in FORMATS}
print(f"Pillow {PIL.__version__}, resolution of a saved picture")
for name, values in {"given": GIVEN, **found}.items():
    print(f"{name:6}" + "".join(f"{value:8}" for value in values))
others = all(found[file_format] == list(GIVEN) for file_format in FORMATS[:-1])
sys.exit(0 if others and found["JPEG"] == [300, 65535, 300, 34464, 36064] else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   Pillow 13.0.0, resolution of a saved picture
#   given      300   65535   65836  100000  101600
#   PNG        300   65535   65836  100000  101600
#   BMP        300   65535   65836  100000  101600
#   TIFF       300   65535   65836  100000  101600
#   JPEG       300   65535     300   34464   36064
