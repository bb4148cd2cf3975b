"""The embedded model against its teacher on a folder of photographs, in one run.

    python benchmarks/compact.py FOLDER --teacher DIRECTORY_OR_HUB_ID [--against NETWORKS] [--sheet PNG]

Palette files have the teacher's latents unless stated otherwise. The teacher decodes without the noise variance, the
embedded decoder with it. ``--against`` compares the embedded networks with others in their place: those with the same
weights in float32, which ``training.quantise --float`` writes, or those of another version; their time is measured,
too. ``--sheet`` writes details at 200 %, side by side: the original, what the teacher decodes of palette files of the
embedded encoder's latents, what the embedded decoder does, and the other networks'. They are the busiest ones, or
those that ``--detail`` names.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from record import keep, record_at
from rich.console import Console
from rich.table import Table
from timing import in_turn, seconds

from pillow_sdc.format.codecs import PaletteCodec, QuantisedLatents
from pillow_sdc.models import Denoiser, Models, denoise, get_models
from pillow_sdc.models.compact import CompactDenoiser, sessions
from pillow_sdc.options import Settings
from pillow_sdc.pipeline.decoding import decode_latents
from pillow_sdc.pipeline.encoding import encode_latents
from pillow_sdc.report.metrics import Samples, cross_hatch, laplacian_ratio, multiscale_ssim, psnr, texture_distances

DETAIL = 128
SHOWN = "palette of compact's latents, teacher decodes", "palette of compact's latents, compact decodes"
TIMED_SIDE = 512
TIMED_RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--against", type=Path, metavar="NETWORKS", help="folder of networks, with their checksums")
    parser.add_argument("--record", type=record_at, metavar="NAME:JSON", help="keep the table of pictures there")
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--detail", type=detail, nargs="+", default=[], metavar="FILE:X,Y", help="upper left corners")
    arguments = parser.parse_args()
    teacher = Settings(model=arguments.teacher, device="cpu", denoise_steps=0)
    compact = Settings(model="compact", device="cpu", denoise_steps=0)
    denoiser = CompactDenoiser("cpu")

    paths = sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"})
    photos = []
    for path in paths:
        with Image.open(path) as photo:
            photos.append(np.asarray(photo.convert("RGB")))
    pictures, latent_errors = compare_all(photos, teacher, compact, denoiser)
    qualities = {name: Quality.of(photos, decoded) for name, decoded in pictures.items()}
    console = Console()
    console.print(latent_table(latent_errors), picture_table(qualities))
    if arguments.record:
        keep(*arguments.record, picture_table(qualities))
    shown = [pictures[name] for name in SHOWN]
    if arguments.against:
        with networks_of(arguments.against):
            others, _errors = compare_all(photos, teacher, compact, denoiser)
        changed = {name: decoded for name, decoded in others.items() if not same(decoded, pictures[name])}
        console.print(difference_table(qualities, {name: Quality.of(photos, changed[name]) for name in changed}))
        shown.append(others[SHOWN[-1]])
    print_speed(console, get_models(teacher), get_models(compact), arguments.against)
    if arguments.sheet:
        names = [path.name for path in paths]
        corners = arguments.detail or [(name, *busiest(photo)) for name, photo in zip(names, photos, strict=True)]
        save_details([(names.index(name), x, y) for name, x, y in corners], [photos, *shown], arguments.sheet)


def detail(text: str) -> tuple[str, int, int]:
    """Return the file and the corner that ``FILE:X,Y`` names."""
    name, _colon, corner = text.rpartition(":")
    x, y = map(int, corner.split(","))
    return name, x, y


@contextmanager
def networks_of(folder: Path) -> Iterator[None]:
    """Have the embedded model compute with the networks of a folder."""
    sessions.forget()
    with mock.patch.object(sessions, "WEIGHTS", folder):
        yield
    sessions.forget()


def compare_all(
    photos: list[Samples], teacher: Settings, compact: Settings, denoiser: Denoiser
) -> tuple[dict[str, list[Samples]], dict[str, list[float]]]:
    """Return what :func:`compare` does, for each of many photographs."""
    pictures: dict[str, list[Samples]] = defaultdict(list)
    latent_errors: dict[str, list[float]] = defaultdict(list)
    for photo in photos:
        decoded, errors = compare(photo, teacher, compact, denoiser)
        for name, picture in decoded.items():
            pictures[name].append(picture)
        for name, error in errors.items():
            latent_errors[name].append(error)
    return pictures, latent_errors


def compare(
    photo: Samples, teacher: Settings, compact: Settings, denoiser: Denoiser
) -> tuple[dict[str, Samples], dict[str, float]]:
    """Return the metrics of a photograph for each pair of encoder and decoder, and mean squared errors of latents."""
    latents, own = encode_latents(photo, teacher), encode_latents(photo, compact)
    noisy, own_noisy = quantise(latents), quantise(own)
    cleaned = {steps: denoise(noisy.latents, noisy.noise_variance, denoiser, steps) for steps in (1, 4)}
    height, width = photo.shape[:2]

    def decode(settings: Settings, values: NDArray[np.float32], noise_variance: float = 0.0) -> Samples:
        return decode_latents(QuantisedLatents(values, noise_variance), (width, height), settings)

    pictures = {
        "teacher: round trip": decode(teacher, latents),
        "compact: round trip": decode(compact, own),
        "compact encodes, teacher decodes": decode(teacher, own),
        "teacher encodes, compact decodes": decode(compact, latents),
        "palette, teacher decodes": decode(teacher, noisy.latents),
        "palette, teacher decodes after 1 step of our denoiser": decode(teacher, cleaned[1]),
        "palette, teacher decodes after 4 steps of our denoiser": decode(teacher, cleaned[4]),
        "palette, compact decodes": decode(compact, noisy.latents, noisy.noise_variance),
        "palette, compact decodes after 1 step of its denoiser": decode(compact, cleaned[1]),
        "palette, compact decodes without knowing the noise": decode(compact, noisy.latents),
        "palette of compact's latents, teacher decodes": decode(teacher, own_noisy.latents),
        "palette of compact's latents, compact decodes": decode(compact, own_noisy.latents, own_noisy.noise_variance),
    }
    errors = {
        "compact's latents against the teacher's": mse(own, latents),
        "palette": mse(noisy.latents, latents),
        "palette, 1 step of our denoiser": mse(cleaned[1], latents),
        "palette, 4 steps of our denoiser": mse(cleaned[4], latents),
    }
    return pictures, errors


def quantise(latents: NDArray[np.float32]) -> QuantisedLatents:
    return PaletteCodec.decode(PaletteCodec().encode(latents), *latents.shape[1:])


def mse(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.mean((first - second) ** 2))


def latent_table(errors: dict[str, list[float]]) -> Table:
    table = Table("latents", "MSE", "over the palette's", title=f"means over {len(errors['palette'])} photographs")
    for name, values in errors.items():
        table.add_row(name, f"{np.mean(values):.4f}", f"{np.mean(values) / np.mean(errors['palette']):.2f}")
    return table


class Quality(NamedTuple):
    """Means over photographs; texture distances are those of fine, middle and coarse levels."""

    psnr: float
    ms_ssim: float
    laplacian_ratio: float
    cross_hatch: float
    textures: NDArray[np.float64]

    @classmethod
    def of(cls, photos: list[Samples], decoded: list[Samples]) -> "Quality":
        """Measure pictures against the photographs that they should be."""
        pairs = list(zip(photos, decoded, strict=True))
        return cls(
            float(np.mean([psnr(*pair) for pair in pairs])),
            float(np.mean([multiscale_ssim(*pair) for pair in pairs])),
            float(np.mean([laplacian_ratio(*pair) for pair in pairs])),
            float(np.mean([bits for pair in pairs if (bits := cross_hatch(*pair)) is not None])),
            np.mean([texture_distances(*pair) for pair in pairs], axis=0),
        )


def same(first: list[Samples], second: list[Samples]) -> bool:
    return all(np.array_equal(*pair) for pair in zip(first, second, strict=True))


def picture_table(qualities: dict[str, Quality]) -> Table:
    table = Table(
        "pictures", "PSNR, dB", "MS-SSIM", "Laplacian", "cross-hatch, bits", "texture, fine / middle / coarse", "mean"
    )
    for name, quality in qualities.items():
        table.add_row(
            name,
            f"{quality.psnr:.2f}",
            f"{quality.ms_ssim:.4f}",
            f"{quality.laplacian_ratio:.2f}",
            f"{quality.cross_hatch:+.2f}",
            " / ".join(f"{level:.2f}" for level in quality.textures),
            f"{quality.textures.mean():.2f}",
        )
    return table


def difference_table(qualities: dict[str, Quality], others: dict[str, Quality]) -> Table:
    table = Table("pictures", "PSNR, dB", "MS-SSIM", "texture distance", title="differences from the other networks")
    for name, other in others.items():
        quality = qualities[name]
        table.add_row(
            name,
            f"{quality.psnr - other.psnr:+.3f}",
            f"{quality.ms_ssim - other.ms_ssim:+.5f}",
            f"{quality.textures.mean() / other.textures.mean() - 1:+.1%}",
        )
    return table


def print_speed(console: Console, teacher: Models, compact: Models, others: Path | None) -> None:
    """Time models in turns; the medians are compared."""
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, TIMED_SIDE, TIMED_SIDE)).astype(np.float32)
    latents = compact.autoencoder.encode(pixels)
    columns = ["teacher, s", "compact, s", "ratio"] + (["the others, s", "compact's over theirs"] if others else [])
    table = Table(f"{TIMED_SIDE}×{TIMED_SIDE}", *columns)
    totals = []
    for name, run in {
        "encode": lambda models: models.autoencoder.encode(pixels),
        "decode": lambda models: models.autoencoder.decode(latents, 0.03),
    }.items():
        measurements = {"teacher": partial(warm_seconds, run, teacher), "compact": partial(warm_seconds, run, compact)}
        if others:
            measurements["others"] = partial(with_networks, others, partial(warm_seconds, run, compact))
        times = in_turn(measurements, TIMED_RUNS)
        totals.append(np.array([np.median(times[which]) for which in measurements]))
        table.add_row(name, *time_cells(totals[-1]))
    table.add_row("both", *time_cells(sum(totals)))
    console.print(table)


def warm_seconds(run: Callable[[Models], object], models: Models) -> float:
    """Return the time of a second run: the first one reads what it needs."""
    run(models)
    return seconds(lambda: run(models))


def with_networks(folder: Path, measure: Callable[[], float]) -> float:
    with networks_of(folder):
        return measure()


def time_cells(times: NDArray[np.float64]) -> list[str]:
    theirs, ours, *others = times
    cells = [f"{theirs:.3f}", f"{ours:.3f}", f"{theirs / ours:.1f}"]
    return cells + [text for other in others for text in (f"{other:.3f}", f"{ours / other:.2f}")]


def save_details(corners: list[tuple[int, int, int]], columns: list[list[Samples]], path: Path) -> None:
    """Write details at 200 %: each a row, of which column after column shows the same photograph's picture."""
    rows = [
        np.hstack([pictures[index][y : y + DETAIL, x : x + DETAIL] for pictures in columns]) for index, x, y in corners
    ]
    Image.fromarray(np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)).save(path)


def busiest(photo: Samples) -> tuple[int, int]:
    """Return x and y of the upper left corner of the square that varies most."""
    height, width = photo.shape[:2]
    corners = [(x, y) for y in range(0, height - DETAIL + 1, 64) for x in range(0, width - DETAIL + 1, 64)]
    return max(corners, key=lambda corner: float(np.var(photo[corner[1] :, corner[0] :][:DETAIL, :DETAIL])))


if __name__ == "__main__":
    main()
