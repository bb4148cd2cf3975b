"""Figures of the codec ``context`` on a folder of photographs, each beside that of the codec ``palette`` or of theory.

    python benchmarks/context.py FOLDER --model DIRECTORY_OR_HUB_ID [--only SECTION ...] [--variant VARIANT ...]

The sections, in the order of their running:

lossless      payload bytes over the order-0 entropy of the same symbols, each channel of each picture by itself
latent-error  file bytes over the palette's where the latents' mean squared error is no higher
psnr          the same where pictures, decoded plainly by the model, are 0.3 dB nearer to their originals
compact       the same for the embedded model, where mean PSNR, SSIM and Laplacian ratio are all no lower
speed         time of coding a payload, in one thread, and how it grows with the picture
target-size   how many files have the size that was asked for, how much of it is unused, and the time of the search
smallest      bytes of each photograph's file at quality 1 and at the largest step, and how many meet small sizes

Whole files are counted. In each comparison all photographs have the same step, found by bisection: the coarsest with
which the mean over the photographs reaches the goal; the ratio is that of mean bytes to the palette's. The variants of
the codec are named by what is done to latents: ``rounded`` to the nearest value alone, ``both`` is the default. All
tables but that of ``compact`` are of ``--model``.
"""

import argparse
import bisect
import os
import timeit
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

# Before numpy is imported, so that whatever multiplies matrices for it keeps to one thread; torch is free to use more.
os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"))

import numpy as np
from compact import mse
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import timed

from pillow_sdc.format import container
from pillow_sdc.format.codecs import ContextCodec, LatentCodec, PaletteCodec, QuantisedLatents
from pillow_sdc.format.context.codec import COARSEST, FINEST, LARGEST_STEP, step_of
from pillow_sdc.format.context.stream import STEP_UNIT
from pillow_sdc.options import Settings
from pillow_sdc.pipeline.decoding import decode_latents
from pillow_sdc.pipeline.encoding import encode_latents
from pillow_sdc.report.metrics import Samples, laplacian_ratio, psnr, structural_similarity

Latents = NDArray[np.float32]

VARIANTS = {
    "rounded": ContextCodec(trellis=False, weighted=False),
    "weighted": ContextCodec(trellis=False, weighted=True),
    "trellis": ContextCodec(trellis=True, weighted=False),
    "both": ContextCodec(trellis=True, weighted=True),
}
STEPS: list[int] = np.geomspace(FINEST, COARSEST, 2048).round().astype(int).tolist()
"""Among which the coarsest is sought; neighbours differ by 0.2 %."""

LOSSLESS_STEPS = (0.5, 0.7)
PSNR_GAIN = 0.3
LARGE = 8
"""Times that latents are repeated along each side where the growth of time is measured."""
TARGET_SIZES = (1000, 1500, 2000, 3000, 5000)


def main() -> None:
    sections: dict[str, Callable[[Album], Table]] = {
        "lossless": lossless_table,
        "latent-error": latent_error_table,
        "psnr": psnr_table,
        "compact": compact_table,
        "speed": speed_table,
        "target-size": target_size_table,
        "smallest": smallest_table,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--only", nargs="+", choices=sections, default=list(sections), metavar="SECTION")
    parser.add_argument("--variant", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="VARIANT")
    arguments = parser.parse_args()
    settings = Settings(model=arguments.model, device="cpu", denoise_steps=0)
    album = Album(read_photographs(arguments.folder), settings, arguments.variant)
    console = Console()
    console.print(f"{len(album.photos)} photographs")
    for name, tabulate in sections.items():
        if name in arguments.only:
            console.print(tabulate(album))


def read_photographs(folder: Path) -> list[Samples]:
    """Return all pictures of a folder as RGB, in the order of their names."""
    photos = []
    for path in sorted(path for path in folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"}):
        with Image.open(path) as photo:
            photos.append(np.asarray(photo.convert("RGB")))
    return photos


class File(NamedTuple):
    """What a photograph's file takes, and the latents that it gives back."""

    bytes: int
    quantised: QuantisedLatents


class Likeness(NamedTuple):
    """Means over photographs, of what was decoded against the original."""

    psnr: float
    structural_similarity: float
    laplacian_ratio: float


def header_of(photo: Samples, codec: LatentCodec) -> container.Header:
    return container.Header(photo.shape[1], photo.shape[0], "RGB", codec.name)


def file_of(photo: Samples, codec: LatentCodec, payload: bytes) -> File:
    header = header_of(photo, codec)
    return File(len(container.write(header, payload)), codec.decode(payload, *header.latent_shape))


def decode(photo: Samples, quantised: QuantisedLatents, settings: Settings) -> Samples:
    """Return a photograph's picture without any denoiser; the embedded decoder makes use of the noise variance."""
    height, width = photo.shape[:2]
    return decode_latents(quantised, (width, height), settings)


class Album:
    """Photographs, a model's latents of them, and their round trips through codecs; nothing is computed twice."""

    def __init__(self, photos: list[Samples], settings: Settings, variants: Iterable[str] = VARIANTS) -> None:
        self.photos, self.settings, self.variants = photos, settings, list(variants)
        self.latents = [encode_latents(photo, settings) for photo in photos]
        self._in_context: dict[tuple[ContextCodec, int], Trial] = {}

    @cached_property
    def in_palette(self) -> "Trial":
        """The photographs in the codec ``palette``, as it is by default."""
        return self._try(PaletteCodec(), PaletteCodec().encode)

    def in_context(self, codec: ContextCodec, step: int) -> "Trial":
        """Return the photographs in a variant of the codec ``context``."""
        if (codec, step) not in self._in_context:
            trial = self._try(codec, lambda latents: codec.encode_with_step(latents, step))
            self._in_context[codec, step] = trial
        return self._in_context[codec, step]

    def _try(self, codec: LatentCodec, encode: Callable[[Latents], bytes]) -> "Trial":
        pairs = zip(self.photos, self.latents, strict=True)
        return Trial(self, [file_of(photo, codec, encode(latents)) for photo, latents in pairs])


@dataclass(frozen=True)
class Trial:
    """An album's photographs in one codec with one set of options."""

    album: Album
    files: list[File]

    @property
    def bytes(self) -> float:
        return float(np.mean([file.bytes for file in self.files]))

    @cached_property
    def latent_error(self) -> float:
        pairs = zip(self.files, self.album.latents, strict=True)
        return float(np.mean([mse(file.quantised.latents, latents) for file, latents in pairs]))

    @cached_property
    def likeness(self) -> Likeness:
        scores = []
        for photo, file in zip(self.album.photos, self.files, strict=True):
            pair = photo, decode(photo, file.quantised, self.album.settings)
            scores.append((psnr(*pair), structural_similarity(*pair), laplacian_ratio(*pair)))
        return Likeness(*np.mean(scores, axis=0))


def lossless_table(album: Album) -> Table:
    """Show the bits of plainly rounded latents under the context network and the range coder."""
    codec = ContextCodec(trellis=False, weighted=False)
    table = Table("step", "order-0 entropy, bytes", "payload, bytes", "ratio", title="lossless")
    for wanted in LOSSLESS_STEPS:
        step = round(wanted / STEP_UNIT)
        entropy = np.mean([entropy_bytes(np.rint(latents / (step * STEP_UNIT))) for latents in album.latents])
        payload = np.mean([len(codec.encode_with_step(latents, step)) for latents in album.latents])
        table.add_row(f"{wanted}", f"{entropy:,.0f}", f"{payload:,.0f}", f"{payload / entropy:.3f}")
    return table


def entropy_bytes(symbols: Latents) -> float:
    """Return the order-0 entropy of symbols ``(4, h, w)``, of each channel by itself, without the histograms' cost."""
    counts = (np.unique(channel, return_counts=True)[1] for channel in symbols)
    return float(sum(-count @ np.log2(count / count.sum()) for count in counts) / 8)


def latent_error_table(album: Album) -> Table:
    goal = album.in_palette.latent_error
    return comparison_table("latent error no higher", album, lambda trial: trial.latent_error <= goal)


def psnr_table(album: Album) -> Table:
    goal = album.in_palette.likeness.psnr + PSNR_GAIN
    return comparison_table(f"PSNR {PSNR_GAIN} dB higher", album, lambda trial: trial.likeness.psnr >= goal)


def compact_table(album: Album) -> Table:
    """Compare both codecs on latents of the embedded model's own."""
    own = Album(album.photos, Settings(model="compact", device="cpu", denoise_steps=0), album.variants)
    goals = own.in_palette.likeness

    def reaches(trial: Trial) -> bool:
        return all(value >= goal for value, goal in zip(trial.likeness, goals, strict=True))

    return comparison_table("compact end to end, no figure lower", own, reaches)


def comparison_table(title: str, album: Album, reaches: Callable[[Trial], bool]) -> Table:
    """Show the palette, and of each variant the coarsest step that reaches a goal."""
    columns = ("codec", "step", "bytes", "ratio", "latent MSE", "PSNR", "SSIM", "Laplacian")
    table = Table(*columns, title=title)
    table.add_row("palette", "", *figures(album.in_palette))
    for name in album.variants:
        codec = VARIANTS[name]
        trials = partial(album.in_context, codec)
        step = coarsest(trials, reaches)
        found = ("none",) if step is None else (f"{step * STEP_UNIT:.4f}", *figures(trials(step)))
        table.add_row(name, *found)
    return table


def coarsest(trials: Callable[[int], Trial], reaches: Callable[[Trial], bool]) -> int | None:
    """Return the coarsest step that reaches a goal, if any does; all finer ones are taken to reach it as well."""
    too_coarse = bisect.bisect_left(STEPS, True, key=lambda step: not reaches(trials(step)))
    return STEPS[too_coarse - 1] if too_coarse else None


def figures(trial: Trial) -> tuple[str, ...]:
    """Return a trial's cells from its bytes on."""
    likeness = trial.likeness
    return (
        f"{trial.bytes:,.0f}",
        f"{trial.bytes / trial.album.in_palette.bytes:.3f}",
        f"{trial.latent_error:.4f}",
        f"{likeness.psnr:.2f}",
        f"{likeness.structural_similarity:.4f}",
        f"{likeness.laplacian_ratio:.3f}",
    )


def speed_table(album: Album) -> Table:
    """Time the first photograph's payload, and that of its latents side by side; the least of several runs counts."""
    small = album.latents[0]
    large = np.tile(small, (1, LARGE, LARGE))
    codec = ContextCodec()
    step = step_of(codec.quality) * STEP_UNIT
    table = Table("latents", "encode, ms", "decode, ms", title=f"speed, quality {codec.quality} (step {step:.2f})")
    times = np.array([coding_seconds(codec, small, repeats=9), coding_seconds(codec, large, repeats=2)])
    for latents, pair in zip((small, large), times, strict=True):
        table.add_row(f"{latents.shape[1]}×{latents.shape[2]}", *(f"{1e3 * value:,.0f}" for value in pair))
    table.add_row("ratio", *(f"{ratio:.1f}" for ratio in times[1] / times[0]))
    return table


def coding_seconds(codec: ContextCodec, latents: Latents, repeats: int) -> tuple[float, float]:
    """Return the time that a payload takes to be written, and to be read."""
    payload = codec.encode(latents)

    def seconds(run: Callable[[], object]) -> float:
        return min(timeit.repeat(run, number=1, repeat=repeats))

    encoding = seconds(lambda: codec.encode(latents))
    return encoding, seconds(lambda: codec.decode(payload, *latents.shape[1:]))


def target_size_table(album: Album) -> Table:
    table = Table("bytes asked for", "met by", "unused, mean", "unused, most", "search, s", title="target size")
    for size in TARGET_SIZES:
        room = container.Envelope.of(container.Header(512, 512, "RGB", ContextCodec.name)).payload_room(size)
        span, payloads = timed(lambda: [ContextCodec().encode_within(latents, room) for latents in album.latents])  # noqa: B023
        unused = np.array([room - len(payload) for payload in payloads if len(payload) <= room]) / size
        met = f"{len(unused)} of {len(payloads)}"
        table.add_row(f"{size:,}", met, f"{unused.mean():.2%}", f"{unused.max():.2%}", f"{span / len(payloads):.2f}")
    return table


def smallest_table(album: Album) -> Table:
    """Tabulate the photographs' files; the error is that of latents, beside what the decoder takes it to be."""
    codec = ContextCodec()
    table = Table(
        "photograph", "bytes at quality 1", "at the largest step", "error", "estimated error", title="smallest files"
    )
    sizes = []
    for number, (photo, latents) in enumerate(zip(album.photos, album.latents, strict=True)):
        files = [file_of(photo, codec, codec.encode_with_step(latents, step)) for step in (COARSEST, LARGEST_STEP)]
        sizes.append([file.bytes for file in files])
        quantised = files[-1].quantised
        error = f"{mse(quantised.latents, latents):.3f}"
        table.add_row(f"{number}", *(f"{file.bytes:,}" for file in files), error, f"{quantised.noise_variance:.3f}")
    table.add_section()
    for name, summarise in (("fewest", np.min), ("mean", np.mean), ("most", np.max)):
        table.add_row(name, *(f"{figure:,.0f}" for figure in summarise(sizes, axis=0)))
    for size in TARGET_SIZES[:2]:
        met = (np.array(sizes) <= size).mean(axis=0)
        table.add_row(f"within {size:,}", *(f"{share:.0%}" for share in met))
    return table


if __name__ == "__main__":
    main()
