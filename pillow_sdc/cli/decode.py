"""``sdc decode``: ``.sdc`` files to pictures of other formats."""

from pathlib import Path
from typing import Annotated

import typer

from ..jobs.pictures.opening import format_of, is_sdc, is_written
from ..jobs.tasks import Conversion
from .arguments import (
    Debug,
    DenoiseSteps,
    Device,
    Dtype,
    DtypeOption,
    Force,
    MaxPixels,
    Metadata,
    Model,
    Output,
    Quiet,
    Vae,
    configured,
)
from .messages import Failures, misuse
from .sources import STREAM, find, is_folder, plan

EXAMPLES = """[bold]Examples[/]

[cyan]sdc decode photo.sdc[/]   writes photo.png

[cyan]sdc decode photo.sdc -o photo.webp[/]   the suffix says which format

[cyan]sdc decode archive/ -o pictures/ --format jpg[/]   every .sdc file in a folder and its sub-folders

[cyan]sdc decode photo.sdc --model CompVis/stable-diffusion-v1-4[/]   downloads the model if it is not here

[cyan]sdc decode - < photo.sdc > photo.png[/]   in a pipe"""


def decode(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders, patterns, or [bold]-[/] for standard input.",
            show_default=False,
        ),
    ],
    output: Output = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Any that Pillow writes: png, jpg, webp ... [bold]png[/] unless given or by the target's suffix.",
            show_default=False,
            rich_help_panel="Files",
        ),
    ] = None,
    metadata: Metadata = True,
    max_pixels: MaxPixels = None,
    force: Force = False,
    model: Model = None,
    vae: Vae = None,
    device: Device = None,
    dtype: DtypeOption = None,
    denoise_steps: DenoiseSteps = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write .sdc files as PNG, or as any format that Pillow writes.

    Nothing is overwritten without [bold]--force[/], a file is written whole or not at all, and one that fails does not
    stop the others.
    """
    failures = Failures(debug)
    found = find(sources, is_sdc, failures, quiet=quiet)
    if format_name is None and output not in (None, STREAM) and not is_folder(output, found, is_written):
        format_name = Path(output).suffix
        if not format_name:
            raise misuse(f"{output} has no suffix that says which format; add one, or write {output}/ for a folder")
    suffix = "." + (format_name or "png").lower().removeprefix(".")
    try:
        format_of(suffix)
    except ValueError as error:
        raise misuse(str(error)) from None
    tasks = plan(found, output, suffix, is_written)
    conversion = Conversion(
        decode=True,
        suffix=suffix,
        keep_metadata=metadata,
        overwrite=force,
        max_pixels=max_pixels,
        resumes=False,
    )
    from .conversion import run

    with configured(
        model=model, vae=vae, device=device, dtype=dtype and Dtype(dtype).value, denoise_steps=denoise_steps
    ):
        run(tasks, conversion, failures.count, quiet=quiet, debug=debug)
