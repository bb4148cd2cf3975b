"""Pictures a second through a model of Stable Diffusion v1.4's size in batches, against the plain way, in one run.

The plain way is that of the article's notebook: one picture after another through diffusers' own AutoencoderKL and,
for decoding, four steps of DDIM with its U-Net, in the same precision, as diffusers loads them. Between files it calls
the palette codec in between. Ours are the models' interfaces between pixels and latents, and encode_batch and
decode_batch between pictures and files. Everything begins and ends in the memory of the CPU.

Multiplied with the arithmetic of the networks, attention included, which torch counts, pictures a second are a rate
that the device computes at; it is shown as a fraction of that at which it multiplies large random matrices in bfloat16.

The weights are random (benchmarks/full_size_pipeline.py makes them, once): only times mean something.

python benchmarks/gpu.py [--batches 1 8 32] [--pictures 64] [--compile]
python benchmarks/gpu.py --tiny --device cpu --side 256 --pictures 4 --batches 1 2   # does it work?
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timing
from full_size_pipeline import TINY, V1_4, is_complete, made_up_picture, save_pipeline
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.format.codecs import PaletteCodec
from pillow_sdc.models import Models, denoise, get_models

STEPS = 4
NOISE_VARIANCE = 0.035
PLAIN_SCHEDULE = 90
"""Number of steps over all timesteps with which the last four are 34, 23, 12 and 1, about those of real pictures."""

WARM_UPS = 3
"""Runs before a measurement; with --compile the second or third compiles."""

MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
MULTIPLICATIONS = 20
OUTPUT_WIDTH = 160  # of output that is not a terminal

Array = NDArray[np.float32]


class PlainModels:
    """diffusers' own models and scheduler, for one picture at a time."""

    def __init__(self, directory: Path, device: str, dtype: str) -> None:
        import torch
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

        self._device, self._dtype = device, getattr(torch, dtype)
        how: dict[str, Any] = {"torch_dtype": self._dtype, "variant": "fp16" if dtype == "float16" else None}
        self.vae = AutoencoderKL.from_pretrained(directory / "vae", **how).to(device)
        self.unet = UNet2DConditionModel.from_pretrained(directory / "unet", **how).to(device)
        self._scheduler = DDIMScheduler.from_pretrained(directory / "scheduler")
        self._scheduler.set_timesteps(PLAIN_SCHEDULE)
        self._prompt = torch.zeros(1, 77, self.unet.config.cross_attention_dim, device=device, dtype=self._dtype)

    def encode(self, pixels: Array) -> Array:
        """Return the latents ``(4, h, w)`` of pixels ``(3, 8h, 8w)``."""
        import torch

        with torch.no_grad():
            latents = self.vae.encode(self._on_device(pixels)).latent_dist.mode() * self.vae.config.scaling_factor
            return latents[0].float().cpu().numpy()  # type: ignore[no-any-return]

    def decode(self, latents: Array) -> Array:
        """Return the pixels ``(3, 8h, 8w)`` of latents ``(4, h, w)``, denoised."""
        import torch

        with torch.no_grad():
            x = self._on_device(latents)
            for timestep in self._scheduler.timesteps[-STEPS:]:
                noise = self.unet(x, timestep, encoder_hidden_states=self._prompt).sample
                x = self._scheduler.step(noise, timestep, x).prev_sample
            pixels = self.vae.decode(x / self.vae.config.scaling_factor).sample
            return pixels[0].clamp(-1, 1).float().cpu().numpy()  # type: ignore[no-any-return]

    def _on_device(self, array: Array) -> Any:
        import torch

        return torch.from_numpy(array)[None].to(self._device, self._dtype)


@dataclass(frozen=True)
class Work:
    """Something that is done to pictures in two ways.

    Attributes:
        name: For the tables.
        plainly: Does it to the picture of this number.
        in_batches: Does it to so many pictures, of which so many go through the model together.
        flops: Floating-point operations of the networks for each picture.
    """

    name: str
    plainly: Callable[[int], object]
    in_batches: Callable[[int, int], object]
    flops: int


def works(plain: PlainModels, models: Models, side: int, pictures: int) -> list[Work]:
    """Return what is to be done, to pictures, latents and files made for it."""
    samples = [np.asarray(Image.fromarray(made_up_picture(seed)).resize((side, side))) for seed in range(pictures)]
    pixels = np.stack([to_pixels(picture) for picture in samples])
    latents = np.concatenate([models.autoencoder.encode(pixels[i : i + 1]) for i in range(pictures)])
    payloads = [PaletteCodec().encode(one) for one in latents]
    files = pillow_sdc.encode_batch(samples)
    decoded = pillow_sdc.decode(files[0]).info["sdc"]
    if decoded["denoise_steps"] != STEPS:
        raise ValueError(f"the pictures are not denoised: {decoded}")
    denoiser = models.denoiser
    assert denoiser is not None  # noqa: S101 - the pipeline has a U-Net

    def encode_pixels(count: int, batch: int) -> None:
        for start in range(0, count, batch):
            models.autoencoder.encode(pixels[start : start + batch])

    def decode_latents(count: int, batch: int) -> None:
        variances = np.full(batch, NOISE_VARIANCE)
        for start in range(0, count, batch):
            clean = denoise(latents[start : start + batch], variances, denoiser, STEPS)
            models.autoencoder.decode(clean)

    encoding, decoding, evaluation = count_operations(plain, side)
    return [
        Work("pixels to latents", lambda i: plain.encode(pixels[i]), encode_pixels, encoding),
        Work(
            f"latents to pixels, {STEPS} steps",
            lambda i: plain.decode(latents[i]),
            decode_latents,
            STEPS * evaluation + decoding,
        ),
        Work(
            "pictures to files",
            lambda i: PaletteCodec().encode(plain.encode(to_pixels(samples[i]))),
            lambda count, batch: pillow_sdc.encode_batch(samples[:count], batch_size=batch),
            encoding,
        ),
        Work(
            f"files to pictures, {STEPS} steps",
            lambda i: to_picture(plain.decode(PaletteCodec.decode(payloads[i], side // 8, side // 8).latents)),
            lambda count, batch: pillow_sdc.decode_batch(files[:count], batch_size=batch),
            STEPS * evaluation + decoding,
        ),
    ]


def to_pixels(samples: NDArray[np.uint8]) -> Array:
    return np.ascontiguousarray(np.moveaxis(samples.astype(np.float32) / 127.5 - 1, 2, 0))


def to_picture(pixels: Array) -> Image.Image:
    return Image.fromarray(((np.moveaxis(pixels, 0, 2) + 1) * 127.5).round().astype(np.uint8))


def count_operations(plain: PlainModels, side: int) -> tuple[int, int, int]:
    """Return those of encoding and decoding a picture and of an evaluation of the U-Net; nothing is computed."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), torch.no_grad():
        vae, unet = (type(network).from_config(network.config) for network in (plain.vae, plain.unet))
        latents = torch.empty(1, 4, side // 8, side // 8)
        prompt = torch.empty(1, 77, unet.config.cross_attention_dim)
        counts = []
        for act in (
            lambda: vae.encode(torch.empty(1, 3, side, side)),
            lambda: vae.decode(latents),
            lambda: unet(latents, torch.zeros(1), prompt),
        ):
            with FlopCounterMode(display=False) as counter:
                act()
            counts.append(counter.get_total_flops())
    encoding, decoding, evaluation = counts
    return encoding, decoding, evaluation


def matrix_rate(device: str) -> float:
    """Return the operations a second of multiplying large random matrices in bfloat16."""
    import torch

    side = MATRIX_SIDE["cuda" if device.startswith("cuda") else "cpu"]
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))

    def multiply(times: int) -> float:
        for _ in range(times):
            product = a @ b
        return product[0, 0].item()  # type: ignore[no-any-return]

    return MULTIPLICATIONS * 2 * side**3 / seconds(partial(multiply, 1), partial(multiply, MULTIPLICATIONS))


def seconds(warm_up: Callable[[], object], act: Callable[[], object]) -> float:
    """Return how long something takes that ends on the CPU, after :data:`WARM_UPS` of a small part of it."""
    for _ in range(WARM_UPS):
        warm_up()
    return timing.seconds(act)


def one_by_one(act: Callable[[int], object], count: int) -> None:
    for i in range(count):
        act(i)


def measure(directory: Path, arguments: argparse.Namespace) -> None:
    """Measure all works and print the tables."""
    pictures = max(arguments.pictures, *arguments.batches)
    models = get_models(pillow_sdc.settings())
    plain = PlainModels(directory, models.device, models.dtype)
    peak = matrix_rate(models.device)
    headings = ["plain way", *(f"batches of {batch}" for batch in arguments.batches)]
    rates = Table("pictures a second (times the plain way's)", *headings)
    fractions = Table("% of the matrix rate", *headings, "TFLOP a picture")
    for work in works(plain, models, arguments.side, pictures):
        plainly = pictures / seconds(partial(work.plainly, 0), partial(one_by_one, work.plainly, pictures))
        together = []
        for batch in arguments.batches:
            count = pictures // batch * batch
            warm_up, act = partial(work.in_batches, batch, batch), partial(work.in_batches, count, batch)
            together.append(count / seconds(warm_up, act))
        rates.add_row(work.name, f"{plainly:.2f}", *(f"{rate:.2f} ({rate / plainly:.2f})" for rate in together))
        percent = (f"{100 * rate * work.flops / peak:.1f}" for rate in (plainly, *together))
        fractions.add_row(work.name, *percent, f"{work.flops / 1e12:.3g}")
    console = Console() if sys.stdout.isatty() else Console(width=OUTPUT_WIDTH)
    console.print(rates, fractions)
    compiled = ", compiled" if models.compiled else ""
    console.print(
        f"{pictures} pictures of {arguments.side}×{arguments.side}, {models.dtype}{compiled}", highlight=False
    )
    console.print(f"matrix rate: {peak / 1e12:.4g} TFLOP/s; {machine(models.device)}", highlight=False)


def machine(device: str) -> str:
    """Return what computes."""
    import diffusers
    import torch

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    if not device.startswith("cuda"):
        return f"{torch.get_num_threads()} threads, {versions}"
    memory = torch.cuda.max_memory_allocated(device) / 2**30
    return f"{torch.cuda.get_device_name(device)}, {versions}, at most {memory:.1f} GiB allocated on it"


def main() -> None:
    """Build the pipeline where it is missing, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="name of a torch device (default: %(default)s)")
    parser.add_argument(
        "--side", type=int, default=512, help="of the pictures, a multiple of 8, at least 256 (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="(default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=64, help="in each measurement (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="with the setting compile")
    parser.add_argument("--tiny", action="store_true", help="measure a tiny model, to try this benchmark out")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("checkpoints", "full-size-sd-v1"),
        help="holds the pipelines, one folder for each dtype; made if missing, 4 and 2 GB (default: %(default)s)",
    )
    arguments = parser.parse_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pillow_sdc").setLevel(logging.INFO)  # which tells of overflows, for instance
    dtype = "float16" if arguments.device.startswith("cuda") else "float32"
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HOME": folder, "HF_HUB_OFFLINE": "1"}  # where the encoding of the empty prompt is kept
        directory = Path(folder, "tiny") if arguments.tiny else arguments.directory / dtype
        if not is_complete(directory):
            print(f"building {directory}", flush=True)
            save_pipeline(directory, dtype, TINY if arguments.tiny else V1_4)
        settings: dict[str, Any] = {"device": arguments.device, "denoise_steps": STEPS, "compile": arguments.compile}
        with pillow_sdc.configure(model=directory, **settings):
            measure(directory, arguments)


if __name__ == "__main__":
    main()
