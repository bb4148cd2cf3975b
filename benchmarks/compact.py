"""The embedded model against the autoencoder that taught it, on a folder of photographs, in one run.

    python benchmarks/compact.py FOLDER --teacher DIRECTORY_OR_HUB_ID [--against NETWORKS] [--sheet PNG]

Palette files are of the teacher's latents, as if it had written them, unless said; what the teacher decodes plainly,
the embedded decoder decodes knowing the noise variance. Crops of several sizes show how sure that decoder is of whose
latents it is given, for it paints others' softer. ``--against`` says how far the embedded networks are from others in
their place: those of the same weights in float32, that ``training.quantise --float`` writes, or of another version.
``--sheet`` writes details at 200 %, for looking at.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from timing import in_turn, seconds

from pillow_sdc import container
from pillow_sdc.image_codec import decode_samples, encode_latents
from pillow_sdc.latent_codecs import PaletteCodec, QuantisedLatents
from pillow_sdc.models import Denoiser, Models, denoise, get_models
from pillow_sdc.models.compact import CompactDenoiser, sessions, watermark
from pillow_sdc.options import Settings
from pillow_sdc.report.metrics import (
    Samples,
    cross_hatch,
    laplacian_ratio,
    multiscale_ssim,
    psnr,
    texture_distances,
)

CROPS = (64, 128, 192, 256)
DETAIL = 128
TIMED_SIDE = 512
TIMED_RUNS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--against", type=Path, metavar="NETWORKS", help="folder of networks, with their checksums")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    teacher = get_models(Settings(model=arguments.teacher, device="cpu"))
    compact = get_models(Settings(model="compact", device="cpu"))
    denoiser = CompactDenoiser("cpu")

    photos = []
    for path in sorted(path for path in arguments.folder.iterdir() if path.suffix in {".png", ".webp", ".jpg"}):
        with Image.open(path) as photo:
            photos.append(np.asarray(photo.convert("RGB")))
    pictures, latent_errors = compare_all(photos, teacher, compact, denoiser)
    qualities = {name: Quality.of(photos, decoded) for name, decoded in pictures.items()}
    console = Console()
    console.print(latent_table(latent_errors), picture_table(qualities), recognition_table(photos, teacher, compact))
    if arguments.against:
        with networks_of(arguments.against):
            others, _errors = compare_all(photos, teacher, compact, denoiser)
        changed = {name: decoded for name, decoded in others.items() if not same(decoded, pictures[name])}
        console.print(difference_table(qualities, {name: Quality.of(photos, changed[name]) for name in changed}))
    print_speed(console, teacher, compact)
    if arguments.sheet:
        save_details(photos, pictures, arguments.sheet)


@contextmanager
def networks_of(folder: Path) -> Iterator[None]:
    """Have the embedded model compute with the networks of a folder."""
    sessions.forget()
    with mock.patch.object(sessions, "WEIGHTS", folder):
        yield
    sessions.forget()


def compare_all(
    photos: list[Samples], teacher: Models, compact: Models, denoiser: Denoiser
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
    photo: Samples, teacher: Models, compact: Models, denoiser: Denoiser
) -> tuple[dict[str, Samples], dict[str, float]]:
    """Return what each way of encoding and decoding makes of a photograph, and mean squared errors of latents."""
    latents, own = encode_latents(photo, teacher), encode_latents(photo, compact)
    noisy, own_noisy = quantise(latents), quantise(own)
    cleaned = {steps: denoise(noisy.latents, noisy.noise_variance, denoiser, steps) for steps in (1, 4)}
    header = container.Header(photo.shape[1], photo.shape[0], "RGB", "palette")

    def decode(models: Models, values: NDArray[np.float32], noise_variance: float = 0.0) -> Samples:
        return decode_samples(QuantisedLatents(values, noise_variance), header, models)

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


def recognition_table(photos: list[Samples], teacher: Models, compact: Models) -> Table:
    """Count palette files of crops, from two corners of each photograph, that are taken for the other encoder's."""
    table = Table("crops", "teacher's taken for compact's", "compact's taken for another's")
    for side in CROPS:
        corners = (np.s_[:side, :side], np.s_[-side:, -side:])
        crops = [photo[corner] for photo in photos if min(photo.shape[:2]) >= side for corner in corners]
        if crops:
            theirs, ours = ([is_marked(crop, models) for crop in crops] for models in (teacher, compact))
            table.add_row(f"{side}×{side}", f"{np.mean(theirs):.0%}", f"{1 - np.mean(ours):.0%}")
    return table


def is_marked(crop: Samples, models: Models) -> bool:
    """Tell whether the embedded decoder finds its encoder's watermark in the palette file of a crop."""
    return watermark.unmark(quantise(encode_latents(crop, models)).latents)[1]


def print_speed(console: Console, teacher: Models, compact: Models) -> None:
    """Time both models in turns, so that whatever else the machine does strikes both; the medians are compared."""
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, TIMED_SIDE, TIMED_SIDE)).astype(np.float32)
    latents = compact.autoencoder.encode(pixels)
    table = Table(f"{TIMED_SIDE}×{TIMED_SIDE}", "teacher, s", "compact, s", "ratio")
    total = np.zeros(2)
    for name, run in {
        "encode": lambda models: models.autoencoder.encode(pixels),
        "decode": lambda models: models.autoencoder.decode(latents, 0.03),
    }.items():
        acts = {"teacher": partial(run, teacher), "compact": partial(run, compact)}
        for act in acts.values():
            act()  # what is built at first use is so now
        times = in_turn({which: partial(seconds, act) for which, act in acts.items()}, TIMED_RUNS)
        medians = np.array([np.median(times[which]) for which in acts])
        total += medians
        table.add_row(name, *(f"{value:.3f}" for value in medians), f"{medians[0] / medians[1]:.1f}")
    table.add_row("both", *(f"{value:.3f}" for value in total), f"{total[0] / total[1]:.1f}")
    console.print(table)


def save_details(photos: list[Samples], pictures: dict[str, list[Samples]], path: Path) -> None:
    """Write the busiest detail of every photograph at 200 %: the original, and what the first and last ways made."""
    shown = (
        "teacher: round trip",
        "compact: round trip",
        "palette, teacher decodes",
        "palette of compact's latents, compact decodes",
    )
    rows = []
    for photo, *decoded in zip(photos, *(pictures[name] for name in shown), strict=True):
        y, x = busiest(photo)
        rows.append(np.hstack([picture[y : y + DETAIL, x : x + DETAIL] for picture in (photo, *decoded)]))
    Image.fromarray(np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)).save(path)


def busiest(photo: Samples) -> tuple[int, int]:
    """Return the corner of the square that varies most."""
    starts = [
        (y, x) for y in range(0, photo.shape[0] - DETAIL + 1, 64) for x in range(0, photo.shape[1] - DETAIL + 1, 64)
    ]
    return max(
        starts, key=lambda start: float(np.var(photo[start[0] : start[0] + DETAIL, start[1] : start[1] + DETAIL]))
    )


if __name__ == "__main__":
    main()
