#!/bin/sh
# Pillow 13.0.0 (PyPI): a photograph with its Exif data cannot be saved as a compressed TIFF.
#
# One would guess: `save(name, exif=picture.getexif())` works for a compressed TIFF as it does for one without
# compression, or the data that cannot be kept are left out.
# What happens: RuntimeError("Error setting from dictionary"), whatever the compression, if the data have a directory
# for the camera's settings or for GPS, as the files of nearly all cameras and phones have. The error does not say what
# is wrong, and is not the OSError or ValueError that `save` is documented to raise. libtiff says on standard error that
# it was given a bad offset of a directory, which is -1 as an unsigned number.
# Why: compressed files are written by libtiff, which wants the offset of the directory. Pillow hands it the dictionary
# with the directory's content, which is no number and arrives as -1.
# Source: https://github.com/python-pillow/Pillow, src/PIL/TiffImagePlugin.py (`_save`) and src/encode.c (for offsets
# that are numbers it was looked at in https://github.com/python-pillow/Pillow/pull/8529)
# Who is hurt: whoever converts photographs to TIFF and wants to keep what the camera wrote.
# How to avoid it: save without compression, or take the directories out, `del exif[0x8769]` and `del exif[0x8825]`.
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

COMPRESSIONS = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
SETTINGS = {IFD.Exif: {Base.DateTimeOriginal: "2026:11:30 12:00:00"}, IFD.GPSInfo: {1: "N", 2: (1.0, 2.0, 3.0)}}


def photograph(*directories):
    """A JPEG with the maker and these directories in its Exif data."""
    exif = Image.Exif()
    exif[Base.Make] = "Maker"
    for directory in directories:
        exif.get_ifd(directory).update(SETTINGS[directory])
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", exif=exif)
    return file


def outcome(file, compression):
    with Image.open(file) as picture:
        exif, target = picture.getexif(), io.BytesIO()
        expected = {directory: exif.get_ifd(directory) for directory in SETTINGS}
        try:
            picture.save(target, "TIFF", exif=exif, compression=compression)
        except RuntimeError as error:
            return f"RuntimeError: {error}"
    with Image.open(target) as picture:
        exif = picture.getexif()
        kept = {directory: exif.get_ifd(directory) for directory in SETTINGS}
        return "kept" if kept == expected and exif[Base.Make] == "Maker" else "lost"


found = {
    "neither": [outcome(photograph(), name) for name in COMPRESSIONS],
    "settings": [outcome(photograph(IFD.Exif), name) for name in COMPRESSIONS],
    "GPS": [outcome(photograph(IFD.GPSInfo), name) for name in COMPRESSIONS],
}
print(f"Pillow {PIL.__version__}, Exif data of a photograph saved as TIFF")
for title, outcomes in found.items():
    for compression, result in zip(COMPRESSIONS, outcomes):
        print(f"{title:9} {compression:19} {result}")
refused = ["RuntimeError: Error setting from dictionary"] * (len(COMPRESSIONS) - 1)
sys.exit(0 if found["neither"] == ["kept"] * 5 and found["settings"] == found["GPS"] == ["kept", *refused] else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   Pillow 13.0.0, Exif data of a photograph saved as TIFF
#   neither   raw                 kept
#   neither   tiff_lzw            kept
#   neither   tiff_adobe_deflate  kept
#   neither   packbits            kept
#   neither   jpeg                kept
#   settings  raw                 kept
#   settings  tiff_lzw            RuntimeError: Error setting from dictionary
#   settings  tiff_adobe_deflate  RuntimeError: Error setting from dictionary
#   settings  packbits            RuntimeError: Error setting from dictionary
#   settings  jpeg                RuntimeError: Error setting from dictionary
#   GPS       raw                 kept
#   GPS       tiff_lzw            RuntimeError: Error setting from dictionary
#   GPS       tiff_adobe_deflate  RuntimeError: Error setting from dictionary
#   GPS       packbits            RuntimeError: Error setting from dictionary
#   GPS       jpeg                RuntimeError: Error setting from dictionary
