"""Pictures a second through a model of Stable Diffusion v1.4's size in batches, against the plain way, in one run.

The plain way is that of the article's notebook: one picture after another through diffusers' own AutoencoderKL and,
for decoding, four steps of DDIM with its U-Net, in the same precision, as diffusers loads them. Between files it calls
the palette codec in between. Ours are the models' interfaces between pixels and latents, and encode_batch and
decode_batch between pictures and files. Everything begins and ends in the memory of the CPU.

Multiplied with the arithmetic of the networks, attention included, which torch counts, pictures a second are a rate
that the device computes at; it is shown as a fraction of that at which it multiplies large random matrices in bfloat16.
Compiled networks are measured in the first dtype, between pixels and latents, in the smallest and the largest batches.

A batch is also decoded with less memory than it needs, which has to be tried in halves; and the embedded model is asked
for the device. ``make gpu`` does all this after the tests marked ``cuda``, in six minutes at most.

The weights are random (benchmarks/full_size_pipeline.py makes them, once): only times mean something.

python benchmarks/gpu.py [--batches 1 8 32] [--pictures 32] [--json FILE]
python benchmarks/gpu.py --tiny --device cpu --side 256 --pictures 4 --batches 1 4   # does it work?
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timing
from full_size_pipeline import TINY, V1_4, is_complete, made_up_picture, save_pipeline
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

import pillow_sdc
from pillow_sdc.errors import ModelFailedError
from pillow_sdc.format.codecs import PaletteCodec
from pillow_sdc.models import Models, denoise, get_models
from pillow_sdc.models.diffusion import diffusers_models

STEPS = 4
NOISE_VARIANCE = 0.035
PLAIN_SCHEDULE = 90
"""Number of steps over all timesteps with which the last four are 34, 23, 12 and 1, about those of real pictures."""

WARM_UPS = 3
"""Runs before a measurement; where networks are compiled, the second or third does that."""

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
        how: dict[str, Any] = {"torch_dtype": self._dtype, "variant": "fp16"}
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

    def forget(self) -> None:
        """Release the networks."""
        del self.vae, self.unet

    def _on_device(self, array: Array) -> Any:
        import torch

        return torch.from_numpy(array)[None].to(self._device, self._dtype)


@dataclass(frozen=True)
class Work:
    """Something that is done to pictures in two ways.

    Attributes:
        name: For the tables.
        plainly: Does it to the picture of this number.
        in_batches: Does it, by models, to so many pictures, of which so many go through the model together.
        flops: Floating-point operations of the networks for each picture.
    """

    name: str
    plainly: Callable[[int], object]
    in_batches: Callable[[Models, int, int], object]
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

    def encode_pixels(models: Models, count: int, batch: int) -> None:
        for start in range(0, count, batch):
            models.autoencoder.encode(pixels[start : start + batch])

    def decode_latents(models: Models, count: int, batch: int) -> None:
        denoiser, variances = models.denoiser, np.full(batch, NOISE_VARIANCE)
        assert denoiser is not None  # noqa: S101 - the pipeline has a U-Net
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
            lambda models, count, batch: pillow_sdc.encode_batch(samples[:count], batch_size=batch),
            encoding,
        ),
        Work(
            f"files to pictures, {STEPS} steps",
            lambda i: to_picture(plain.decode(PaletteCodec.decode(payloads[i], side // 8, side // 8).latents)),
            lambda models, count, batch: pillow_sdc.decode_batch(files[:count], batch_size=batch),
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


def seconds(warm_up: Callable[[], object], act: Callable[[], object], warm_ups: int = WARM_UPS) -> float:
    """Return how long something takes that ends on the CPU, after some runs of a small part of it."""
    for _ in range(warm_ups):
        warm_up()
    return timing.seconds(act)


def one_by_one(act: Callable[[int], object], count: int) -> None:
    for i in range(count):
        act(i)


@dataclass(frozen=True)
class Row:
    """How fast a work is done.

    Attributes:
        work: What is done.
        dtype: What the networks compute in.
        compiled: Whether they are compiled.
        plain: Pictures a second of the plain way, uncompiled.
        batches: Pictures a second, by how many of them go through the model together.
        operations: Floating-point operations of the networks for each picture.
        peak: Bytes of the device that were allocated at most; ``None`` if it does not say.
    """

    work: str
    dtype: str
    compiled: bool
    plain: float
    batches: Mapping[int, float]
    operations: int
    peak: int | None


def measure(
    some: Sequence[Work], models: Models, plain: Mapping[str, float], batches: Sequence[int], pictures: int, end: float
) -> list[Row]:
    """Do works in batches, as long as there is time; what is not begun before the end is left out."""
    rows = []
    for work in some:
        rates = {}
        reset_peak(models.device)
        for batch in batches:
            if time.monotonic() > end:
                print(f"no time for {work.name} in batches of {batch}, {models.dtype}", flush=True)
                continue
            count = pictures // batch * batch
            warm_up, act = (
                partial(work.in_batches, models, batch, batch),
                partial(work.in_batches, models, count, batch),
            )
            rates[batch] = count / seconds(warm_up, act)
        peak = peak_of(models.device)
        rows.append(Row(work.name, models.dtype, models.compiled, plain[work.name], rates, work.flops, peak))
    return rows


def measure_plainly(some: Sequence[Work], pictures: int) -> dict[str, float]:
    """Return the pictures a second of the plain way, by the names of works."""
    return {
        work.name: pictures / seconds(partial(work.plainly, 0), partial(one_by_one, work.plainly, pictures))
        for work in some
    }


def measure_embedded(device: str, side: int, batches: Sequence[int], pictures: int) -> dict[str, Any]:
    """Return where the embedded model computes when a device is asked for, and its pictures a second."""
    with pillow_sdc.configure(model="compact", device=device):
        models = get_models(pillow_sdc.settings())
        samples = [np.asarray(Image.fromarray(made_up_picture(seed)).resize((side, side))) for seed in range(pictures)]
        files = pillow_sdc.encode_batch(samples)
        found: dict[str, Any] = {"device": models.device}
        for batch in batches:
            for name, act in (
                ("encode", partial(pillow_sdc.encode_batch, samples, batch_size=batch)),
                ("decode", partial(pillow_sdc.decode_batch, files, batch_size=batch)),
            ):
                found[f"{name}, batches of {batch}"] = pictures / seconds(act, act, warm_ups=1)
        return found


def halve(models: Models, side: int, batch: int) -> dict[str, Any]:
    """Decode a batch with memory for a quarter of it; return the sizes tried, and how far pictures are from before.

    On CUDA the memory is capped; elsewhere the U-Net refuses what is larger. Meanwhile the autoencoder takes single
    pictures, for eight at a time need more memory than the whole batch does in the U-Net.

    Raises:
        SystemExit: The batch was not halved.
    """
    import torch

    least = max(1, batch // 4)
    samples = [np.asarray(Image.fromarray(made_up_picture(seed)).resize((side, side))) for seed in range(batch)]
    files = pillow_sdc.encode_batch(samples, palette_size=16)
    on_cuda = models.device.startswith("cuda")
    number = torch.device(models.device).index or 0  # which setting a limit wants, unlike the functions around it
    single = mock.patch.object(diffusers_models, "PIXELS_IN_A_PASS_ON_ACCELERATORS", side * side)
    reset_peak(models.device)
    with single:
        expected = [np.asarray(picture, int) for picture in pillow_sdc.decode_batch(files, batch_size=least)]
    peak = peak_of(models.device)
    denoiser: Any = models.denoiser
    predict, sizes = type(denoiser).predict_noise, []

    def note(self: Any, diffused: Array, timestep: Any) -> Array:
        sizes.append(len(diffused))
        if not on_cuda and len(diffused) > least:
            raise ModelFailedError("memory ran out, it is said")
        result: Array = predict(self, diffused, timestep)
        return result

    if on_cuda:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(models.device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, 1.15 * (peak or total) / total), number)
    try:
        with single, mock.patch.object(type(denoiser), "predict_noise", note):
            pictures = pillow_sdc.decode_batch(files, batch_size=batch)
    finally:
        if on_cuda:
            torch.cuda.set_per_process_memory_fraction(1.0, number)
    if max(sizes) == min(sizes):
        raise SystemExit(f"a batch of {batch} was not halved, for there was memory for all of it")
    distance = max(int(abs(np.asarray(one, int) - other).max()) for one, other in zip(pictures, expected, strict=True))
    return {"batch": batch, "sizes": sorted(set(sizes), reverse=True), "largest difference": distance}


def reset_peak(device: str) -> None:
    """Forget how much memory of a device was allocated at most so far."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)


def peak_of(device: str) -> int | None:
    """Return the most bytes of a device that were allocated at a time; ``None`` if it does not say."""
    import torch

    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None


def table_of(rows: Sequence[Row], batches: Sequence[int], matrix_rate: float) -> Table:
    """Return the table of pictures a second."""
    headings = [f"batches of {batch}" for batch in batches]
    table = Table("pictures a second (times the plain way's)", "dtype", "plain way", *headings, "% of rate", "GiB")
    for row in rows:
        rates = [row.batches.get(batch) for batch in batches]
        cells = ["–" if rate is None else f"{rate:.2f} ({rate / row.plain:.2f})" for rate in rates]
        share = 100 * max(row.batches.values(), default=0) * row.operations / matrix_rate
        peak = "–" if row.peak is None else f"{row.peak / 2**30:.1f}"
        dtype = row.dtype + (", compiled" if row.compiled else "")
        table.add_row(row.work, dtype, f"{row.plain:.2f}", *cells, f"{share:.1f}", peak)
    return table


def machine(device: str) -> str:
    """Return what computes."""
    import diffusers
    import torch

    versions = f"torch {torch.__version__}, diffusers {diffusers.__version__}"
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{torch.get_num_threads()} threads"
    return f"{name}, {versions}"


def run(arguments: argparse.Namespace, folder: Path, end: float) -> dict[str, Any]:
    """Measure everything, print it, and return it."""
    directory = folder / "tiny" if arguments.tiny else arguments.directory
    if not is_complete(directory):
        print(f"building {directory}", flush=True)
        save_pipeline(directory, "float16", TINY if arguments.tiny else V1_4)
    pictures = max(arguments.pictures, *arguments.batches)
    rows: list[Row] = []
    found: dict[str, Any] = {}
    fixed: dict[str, Any] = {"model": directory, "device": arguments.device, "denoise_steps": STEPS}
    for dtype in arguments.dtypes:
        with pillow_sdc.configure(**fixed, dtype=dtype):
            models = get_models(pillow_sdc.settings())
            plain_models = PlainModels(directory, models.device, dtype)
            matrix = found.setdefault("matrix rate", matrix_rate(models.device))
            some = works(plain_models, models, arguments.side, pictures)
            plain = measure_plainly(some, pictures)
            plain_models.forget()
            rows += measure(some, models, plain, arguments.batches, pictures, end)
            if "halving" not in found:
                found["halving"] = halve(models, arguments.side, max(arguments.batches))
        if arguments.compile and dtype == arguments.dtypes[0]:
            with pillow_sdc.configure(**fixed, dtype=dtype, compile=True):
                models = get_models(pillow_sdc.settings())
                ends = sorted({min(arguments.batches), max(arguments.batches)})
                latents = [work for work in some if "latents" in work.name]
                rows += measure(latents[::-1], models, plain, ends, pictures, end)
    found["embedded"] = measure_embedded(arguments.device, arguments.side, [1, max(arguments.batches)], pictures)
    found |= {"machine": machine(models.device), "pictures": pictures, "side": arguments.side}
    console = Console() if sys.stdout.isatty() else Console(width=OUTPUT_WIDTH)
    console.print(table_of(rows, arguments.batches, matrix))
    for name, figures in found.items():
        console.print(f"{name}: {figures}", highlight=False)
    return found | {"rows": [asdict(row) for row in rows]}


def main() -> None:
    """Test on CUDA, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="name of a torch device (default: %(default)s)")
    parser.add_argument(
        "--side", type=int, default=512, help="of the pictures, a multiple of 8, at least 256 (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32], help="(default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=32, help="in each measurement (default: %(default)s)")
    parser.add_argument("--dtypes", nargs="+", default=["float16", "bfloat16"], help="(default: %(default)s)")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=True, help="the first dtype compiled, too"
    )
    parser.add_argument("--tests", action="store_true", help="run the tests that are marked cuda first")
    parser.add_argument("--minutes", type=float, default=6.0, help="begin nothing after that (default: %(default)s)")
    parser.add_argument("--tiny", action="store_true", help="measure a tiny model, to try this benchmark out")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("checkpoints", "full-size-sd-v1", "float16"),
        help="holds the pipeline; made if missing, 2 GB (default: %(default)s)",
    )
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    import torch

    if arguments.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} finds no CUDA here; --tiny --device cpu tries the benchmark out")
    if arguments.tests:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", str(Path(__file__).parent.parent / "tests")]
        if code := subprocess.run(tests, check=False).returncode:
            raise SystemExit(code)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("pillow_sdc").setLevel(logging.INFO)  # which tells of overflows, for instance
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"HF_HOME": folder, "HF_HUB_OFFLINE": "1"}  # where the encoding of the empty prompt is kept
        found = run(arguments, Path(folder), end)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
