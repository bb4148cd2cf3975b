"""Arguments that several commands share, and how their values are read."""

import math
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from typing import Annotated, Any

import typer

from .messages import misuse

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "ki": 1024, "mi": 1024**2}
_PIXEL_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3}
_MODEL_PANEL = "Model"
_FILES_PANEL = "Files"


class Dtype(StrEnum):
    """Those of the setting ``dtype``."""

    AUTO = "auto"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"


def bytes_of(text: str) -> int:
    """Return the number of bytes that a text such as ``2000``, ``2k``, ``1.5kB`` or ``2KiB`` stands for."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ki|mi|k|m|)b?", text.strip(), re.IGNORECASE)
    if match is None or (number := int(float(match[1]) * _UNITS[match[2].lower()])) < 1:
        raise typer.BadParameter(f"{text!r} is no size in bytes; write for instance 2000, 2k, 5kB or 2KiB")
    return number


def pixels_of(text: str) -> int:
    """Return the number of pixels that a text such as ``400000000``, ``400M`` or ``none`` stands for; 0 is no limit."""
    if text.strip().lower() == "none":
        return 0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k|m|g|)", text.strip(), re.IGNORECASE)
    if match is None or (number := int(float(match[1]) * _PIXEL_UNITS[match[2].lower()])) < 1:
        raise typer.BadParameter(f"{text!r} is no number of pixels; write for instance 400000000, 400M, or none")
    return number


def whole_number(lowest: int, highest: int | None = None) -> Callable[[object], int]:
    """Return what reads a whole number within limits, and says of other texts what is allowed."""
    allowed = f"of {lowest} or more" if highest is None else f"from {lowest} to {highest}"

    def parse(text: object) -> int:
        try:
            number = int(str(text))
        except ValueError:
            number = None
        if number is None or number < lowest or (highest is not None and number > highest):
            raise typer.BadParameter(f"{str(text)!r} is not a whole number {allowed}")
        return number

    return parse


def number(lowest: float, highest: float = math.inf) -> Callable[[object], float]:
    """Return what reads a number within limits, and says of other texts what is allowed."""
    allowed = f"of {lowest:g} or more" if highest == math.inf else f"from {lowest:g} to {highest:g}"

    def parse(text: object) -> float:
        try:
            value = float(str(text))
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest or value == math.inf:
            raise typer.BadParameter(f"{str(text)!r} is not a number {allowed}")
        return value

    return parse


@contextmanager
def configured(**given: Any) -> Iterator[None]:
    """Let the settings hold that the user gave, for the length of a block.

    Raises:
        typer.Exit: One of them is outside its range, or one that an environment variable makes.
    """
    import pillow_sdc

    with ExitStack() as stack:
        try:
            changes: Any = {name: value for name, value in given.items() if value is not None}
            stack.enter_context(pillow_sdc.configure(**changes))
        except pillow_sdc.OptionError as error:
            raise misuse(str(error)) from None
        yield


Output = Annotated[
    str | None,
    typer.Option(
        "--output",
        "-o",
        metavar="TARGET",
        help="A folder, or for one source a file, or [bold]-[/] for standard output. Without it: beside the source.",
        show_default=False,
        rich_help_panel=_FILES_PANEL,
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite files that exist.", rich_help_panel=_FILES_PANEL)]
Metadata = Annotated[
    bool,
    typer.Option(
        "--keep-metadata/--strip",
        help="Keep EXIF, colour profile, XMP and resolution, or drop them, the EXIF orientation with them.",
        rich_help_panel=_FILES_PANEL,
    ),
]
MaxPixels = Annotated[
    int | None,
    typer.Option(
        "--max-pixels",
        parser=pixels_of,
        metavar="PIXELS",
        help="Largest picture that is opened: 400000000, 400M, or [bold]none[/] for any. Unless given, Pillow's limit "
        "of 178,956,970 pixels, which protects from files that decode to more than the memory holds.",
        show_default=False,
        rich_help_panel=_FILES_PANEL,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="No progress bar, no summary, and no word of files left out; errors are still printed."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Print tracebacks and warnings, and which model is used and why.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="[bold]auto[/], [bold]compact[/], a hub id, a directory or a .safetensors file; [bold]PILLOW_SDC_MODEL[/] "
        "unless given.",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
Vae = Annotated[
    str | None,
    typer.Option(
        help="In place of the model's autoencoder: a hub id, a directory or a .safetensors file.",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="[bold]auto[/] or a torch device, such as [bold]cpu[/], [bold]cuda:1[/] or [bold]mps[/].",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
DtypeOption = Annotated[
    Dtype | None, typer.Option("--dtype", help="To compute in.", show_default=False, rich_help_panel=_MODEL_PANEL)
]
DenoiseSteps = Annotated[
    int | None,
    typer.Option(
        parser=whole_number(0, 1000),
        metavar="0-1000",
        help="Evaluations of the denoiser, 4 unless given; 0 turns denoising off.",
        show_default=False,
        rich_help_panel=_MODEL_PANEL,
    ),
]
