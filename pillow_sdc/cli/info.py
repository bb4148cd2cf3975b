"""``sdc info``: what a file says of itself and of its latents, without a model."""

import json
from typing import IO, Annotated, Any

import typer

from ..jobs.pictures.opening import is_sdc
from .arguments import Debug
from .messages import Failures
from .sources import find, names_one_file, open_input

EXAMPLES = """[bold]Examples[/]

[cyan]sdc info photo.sdc[/]

[cyan]sdc info archive/ --json | jq '.[] | .bits_per_pixel'[/]

[cyan]sdc encode photo.jpg -o - | sdc info -[/]"""

_CHUNK_NAMES = {
    "P": "latents",
    "A": "alpha",
    "d": "resolution",
    "e": "EXIF",
    "f": "EXIF, deflated",
    "i": "colour profile",
    "j": "colour profile, deflated",
    "x": "XMP",
    "y": "XMP, deflated",
}


def info(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE", help="Files, folders, patterns, or [bold]-[/] for standard input.", show_default=False
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="An object; of several files, or of a folder, a list of them.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Tell what .sdc files hold: header, chunks, codec, noise and latents.

    The latents are decoded, and with them every bit of theirs is checked; no model is loaded. The timestep is that at
    which Stable Diffusion has as much noise as quantisation left: denoising starts there.
    """
    failures = Failures(debug)
    sources = find(files, is_sdc, failures, quiet=False)
    descriptions = []
    for source in sources:
        with failures.of(source), open_input(source) as file:
            description = {"path": str(source.path or "-"), **describe(file)}
            descriptions.append(description)
            if not as_json:
                typer.echo(("\n" if len(descriptions) > 1 else "") + _as_text(description))
    if as_json and names_one_file(files):
        typer.echo("".join(json.dumps(description, indent=2) for description in descriptions), nl=bool(descriptions))
    elif as_json:
        typer.echo(json.dumps(descriptions, indent=2))
    failures.end()


def describe(file: IO[bytes]) -> dict[str, Any]:
    """Return what ``--json`` prints of a file, but for its path.

    Raises:
        NotSdcError: The file is not an SDC file.
        OSError: The file is damaged.
    """
    from .. import api
    from ..format import container
    from ..format.codecs import CODECS
    from ..models import NoiseSchedule
    from ..pipeline import decoding

    summary = api.info(file)
    file.seek(0)
    layout = container.read_layout(file)
    quantised = decoding.read_latents(file, layout)
    payload = container.read_chunk(file, layout.payload)
    latents = quantised.latents
    channels = [
        {
            "mean": float(channel.mean(dtype="float64")),
            "std": float(channel.std(dtype="float64")),
            "min": float(channel.min()),
            "max": float(channel.max()),
        }
        for channel in latents
    ]
    return {
        "width": summary.width,
        "height": summary.height,
        "mode": summary.mode,
        "format_version": container.FORMAT_VERSION,
        "codec": summary.codec,
        "parameters": CODECS.named(summary.codec).describe(payload),
        "latent_space": summary.latent_space,
        "file_bytes": summary.file_bytes,
        "payload_bytes": summary.payload_bytes,
        "bits_per_pixel": summary.bits_per_pixel,
        "chunks": [{"type": letter, "bytes": length} for letter, length in summary.chunks],
        "noise_variance": quantised.noise_variance,
        "timestep": NoiseSchedule.scaled_linear().timestep_of(quantised.noise_variance),
        "latents": {"rows": latents.shape[1], "columns": latents.shape[2], "channels": channels},
    }


def _as_text(description: dict[str, Any]) -> str:
    chunks = (
        f"{chunk['type']} {chunk['bytes']:,}" + (f" ({name})" if (name := _CHUNK_NAMES.get(chunk["type"])) else "")
        for chunk in description["chunks"]
    )
    timestep = description["timestep"]
    latents = description["latents"]
    rows = {
        "size": f"{description['width']}×{description['height']}, {description['mode']}",
        "file": f"{description['file_bytes']:,} bytes, {description['bits_per_pixel']:.3f} bits per pixel",
        "format": f"version {description['format_version']}, latents of {description['latent_space']}",
        "chunks": ", ".join(chunks),
        "codec": ": ".join(filter(None, [description["codec"], _parameters_as_text(description["parameters"])])),
        "noise": f"variance {description['noise_variance']:.3g}, "
        + ("too little to be removed" if timestep is None else f"that of timestep {timestep:.1f}"),
        "latents": f"{latents['columns']}×{latents['rows']}×4",
    }
    lines = [description["path"], *(f"  {name:<9}{value}" for name, value in rows.items())]
    lines.append("  " + " " * 9 + "".join(f"{name:>9}" for name in ("mean", "std", "min", "max")))
    for number, channel in enumerate(latents["channels"]):
        lines.append(f"  channel {number}" + "".join(f"{value:9.3f}" for value in channel.values()))
    return "\n".join(lines)


def _parameters_as_text(parameters: dict[str, Any]) -> str:
    words = []
    for name, value in parameters.items():
        if isinstance(value, bool):
            words.append(name if value else f"not {name}")
        else:
            words.append(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)
