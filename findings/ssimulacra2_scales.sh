#!/bin/sh
# ssimulacra2 0.3.0 (PyPI): the score of a picture depends on whether its sides are above 224 pixels.
#
# One would guess: a picture and its crop by one pixel score about the same, and both as libjxl's program `ssimulacra2`
# says, for the package describes itself as a close port of it.
# What happens: from 225 pixels to 224 the score of the same two pictures jumps, by 10 to 50 points.
# Why: the metric has 108 weights, ordered channel, scale, norm. Both programs read them one after the other while they
# loop over the scales that the picture has. With five scales instead of six all weights after the first five scales of
# the first channel are those of another scale or channel. The package stops when the halved picture is smaller than 8
# pixels, so six scales need 225 pixels; libjxl stops when the picture before halving is, so there the jump is from 113
# to 112 (seen with libjxl 0.11.2 as well). Between 113 and 224 pixels the two disagree by tens. Besides, the package
# mirrors rows at the left and the right edge where libjxl has zeros: some points at low scores, also above 225 pixels.
# Source: https://github.com/Pacidus/py-ssimulacra2 and tools/ssimulacra2.cc of https://github.com/libjxl/libjxl
# Who is hurt: whoever compares codecs on thumbnails, crops or patches, or takes means over pictures of several sizes.
# How to avoid it: score only pictures whose shorter side is 225 pixels or more (113 with libjxl's program), and compare
# scores of one program only.
#
# Needs python3 with venv and PyPI. Exits with 0 if the behaviour is as described, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ssimulacra2==0.3.0 numpy==2.4.6 pillow==13.0.0 scipy==1.17.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image, ImageFilter
from ssimulacra2 import compute_ssimulacra2
from ssimulacra2.ssimulacra2 import Msssim, MsssimScale

SCALES = 6


def png(samples):
    file = io.BytesIO()
    Image.fromarray(samples).save(file, "PNG")
    return file


def scores(side):
    """The score of the pictures' upper left corner, and the same with missing scales counted as without error."""
    plain = compute_ssimulacra2(png(original[:side, :side]), png(changed[:side, :side]))
    score = Msssim.score
    try:
        Msssim.score = lambda self: score(padded(self))
        return plain, compute_ssimulacra2(png(original[:side, :side]), png(changed[:side, :side]))
    finally:
        Msssim.score = score


def padded(metric):
    metric.scales += [MsssimScale() for _ in range(SCALES - len(metric.scales))]
    return metric


generator = np.random.default_rng(0)
noise = Image.fromarray(generator.integers(0, 255, (6, 6, 3), dtype=np.uint8))
smooth = np.asarray(noise.resize((240, 240), Image.Resampling.BICUBIC))
original = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
changed = np.asarray(Image.fromarray(original).filter(ImageFilter.GaussianBlur(1)))

print(f"ssimulacra2 {version('ssimulacra2')}: a grainy picture and the same blurred, cropped")
print("side   score  each weight at its scale")
found = {side: scores(side) for side in (226, 225, 224, 223)}
for side, (plain, aligned) in found.items():
    print(f"{side}  {plain:6.2f}  {aligned:6.2f}")
steps = [abs(found[side][0] - found[side - 1][0]) for side in (226, 225, 224)]
sys.exit(0 if steps[1] > 10 > 4 > max(steps[0], steps[2]) else 1)
PYTHON
# Seen on 2026-11-30 with Python 3.11:
#   ssimulacra2 0.3.0: a grainy picture and the same blurred, cropped
#   side   score  each weight at its scale
#   226   76.92   76.92
#   225   75.19   75.19
#   224   61.08   77.94
#   223   61.03   77.80
