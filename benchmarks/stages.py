"""The time of one core for each stage of a picture, and the number of cores that a GPU keeps busy.

Everything runs in one thread. The model is the embedded one, measured here. The rate of a GPU with Stable Diffusion
v1.4 is computed (1.12 TFLOP to encode 512×512 pixels, 2.51 to decode them, 0.80 for each of the U-Net's four
evaluations, as ``benchmarks/gpu.py`` counts them) over the given rate, unless measured rates are given.

python benchmarks/stages.py FOLDER [--pictures N] [--tflops RATE] [--gpu-encodes PER_SECOND] [--gpu-decodes PER_SECOND]
"""

import argparse
import io
import itertools
import statistics
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits
from timing import timed

from pillow_sdc.format import container
from pillow_sdc.format.codecs import CODECS
from pillow_sdc.models import get_models
from pillow_sdc.options import Settings
from pillow_sdc.runtime.threads import use_cores

Result = TypeVar("Result")

SIDE = 512
ENCODE_TFLOP, DECODE_TFLOP = 1.12, 2.51 + 4 * 0.80


class Clock:
    """Gathers the milliseconds that stages take, picture by picture."""

    def __init__(self) -> None:
        self.durations: dict[str, list[float]] = defaultdict(list)

    def __call__(self, stage: str, act: Callable[[], Result]) -> Result:
        duration, result = timed(act)
        self.durations[stage].append(1e3 * duration)
        return result


def as_file(picture: Image.Image, file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def measure(paths: list[Path]) -> Clock:
    clock = Clock()
    model = get_models(Settings(model="compact", device="cpu")).autoencoder
    for path in paths:
        original = Image.open(path).convert("RGB").resize((SIDE, SIDE))
        jpeg = as_file(original, "JPEG", quality=90)
        samples = clock("read a JPEG", lambda jpeg=jpeg: np.asarray(Image.open(io.BytesIO(jpeg))))
        pixels = np.ascontiguousarray(samples.transpose(2, 0, 1), np.float32) / 127.5 - 1
        latents = clock("encode, embedded model", lambda pixels=pixels: model.encode(pixels))
        for codec_class in CODECS:
            codec, name = codec_class(), codec_class.name
            header = container.Header(SIDE, SIDE, "RGB", name)
            payload = clock(f"{name}, encode", lambda codec=codec, latents=latents: codec.encode(latents))
            data = container.write(header, payload)
            clock(f"{name}, check all of a file", lambda data=data: Image.open(io.BytesIO(data)).verify())
            quantised = clock(
                f"{name}, decode",
                lambda codec=codec, payload=payload, latents=latents: codec.decode(payload, *latents.shape[1:]),
            )
        decoded = clock(
            "decode, embedded model",
            lambda quantised=quantised: model.decode(quantised.latents, quantised.noise_variance),
        )
        picture = Image.fromarray(((decoded + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0))
        clock("write a JPEG", lambda picture=picture: as_file(picture, "JPEG", quality=90))
        clock("write a PNG", lambda picture=picture: as_file(picture, "PNG"))
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--tflops", type=float, default=0.35 * 790, help="what the GPU does of such arithmetic")
    parser.add_argument("--gpu-encodes", type=float, help="pictures a second, as measured")
    parser.add_argument("--gpu-decodes", type=float, help="pictures a second, as measured")
    arguments = parser.parse_args()
    use_cores(1)
    paths = list(itertools.islice(itertools.cycle(sorted(arguments.folder.glob("*.png"))), arguments.pictures + 1))
    with threadpool_limits(1):
        measure(paths[:1])  # what is imported and built at first use is so now
        clock = measure(paths[1:])
    encodes = arguments.gpu_encodes or arguments.tflops / ENCODE_TFLOP
    decodes = arguments.gpu_decodes or arguments.tflops / DECODE_TFLOP
    table = Table("stage", "ms", "pictures an hour and core", "core-hours a million", "cores for one GPU")
    for stage, durations in clock.durations.items():
        milliseconds = statistics.mean(durations)
        rate = decodes if "decode" in stage or "write" in stage else encodes
        cores = "" if "embedded" in stage else f"{rate * milliseconds / 1000:.1f}"
        hourly = 3.6e6 / milliseconds
        table.add_row(stage, f"{milliseconds:.1f}", f"{hourly:,.0f}", f"{1e6 / hourly:,.1f}", cores)
    console = Console()
    console.print(table)
    console.print(f"GPU: {encodes:.0f} encodes or {decodes:.0f} decodes a second")


if __name__ == "__main__":
    main()
