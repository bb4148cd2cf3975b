#!/bin/sh
# Pillow 13.0.0 (PyPI): a position or a date that was added to Exif data is saved in all formats but TIFF.
#
# One would guess: what was set by `exif.get_ifd(IFD.GPSInfo)[...] = ...` is in the file that `save(name, exif=exif)`
# writes, as it is in JPEG, PNG, WebP and AVIF.
# What happens: in a TIFF the directory is missing, without a word, if the data had none before. What is set in the
# first directory is kept, and so are changes in directories that were there.
# Why: a new directory is held beside the tags and has no tag of its own. `Exif.tobytes`, which the other formats use,
# looks there; the TIFF writer goes through the tags only.
# Source: https://github.com/python-pillow/Pillow, src/PIL/TiffImagePlugin.py (`_save`) and src/PIL/Image.py (`Exif`;
# for `tobytes` it was mended by https://github.com/python-pillow/Pillow/pull/8635)
# Who is hurt: whoever writes TIFFs with the date or the place where they were taken, for archives or surveys.
# How to avoid it: hand over bytes: `save(name, exif=exif.tobytes())`.
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
from PIL.ExifTags import IFD, Base

SETTINGS = {IFD.Exif: {Base.DateTimeOriginal: "2026:11:30 12:00:00"}, IFD.GPSInfo: {1: "N", 2: (1.0, 2.0, 3.0)}}
exif = Image.Exif()
exif[Base.Make] = "Maker"
for directory, values in SETTINGS.items():
    exif.get_ifd(directory).update(values)


def kept(file_format, data):
    """Which parts of the data are in a file that is saved with them: maker, date, position."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, file_format, exif=data)
    with Image.open(file) as picture:
        found = picture.getexif()
        return found.get(Base.Make) == "Maker", *(found.get_ifd(key) == value for key, value in SETTINGS.items())


found = {name: kept(name, exif) for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")}
found["TIFF, bytes"] = kept("TIFF", exif.tobytes())
print(f"Pillow {PIL.__version__}, Exif data that were saved")
print("             maker  date   position")
for name, parts in found.items():
    print(f"{name:13}" + "".join(f"{'kept' if part else 'lost':7}" for part in parts).rstrip())
tiff = found.pop("TIFF")
sys.exit(0 if all(map(all, found.values())) and tiff == (True, False, False) else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   Pillow 13.0.0, Exif data that were saved
#                maker  date   position
#   JPEG         kept   kept   kept
#   PNG          kept   kept   kept
#   WEBP         kept   kept   kept
#   AVIF         kept   kept   kept
#   TIFF         kept   lost   lost
#   TIFF, bytes  kept   kept   kept
