"""``sdc batch``: whole archives, by many workers, from one store to another."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..jobs.tasks import Conversion, Packing
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
    Quiet,
    Vae,
    number,
    whole_number,
)
from .codec_options import takes_codec_options
from .messages import FAILED, ending, misuse, say
from .progress import shown

if TYPE_CHECKING:
    from ..jobs.progress import Progress
    from ..jobs.runner import Engine

_STORE_PANEL = "Source and target"
_WORKERS_PANEL = "Workers"

_ONWARDS = ", and the same command goes on from here"

_EXTRAS = {"local": "batch", "ray": "ray"}

EXAMPLES = """[bold]Examples[/]

[cyan]sdc batch photos/ archive/[/]   every picture in a folder, by as many workers as there are cores

[cyan]sdc batch photos/ archive/ --to tar[/]   packed into shards of 1,000, in WebDataset's layout

[cyan]sdc batch "s3://bucket/train-*.tar" s3://bucket/sdc/[/]   shards to shards, in an object store

[cyan]sdc batch data.parquet out/ --column photo[/]   a column of a table

[cyan]sdc batch train.tar out/ --column left.jpg --column right.jpg[/]   two pictures of each sample

[cyan]sdc batch archive/ pictures/ --decode --format jpg[/]   back to pictures

[cyan]sdc batch s3://bucket/photos s3://bucket/sdc --engine ray --workers 64[/]   on a Ray cluster"""


class EngineName(StrEnum):
    """What does the tasks: processes here, or Ray."""

    LOCAL = "local"
    RAY = "ray"


@takes_codec_options
def batch(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder, a file or a pattern; a path or a URL that fsspec knows.",
            show_default=False,
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="A folder, likewise.", show_default=False)],
    decode: Annotated[
        bool,
        typer.Option("--decode", help="Write .sdc files as pictures of another format.", rich_help_panel=_STORE_PANEL),
    ] = False,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="With [bold]--decode[/]: png, jpg, webp ... [bold]png[/] unless given.",
            show_default=False,
            rich_help_panel=_STORE_PANEL,
        ),
    ] = None,
    to: Annotated[
        Packing | None,
        typer.Option(
            help="How pictures are kept in the target; as in the source unless given.",
            show_default=False,
            rich_help_panel=_STORE_PANEL,
        ),
    ] = None,
    shard_size: Annotated[
        int,
        typer.Option(
            parser=whole_number(1),
            metavar="NUMBER",
            help="Pictures of a shard into which files are packed.",
            rich_help_panel=_STORE_PANEL,
        ),
    ] = 1000,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=(
                "Which pictures of a shard to convert: a column of a Parquet file, or what follows the first dot in a "
                "tar shard's file names, such as [bold]jpg[/] or [bold]depth.png[/]. May be given several times."
            ),
            show_default=False,
            rich_help_panel=_STORE_PANEL,
        ),
    ] = None,
    force: Force = False,
    metadata: Metadata = True,
    max_pixels: MaxPixels = None,
    engine: Annotated[
        EngineName,
        typer.Option(
            help="[bold]local[/]: processes on this machine. [bold]ray[/]: actors on a Ray cluster.",
            rich_help_panel=_WORKERS_PANEL,
        ),
    ] = EngineName.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="NUMBER",
            help="Each takes a core, or a GPU; as many as there are unless given.",
            show_default=False,
            rich_help_panel=_WORKERS_PANEL,
        ),
    ] = None,
    max_workers: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="NUMBER",
            help="With [bold]ray[/]: to how many the workers may grow.",
            show_default=False,
            rich_help_panel=_WORKERS_PANEL,
        ),
    ] = None,
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(
            parser=number(0),
            metavar="NUMBER",
            help="With [bold]ray[/]: what share of a GPU each takes; 1 where there are GPUs unless given.",
            show_default=False,
            rich_help_panel=_WORKERS_PANEL,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            parser=whole_number(1),
            metavar="NUMBER",
            help="Pictures that the model takes at a time; 8 on an accelerator and 1 on the CPU unless given.",
            show_default=False,
            rich_help_panel=_WORKERS_PANEL,
        ),
    ] = None,
    *,
    save_options: dict[str, Any],
    model: Model = None,
    vae: Vae = None,
    device: Device = None,
    dtype: DtypeOption = None,
    denoise_steps: DenoiseSteps = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert whole folders, tar shards (WebDataset) or Parquet files, here or in object stores.

    What is in the target already is not done again, so a run that was cut off goes on where it ended, and what failed
    is tried again. What is there but was made with other options is named, and kept unless [bold]--force[/] is given.
    Outputs appear whole or not at all. The target's folder [bold]_manifest[/] holds a Parquet table with the result of
    each picture.
    """
    _check_decoding(decode, bool(save_options), format_name)
    settings = {
        "model": model,
        "vae": vae,
        "device": device,
        "dtype": dtype and Dtype(dtype).value,
        "denoise_steps": denoise_steps,
    }
    conversion = Conversion(
        decode=decode,
        suffix=f".{(format_name or 'png').lower().removeprefix('.')}" if decode else ".sdc",
        save_options=save_options,
        settings={name: value for name, value in settings.items() if value is not None},
        keep_metadata=metadata,
        overwrite=force,
        columns=tuple(column or ()),
        batch_size=batch_size,
        max_pixels=max_pixels,
    )
    with ending(lambda: "what is done is done", _ONWARDS, target, debug=debug), shown(_written, quiet=quiet) as report:
        from ..jobs.runner import run

        try:
            chosen = _engine(engine, workers, max_workers, gpus_per_worker)
            progress = run(source, target, conversion, chosen, to=to, shard_size=shard_size, report=report)
        except ModuleNotFoundError as error:
            raise misuse(f"{error.name} is not installed; try: pip install 'pillow-sdc[{_EXTRAS[engine]}]'") from error
    if progress.made_with_other_options:
        say(_options_differ(progress, to))
    if progress.failed or progress.made_with_other_options:
        raise typer.Exit(FAILED)


def _options_differ(progress: "Progress", to: Packing | None) -> str:
    """Return what is said of pictures that are in the target, but not made as now or not packed as ``to`` says."""
    counts = progress.made_with_other_options.most_common()
    made = ", ".join(f"{count:,} with {options or 'the defaults'}" for options, count in counts)
    now = f"{progress.options} --to {to}".lstrip() if to else progress.options or "the defaults"
    return (
        f"pictures that were there already were made with other options than now ({now}): {made}; they are kept. To"
        " make them anew, add --force; to have both, choose another target"
    )


def _check_decoding(decode: bool, has_codec: bool, format_name: str | None) -> None:
    if not decode and format_name is not None:
        raise misuse("--format is that of decoded pictures, for --decode")
    if decode and has_codec:
        raise misuse("codecs and their options are for encoding, not for --decode")
    if format_name is not None:
        from ..jobs.pictures.opening import format_of

        try:
            format_of(f".{format_name.lower().removeprefix('.')}")
        except ValueError as error:
            raise misuse(str(error)) from None


def _engine(name: EngineName, workers: int | None, max_workers: int | None, gpus_per_worker: float | None) -> "Engine":
    if name is EngineName.LOCAL:
        if max_workers is not None or gpus_per_worker is not None:
            raise misuse("--max-workers and --gpus-per-worker are for --engine ray")
        from ..jobs.executors.processes import LocalEngine

        return LocalEngine(workers)
    from ..jobs.executors.ray import RayEngine

    return RayEngine(workers, max_workers=max_workers, gpus_per_worker=gpus_per_worker)


def _written(progress: "Progress") -> str:
    """Return what is said of the pictures of a run, but for failures."""
    words = [f"{progress.pictures:,} picture{'' if progress.pictures == 1 else 's'}"]
    if progress.found:
        words.append(f"{progress.found:,} were there already")
    if progress.remarks:
        words.append(f"{progress.remarks:,} with a remark in the manifest")
    return ", ".join(words)
