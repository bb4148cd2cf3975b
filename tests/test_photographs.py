"""Real photographs through the plugin, with the small autoencoder of Stable Diffusion's latent space."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from locations import ROOT
from PIL import Image

import pillow_sdc

PHOTOGRAPHS = 2


def test_the_round_trip_example_keeps_photographs(taesd: Path, dev_photos: list[Path], tmp_path: Path) -> None:
    for path in dev_photos[:PHOTOGRAPHS]:
        shutil.copy(path, tmp_path)
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "round_trip.py", tmp_path, "--model", taesd],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    print(done.stdout)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert [row[0] for row in rows] == [*(path.name for path in dev_photos[:PHOTOGRAPHS]), "mean"]
    for row in rows[:-1]:
        size, latent_error, psnr = int(row[1].replace(",", "")), float(row[2]), float(row[3])
        assert size < 5_000
        assert latent_error < 0.04
        assert psnr > 17
    mean_size, mean_latent_error = int(rows[-1][1].replace(",", "")), float(rows[-1][2])
    assert mean_size <= 4_900
    assert mean_latent_error <= 0.030


def test_the_8_bit_codec_is_all_but_lossless_on_latents(taesd: Path, dev_photos: list[Path]) -> None:
    with pillow_sdc.configure(model=taesd, device="cpu"), Image.open(dev_photos[0]) as photo:
        file = pillow_sdc.encode(np.asarray(photo), codec="uint8")
        error = np.mean((pillow_sdc.read_latents(file) - pillow_sdc.encode_latents(photo)) ** 2)
    assert len(file) <= 14_500
    assert error <= 0.0003
