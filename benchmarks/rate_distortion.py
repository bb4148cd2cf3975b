"""Rate and distortion of the codec ``context`` on a folder of photographs, beside ``palette`` and Pillow's formats.

    python benchmarks/rate_distortion.py FOLDER --model DIRECTORY_OR_HUB_ID [--markdown FILE] [--sheets FOLDER]

Whole files are counted, without metadata. The model decodes without any denoiser; the embedded one, ``compact``, makes
use of the noise variance. Behind names of codecs stand qualities; the row "float" is the model's own round trip. The
columns "MSE", "Laplacian" and "texture" are the mean squared error of latents, the ratio of Laplacian energies and the
mean texture distance of three levels.

``--markdown`` writes the table to a file as well. ``--sheets`` writes, for each of several sizes of files, a sheet of
details at 100 %, for looking at: the original, ``context`` within that size, ``palette`` as it is by default, and
JPEG, WebP and AVIF of the highest quality that fits, or of the lowest where none does.
"""

import argparse
import io
from collections.abc import Iterable, Iterator
from math import isnan, nan
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from compact import DETAIL as BUSIEST
from compact import busiest
from context import Album, Trial, decode, read_photographs
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Column, Table

import pillow_sdc
from pillow_sdc.format.codecs import ContextCodec, QuantisedLatents
from pillow_sdc.format.context.codec import step_of
from pillow_sdc.format.context.stream import STEP_UNIT
from pillow_sdc.options import Settings
from pillow_sdc.report import peers
from pillow_sdc.report.metrics import Samples, laplacian_ratio, multiscale_ssim, psnr, texture_distances
from pillow_sdc.report.peers import AVIF, JPEG, WEBP, Peer, PeerEncoder

QUALITIES = (5, *range(10, 91, 10), 95)
PEERS = JPEG, WEBP, AVIF
PEER_QUALITIES = (1, 5, 10, 20, 30)

COLUMNS = {
    "bytes": ",.0f",
    "bpp": ".3f",
    "MSE": ".4f",
    "PSNR": ".2f",
    "MS-SSIM": ".4f",
    "Laplacian": ".2f",
    "texture": ".2f",
}
"""Columns of the tables, and the format of their numbers, in the order of a score's fields."""

SHEET_SIZES = (1500, 2000, 3000, 5000)
SHEET_ROWS = 4
MAX_SHEET_BYTES = 3_000_000
DETAIL, CAPTION = 256, 16
"""Side of a detail, and height of what is written above it."""


class Score(NamedTuple):
    """Figures of a picture, or their means; NaN where there is none."""

    bytes: float
    bits_per_pixel: float
    latent_mse: float
    psnr: float
    multiscale_ssim: float
    laplacian_ratio: float
    texture_distance: float


Row = tuple[str, Score]
Captioned = tuple[str, Samples]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--sheets", type=Path)
    arguments = parser.parse_args()
    album = Album(read_photographs(arguments.folder), Settings(model=arguments.model, device="cpu", denoise_steps=0))
    groups = [list(context_rows(album)), list(other_rows(album)), *(list(peer_rows(album, peer)) for peer in PEERS)]
    Console().print(table(groups, len(album.photos)))
    if arguments.markdown:
        arguments.markdown.write_text(markdown(groups, album, arguments.model), encoding="utf-8")
    if arguments.sheets:
        save_sheets(album, arguments.sheets)


def context_rows(album: Album) -> Iterator[Row]:
    for quality in QUALITIES:
        step = step_of(quality)
        yield f"context {quality}, step {step * STEP_UNIT:.2f}", score_of(album.in_context(ContextCodec(), step))


def other_rows(album: Album) -> Iterator[Row]:
    """Yield the figures of the codec ``palette``, and those of the model without any codec."""
    yield "palette", score_of(album.in_palette)
    pairs = zip(album.photos, album.latents, strict=True)
    pictures = ((photo, decode(photo, QuantisedLatents(latents, 0.0), album.settings)) for photo, latents in pairs)
    yield "float", mean(score(photo, picture, nan) for photo, picture in pictures)


def peer_rows(album: Album, peer: Peer) -> Iterator[Row]:
    encoders = [PeerEncoder(peer, photo) for photo in album.photos]
    for quality in PEER_QUALITIES:
        files = [encoder.encode(quality) for encoder in encoders]
        scores = (score(photo, peers.decode(file), len(file)) for photo, file in zip(album.photos, files, strict=True))
        yield f"{peer.label} {quality}", mean(scores)


def score_of(trial: Trial) -> Score:
    """Return the mean score of an album's photographs in one of our codecs."""
    pairs = zip(trial.album.photos, trial.files, strict=True)
    scores = (score(photo, decode(photo, quantised, trial.album.settings), size) for photo, (size, quantised) in pairs)
    return mean(scores)._replace(latent_mse=trial.latent_error)


def score(photo: Samples, picture: Samples, size: float) -> Score:
    return Score(
        size,
        8 * size / (photo.shape[0] * photo.shape[1]),
        nan,
        psnr(photo, picture),
        multiscale_ssim(photo, picture),
        laplacian_ratio(photo, picture),
        float(np.mean(texture_distances(photo, picture))),
    )


def mean(scores: Iterable[Score]) -> Score:
    return Score(*np.mean(list(scores), axis=0))


def table(groups: Iterable[list[Row]], photos: int) -> Table:
    result = Table(Column("codec", no_wrap=True), *COLUMNS, title=f"means over {photos} photographs")
    for rows in groups:
        for name, figures in rows:
            result.add_row(name, *cells(figures))
        result.add_section()
    return result


def cells(figures: Score) -> list[str]:
    return ["" if isnan(value) else f"{value:{form}}" for value, form in zip(figures, COLUMNS.values(), strict=True)]


def markdown(groups: Iterable[list[Row]], album: Album, model: str) -> str:
    """Return the table as a page, with only the directory's name of a model in a directory."""
    name = Path(model).name if Path(model).is_dir() else model
    sizes = ", ".join(sorted({f"{photo.shape[1]}×{photo.shape[0]}" for photo in album.photos}))
    lines = [
        f"# Rate and distortion, decoded by {name}",
        "",
        f"Means over {len(album.photos)} photographs of {sizes} pixels,",
        f"made by `python benchmarks/rate_distortion.py FOLDER --model {name} --markdown FILE`",
        f"with pillow-sdc {pillow_sdc.__version__} and Pillow {PIL.__version__}.",
        "",
        "Behind the name of a codec stands the quality. *bytes*: the whole file; *bpp*: bits per pixel; *MSE*: mean",
        "squared error of latents; *PSNR*: in dB; *MS-SSIM*: of RGB; *Laplacian*: energy of the finest texture over",
        "the original's; *texture*: distance of the distributions of 7×7 patches, lower being better. *float* is the",
        "model's own round trip.",
        "",
        f"| {' | '.join(('codec', *COLUMNS))} |",
        f"|---|{'---:|' * len(COLUMNS)}",
        *(f"| {' | '.join((row, *cells(figures)))} |" for rows in groups for row, figures in rows),
    ]
    return "".join(f"{line}\n" for line in lines)


def save_sheets(album: Album, folder: Path) -> None:
    """Write a sheet for each size, of a few photographs from all over the album."""
    every = -(-len(album.photos) // SHEET_ROWS)
    photos, files = album.photos[::every], album.in_palette.files[::every]
    palettes = [
        (f"palette, {file.bytes:,} bytes", decode(photo, file.quantised, album.settings))
        for photo, file in zip(photos, files, strict=True)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for size in SHEET_SIZES:
        rows = []
        for photo, palette in zip(photos, palettes, strict=True):
            within = context_within(photo, album.settings, size)
            rows.append(sheet_row([("original", photo), within, palette, *peers_within(photo, size)]))
        (folder / f"{size}.png").write_bytes(sheet(rows))


def context_within(photo: Samples, settings: Settings, size: int) -> Captioned:
    with pillow_sdc.configure(**settings._asdict()):
        file = pillow_sdc.encode(photo, codec="context", target_size=size)
        return f"context, {len(file):,} bytes", np.asarray(pillow_sdc.decode(file))


def peers_within(photo: Samples, size: int) -> Iterator[Captioned]:
    for peer in PEERS:
        file = PeerEncoder(peer, photo).best_within(size).data
        yield f"{peer.label}, {len(file):,} bytes", peers.decode(file)


def sheet_row(pictures: Iterable[Captioned]) -> Samples:
    """Return the same detail of pictures, of which the first is the original, side by side under their captions."""
    (_, photo), *_ = pictures = list(pictures)
    beside = (DETAIL - BUSIEST) // 2
    y, x = (
        max(0, min(start - beside, side - DETAIL))
        for start, side in zip(reversed(busiest(photo)), photo.shape, strict=False)
    )
    tiles = []
    for caption, picture in pictures:
        tile = Image.new("RGB", (DETAIL, CAPTION + DETAIL), "white")
        tile.paste(Image.fromarray(picture[y : y + DETAIL, x : x + DETAIL]), (0, CAPTION))
        ImageDraw.Draw(tile).text((2, 2), caption, "black")
        tiles.append(np.asarray(tile))
    return np.hstack(tiles)


def sheet(rows: list[Samples]) -> bytes:
    """Return the PNG file of as many rows as it may hold."""
    file = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(file, "PNG", optimize=True)
    if len(file.getvalue()) > MAX_SHEET_BYTES and len(rows) > 1:
        return sheet(rows[:-1])
    return file.getvalue()


if __name__ == "__main__":
    main()
