#!/bin/sh
# datasets 5.2.0 with Pillow 13.0.0 (PyPI): edits that `map` makes in place are lost, without a word, if the picture was
# opened from a path.
#
# One would guess: a function given to `map` that draws on `example["image"]`, or makes it a thumbnail, and returns the
# example, changes the data set, as it does where the data set holds the pictures' bytes.
# What happens: where it holds paths, as from `imagefolder` or `cast_column("image", Image())`, the new data set has the
# old pixels and the old size. Drawn boxes, blurred faces and thumbnails are gone; nothing is raised or logged. A copy
# that is edited and returned is kept in both cases.
# Why: `encode_pil_image` of the feature `Image` stores the path alone if the picture has a `filename`, and Pillow leaves
# `filename` at the picture that was opened, whatever is done to it. `copy()` and `convert()` return pictures without.
# Source: https://github.com/huggingface/datasets, src/datasets/features/image.py
# Who is hurt: whoever augments, anonymises or scales pictures in `map`, and tests it on a data set with bytes, such as
# one from the hub in Parquet.
# How to avoid it: return a new picture (`image = example["image"].copy()`), never an edited one.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet datasets==5.2.0 pillow==13.0.0
cd "$folder"
HF_HOME="$folder/home" HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version
from pathlib import Path

import datasets
from PIL import Image

datasets.disable_progress_bars()
Image.new("RGB", (8, 8), "white").save("white.png")
features = datasets.Features({"image": datasets.Image()})
held = {"path": "white.png", "bytes": {"bytes": Path("white.png").read_bytes(), "path": None}}


def paint(example):
    example["image"].paste("red", (0, 0, 4, 4))
    return example


def shrink(example):
    example["image"].thumbnail((4, 4))
    return example


def paint_a_copy(example):
    image = example["image"].copy()
    image.paste("red", (0, 0, 4, 4))
    return {"image": image}


def after(what, function):
    data = datasets.Dataset.from_dict({"image": [held[what]]}, features=features)
    image = data.map(function, load_from_cache_file=False)[0]["image"]
    return image.size, image.getpixel((0, 0))


white, red = (255, 255, 255), (255, 0, 0)
expected = {
    ("bytes", paint): ((8, 8), red),
    ("bytes", shrink): ((4, 4), white),
    ("path", paint): ((8, 8), white),
    ("path", shrink): ((8, 8), white),
    ("path", paint_a_copy): ((8, 8), red),
}
seen = {key: after(*key) for key in expected}
print(f"datasets {version('datasets')}, Pillow {version('pillow')}")
for (what, function), result in seen.items():
    print(f"{what:5} {function.__name__:12} size and first pixel: {result}")
sys.exit(seen != expected)
PYTHON
