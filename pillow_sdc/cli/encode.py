"""``sdc encode``: pictures to ``.sdc`` files."""

import io
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from ..files.pictures import is_picture, is_sdc, open_picture
from .arguments import (
    Debug,
    Device,
    Dtype,
    DtypeOption,
    Force,
    Metadata,
    Model,
    Output,
    Quiet,
    bytes_of,
    configured,
)
from .messages import misuse, say
from .sources import STREAM, Source, find, is_folder, plan

_PANEL = "Size and quality"

EXAMPLES = """[bold]Examples[/]

[cyan]sdc encode photo.jpg[/]   writes photo.sdc, with the codec of the article

[cyan]sdc encode photo.jpg --quality 40 -o small.sdc[/]   the package's own codec: about half the bytes

[cyan]sdc encode photo.jpg --target-size 2k[/]   the best quality that fits into 2,000 bytes

[cyan]sdc encode holiday/ -o archive/[/]   every picture in a folder and its sub-folders

[cyan]sdc encode "holiday/**/*.jpg" -o archive/[/]   the same for a pattern

[cyan]curl -s URL | sdc encode - > photo.sdc[/]   in a pipe"""


class Codec(StrEnum):
    """Those of the format."""

    PALETTE = "palette"
    CONTEXT = "context"
    UINT8 = "uint8"


def encode(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, patterns, or [bold]-[/] for standard input.",
            show_default=False,
        ),
    ],
    output: Output = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            min=1,
            max=100,
            help="Smallest to best; chooses the codec [bold]context[/].",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    target_size: Annotated[
        int | None,
        typer.Option(
            parser=bytes_of,
            metavar="BYTES",
            help="Best quality that takes no more: 2000, 2k, 5kB. Chooses [bold]context[/] as well.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    codec: Annotated[
        Codec | None,
        typer.Option(
            help="[bold]palette[/] is the article's and the default, [bold]uint8[/] nearly lossless on latents.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    palette_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=256,
            help="Entries of the palette, 256 unless given.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    dither: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the palette's error that is diffused, 1 unless given.",
            show_default=False,
            rich_help_panel=_PANEL,
        ),
    ] = None,
    metadata: Metadata = True,
    force: Force = False,
    model: Model = None,
    device: Device = None,
    dtype: DtypeOption = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write pictures as .sdc files.

    Anything that Pillow opens will do; of a picture with several frames the first is taken. Nothing is overwritten
    without [bold]--force[/], a file is written whole or not at all, and one that fails does not stop the others.
    """
    codec_options = {"quality": quality, "target_size": target_size, "palette_size": palette_size, "dither": dither}
    given = {name: value for name, value in codec_options.items() if value is not None}
    _check(given, codec)
    found = find(sources, is_picture)
    if output not in (None, STREAM) and not is_folder(output, found) and not is_sdc(Path(output)):
        raise misuse(f"{output} does not end in .sdc; for a folder to be made, write {output}/")
    jobs = plan(found, output, ".sdc")
    save_options = {**given, **({"codec": codec.value} if codec else {})}

    from .conversion import run

    def convert(file: IO[bytes], source: Source) -> bytes:
        return _encoded(file, source, save_options, keep_metadata=metadata)

    with configured(model=model, device=device, dtype=dtype and Dtype(dtype).value):
        run(jobs, convert, force=force, quiet=quiet, debug=debug)


def _check(given: dict[str, Any], codec: Codec | None) -> None:
    """Refuse options of different codecs before any picture is read."""
    from ..plugin import CODEC_OF_OPTION

    if "quality" in given and "target_size" in given:
        raise misuse("--quality and --target-size exclude each other: the size decides what the quality is")
    chosen = codec.value if codec else CODEC_OF_OPTION[min(given)] if given else None
    for name in given:
        if CODEC_OF_OPTION[name] != chosen:
            option = f"--{name.replace('_', '-')}"
            raise misuse(f"{option} is an option of the codec {CODEC_OF_OPTION[name]}, not of {chosen}")


def _encoded(file: IO[bytes], source: Source, save_options: dict[str, Any], *, keep_metadata: bool) -> bytes:
    image, metadata, frames = open_picture(file, keep_metadata=keep_metadata)
    with image:
        if frames > 1:
            say(f"has {frames} frames, of which the first is taken", source)
        buffer = io.BytesIO()
        image.save(buffer, "SDC", **save_options, **metadata)
        return buffer.getvalue()
