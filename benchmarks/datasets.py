"""Training samples per core and second: latents and pixels of ``.sdc`` files, against pixels of JPEG, in one run.

python benchmarks/datasets.py FOLDER [--pictures N] [--rounds N] [--treated MODEL]

Each picture of the folder is made 512×512 pixels. Latents are ready for a U-Net; pixels have yet to be encoded. Seconds
are those that the core computed, without those in which it was another program's.

With --treated it shows instead how far latents that are cropped or mirrored are from those that the model encodes from
pixels so treated, as mean squared errors, beside what the codec ``palette`` leaves.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from torch.utils.data import Dataset

import pillow_sdc
from pillow_sdc.datasets import SdcFiles
from pillow_sdc.format.codecs import PaletteCodec
from pillow_sdc.models import get_models
from pillow_sdc.options import Settings

SIDE = 512
FILES: dict[str, tuple[str, dict[str, Any]]] = {
    "palette": ("sdc", {}),
    "context": ("sdc", {"quality": 40}),
    "JPEG": ("jpg", {"quality": 90}),
}


class JpegFiles(Dataset[torch.Tensor]):
    """Pixels as float32 (3, H, W) in [−1, 1]."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self.paths[index]) as image:
            samples = np.array(image.convert("RGB"))
        return torch.from_numpy(samples).permute(2, 0, 1).contiguous().float().div_(127.5).sub_(1)


def write(photos: Sequence[Path], count: int, folder: Path) -> None:
    for number, path in enumerate(itertools.islice(itertools.cycle(photos), count)):
        with Image.open(path) as photo:
            picture = photo.convert("RGB").resize((SIDE, SIDE))
        for name, (suffix, options) in FILES.items():
            (folder / name).mkdir(exist_ok=True)
            picture.save(folder / name / f"{number:04}.{suffix}", **options)


def rate(dataset: Any) -> float:
    """Return samples a second of computing, in one thread."""

    def read_all() -> None:
        for index in range(len(dataset)):
            dataset[index]

    return len(dataset) / timing.seconds(read_all, time.process_time)


def compare_treated(console: Console, photos: Sequence[Path], model: str) -> None:
    encode = get_models(Settings(model=model, device="cpu")).autoencoder.encode
    errors: dict[str, list[float]] = defaultdict(list)
    for path in photos:
        with Image.open(path) as photo:
            samples = np.asarray(photo.convert("RGB").resize((SIDE, SIDE)), np.float32)
        pixels = samples.transpose(2, 0, 1) / 127.5 - 1
        latents = encode(pixels)
        quarter = SIDE // 4
        middle = latents[:, quarter // 8 : -quarter // 8, quarter // 8 : -quarter // 8]
        difference = np.square(middle - encode(pixels[:, quarter:-quarter, quarter:-quarter]))
        quantised = PaletteCodec.decode(PaletteCodec().encode(latents), *latents.shape[1:]).latents
        errors["the latents' own variance"].append(float(latents.var()))
        errors["the middle half of both sides"].append(float(difference.mean()))
        errors["the same but for a border of four"].append(float(difference[:, 4:-4, 4:-4].mean()))
        errors["mirrored, left to right"].append(
            float(np.square(latents[..., ::-1] - encode(np.ascontiguousarray(pixels[..., ::-1]))).mean())
        )
        errors["for comparison: the codec palette"].append(float(np.square(quantised - latents).mean()))
    table = Table(f"{len(photos)} photographs, {model}", "mean squared error")
    for name, each in errors.items():
        table.add_row(name, f"{statistics.mean(each):.2g}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--treated", metavar="MODEL")
    arguments = parser.parse_args()
    console = Console(width=110)
    pillow_sdc.configure(model="compact", device="cpu")
    torch.set_num_threads(1)
    photos = sorted(path for path in arguments.folder.iterdir() if path.suffix in {".jpg", ".png", ".webp"})
    if arguments.treated:
        compare_treated(console, photos, arguments.treated)
        return
    with tempfile.TemporaryDirectory() as directory, threadpool_limits(1):
        folder = Path(directory)
        write(photos, arguments.pictures, folder)
        datasets: dict[str, Any] = {
            "JPEG, pixels": JpegFiles(folder / "JPEG"),
            "palette, latents": SdcFiles(folder / "palette"),
            "context, latents": SdcFiles(folder / "context"),
            "palette, pixels by compact": SdcFiles(folder / "palette", content="pixels"),
        }
        for dataset in datasets.values():
            dataset[0]  # what is imported and built at first use is so now
        rates = timing.in_turn({name: partial(rate, dataset) for name, dataset in datasets.items()}, arguments.rounds)
        sizes = {name: sum(file.stat().st_size for file in (folder / name).iterdir()) for name in FILES}
    table = Table(
        f"{arguments.pictures} pictures of {SIDE}×{SIDE}",
        "bytes a picture",
        "samples/s, median",
        "to JPEG: median, range",
    )
    reference = rates["JPEG, pixels"]
    for name, each in rates.items():
        ratios = [one / other for one, other in zip(each, reference, strict=True)]
        size = sizes[name.partition(",")[0]] / arguments.pictures
        spread = f"{statistics.median(ratios):.3g}, {min(ratios):.3g} to {max(ratios):.3g}"
        table.add_row(name, f"{size:,.0f}", f"{statistics.median(each):,.1f}", spread)
    console.print(table)


if __name__ == "__main__":
    main()
