#!/bin/sh
# Pillow 13.0.0 (PyPI): a TIFF with a position, saved with compression, has pixels where its position should be.
#
# One would guess: a picture that is opened and saved keeps its position, or loses it, as it does without compression.
# What happens: the new file has the tag of the GPS directory with the offset of the old file. There are pixels or
# nothing at this place, and what is read as the position is noise: `getexif` of Pillow itself gives nothing or other
# tags, and warns of corrupt data. The tag stays also if the position is deleted from the Exif data that are given.
# Why: what libtiff writes is filled up with the tags of the opened file. The offset of the Exif directory is left out
# there, that of the GPS directory is not, and its content is not written.
# Source: https://github.com/python-pillow/Pillow, src/PIL/TiffImagePlugin.py, `_save` (for the Exif directory it was
# mended by https://github.com/python-pillow/Pillow/pull/8110)
# Who is hurt: whoever compresses scans or photographs that have a position: the files seem to have it still.
# How to avoid it: save a copy, `picture.copy().save(...)`, which has no tags, or `del picture.tag_v2[34853]` before.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import struct
import sys

import PIL
from PIL import Image
from PIL.ExifTags import IFD

POSITION = {1: "N", 2: (1.0, 2.0, 3.0), 3: "E", 4: (4.0, 5.0, 6.0)}
exif = Image.Exif()
exif.get_ifd(IFD.GPSInfo).update(POSITION)
original = io.BytesIO()
Image.radial_gradient("L").save(original, "TIFF", exif=exif.tobytes())


def saved(compression, copy=False, **options):
    """The GPS tag of the opened and saved file, and what is there: the position, another thing, or no tag."""
    file = io.BytesIO()
    with Image.open(original) as picture:
        (picture.copy() if copy else picture).save(file, "TIFF", compression=compression, **options)
    return described(file)


def described(file):
    with Image.open(file) as picture:
        data = picture.getexif()
        offset = data.get(IFD.GPSInfo)
        if offset is None:
            return None, "no tag", ""
        content = "the position" if data.get_ifd(IFD.GPSInfo) == POSITION else "something else"
    (entries,) = struct.unpack_from("<H", file.getvalue(), offset)
    return offset, content, f"a directory of {entries} entries"


with Image.open(original) as opened:
    without = opened.getexif()
    del without[IFD.GPSInfo]
found = {
    "original": described(original),
    "saved raw": saved("raw"),
    "saved with LZW": saved("tiff_lzw"),
    "saved with deflate": saved("tiff_adobe_deflate"),
    "LZW, position deleted": saved("tiff_lzw", exif=without),
    "LZW, copy": saved("tiff_lzw", copy=True),
}
print(f"Pillow {PIL.__version__}, offset of the GPS directory of a TIFF, and what is there")
for name, (offset, content, size) in found.items():
    print(f"{name:22} {offset!s:5} {content:15} {size}".rstrip())
first, raw, *compressed, copied = found.values()
stale = all(offset == first[0] and content == "something else" for offset, content, _ in compressed)
sys.exit(0 if first[1] == "the position" and raw[1] == copied[1] == "no tag" and stale else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   Pillow 13.0.0, offset of the GPS directory of a TIFF, and what is there
#   original               134   the position    a directory of 4 entries
#   saved raw              None  no tag
#   saved with LZW         134   something else  a directory of 23736 entries
#   saved with deflate     134   something else  a directory of 64318 entries
#   LZW, position deleted  134   something else  a directory of 23736 entries
#   LZW, copy              None  no tag
