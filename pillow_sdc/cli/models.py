"""``sdc models``: which there are, where they are, and how to get one."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .arguments import Debug
from .help import prose
from .messages import FAILED, Failures, announce, say

if TYPE_CHECKING:
    from .local_models import LocalModel, ModelFolders

LIST_EXAMPLES = """[bold]Examples[/]

[cyan]sdc models list[/]

[cyan]PILLOW_SDC_MODEL=madebyollin/taesd sdc models list[/]   is that one here, too?

[cyan]PILLOW_SDC_MODEL_PATH=~/ComfyUI/models sdc models list[/]   which of these checkpoints would do?"""

FETCH_EXAMPLES = """[bold]Examples[/]

[cyan]sdc models fetch CompVis/stable-diffusion-v1-4[/]   several gigabytes

[cyan]sdc models fetch madebyollin/taesd[/]   10 MB, an autoencoder alone"""

WHERE_EXAMPLES = """[bold]Examples[/]

[cyan]sdc models where compact[/]

[cyan]sdc models where madebyollin/taesd || sdc models fetch madebyollin/taesd[/]"""

app = typer.Typer(
    no_args_is_help=True,
    help="The models that turn pictures into latents and back.",
    epilog="""[bold]Examples[/]

[cyan]sdc models list[/]

[cyan]sdc models fetch CompVis/stable-diffusion-v1-4[/]

[cyan]sdc models where madebyollin/taesd[/]""",
)

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Hub id, for instance CompVis/stable-diffusion-v1-4, or a directory.", show_default=False
    ),
]


def list_models(debug: Debug = False) -> None:
    """List the models that are on this machine, and say which one [bold]auto[/] takes.

    Those are the one that comes with the package, those in the Hugging Face hub's cache that are of Stable Diffusion
    v1's latent space, the one that the settings name, and those in the folders of [bold]PILLOW_SDC_MODEL_PATH[/], where
    AUTOMATIC1111, ComfyUI or you keep checkpoints. What is damaged is named. Nothing is downloaded.
    """
    failures = Failures(debug)
    with failures.of():
        import pillow_sdc

        from ..models import choose_model, compact
        from . import local_models

        settings = pillow_sdc.settings()
        rows = [("compact", _megabytes(compact.WEIGHTS), _embedded(compact.WEIGHTS))]
        found = dict(local_models.cached_models())
        if settings.model not in ("auto", compact.NAME, *found):
            with failures.of():
                named = local_models.find_model(settings.model)
                if named is None:
                    rows.append((settings.model, "", f"not here; sdc models fetch {settings.model} brings it"))
                else:
                    found[settings.model] = named
        rows += [(name, _megabytes(model.directory), _description(model)) for name, model in found.items()]
        folders = local_models.models_in_folders()
        rows += _in_folders(folders)
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        for name, size, text in rows:
            typer.echo(f"{name:<{widths[0]}}  {size:>{widths[1]}}  {text}")
        for path, reason in folders.unreadable.items():
            typer.echo(f"\n{path}, by {local_models.MODEL_PATH}: {reason}")
        if folders.others:
            ranked = sorted(folders.others.items(), key=lambda item: (-item[1], item[0]))
            counts = ", ".join(f"{count:,} {kind}" for kind, count in ranked)
            typer.echo(f"\nwhat would not do, in the folders of {local_models.MODEL_PATH}: {counts}")
        choice = choose_model(settings._replace(model="auto"))
        typer.echo(f"\nauto takes {choice.model} on {choice.device} in {choice.dtype}: {choice.reason}")
        if settings.model != "auto":
            typer.echo(f"PILLOW_SDC_MODEL names {settings.model}")
    failures.end()


def fetch(model: ModelName, debug: Debug = False) -> None:
    """Bring a model into the local cache, so that no network is needed afterwards, and print where it is."""
    failures = Failures(debug)
    with failures.of():
        import pillow_sdc

        announce(pillow_sdc.fetch_model(model))
    failures.end()


def where(model: ModelName, debug: Debug = False) -> None:
    """Print the directory that holds a model, or say that it is not here or damaged; nothing is downloaded."""
    failures = Failures(debug)
    with failures.of():
        from ..models import compact
        from ..models.diffusion.hub import DEFAULT_MODEL
        from . import local_models

        if model == compact.NAME:
            typer.echo(compact.WEIGHTS)
            return
        name = DEFAULT_MODEL if model == "auto" else model
        found = local_models.find_model(name)
        if found is not None and found.damage:
            say(found.damage)
            raise typer.Exit(FAILED)
        if found is None or found.missing:
            what = f"without its {' and '.join(found.missing)}" if found else "not on this machine"
            say(f"{what}; sdc models fetch {name} brings it", about=name)
            raise typer.Exit(FAILED)
        typer.echo(found.directory)
    failures.end()


def _embedded(weights: Path) -> str:
    networks = sorted(weights.glob("*.onnx"))
    return "comes with the package: " + ", ".join(
        f"{path.stem.replace('_', ' ')} {_megabytes(path)}" for path in networks
    )


def _description(model: "LocalModel") -> str:
    if model.damage:
        return model.damage
    missing = f", without {', '.join(model.missing)}" if model.missing else ""
    kind = "pipeline" if model.is_pipeline else "autoencoder alone"
    return f"{kind}{missing}, in {model.directory}"


def _in_folders(folders: "ModelFolders") -> list[tuple[str, str, str]]:
    """Return the rows of what is in the folders of people's checkpoints, by what ``model`` takes as a name."""
    from ..models.diffusion.original_checkpoint import Family
    from .local_models import parts_lacking

    rows = [(str(path), _megabytes(path), "pipeline in diffusers' layout") for path in folders.pipelines]
    for checkpoint in folders.checkpoints:
        lacking = parts_lacking(checkpoint)
        what = "Stable Diffusion v1" if checkpoint.family is Family.SD_V1 else "autoencoder alone, for vae, too"
        text = f"{what}, {checkpoint.precision}" + (f", without {', '.join(lacking)}" if lacking else "")
        rows.append((str(checkpoint.path), f"{checkpoint.size / 1e6:,.1f} MB", text))
    rows += [(str(path), _megabytes(path), reason) for path, reason in folders.damaged.items()]
    return sorted(rows)


def _megabytes(path: Path) -> str:
    """Return the size of a file, or of all files in a folder, links followed."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if os.path.isfile(file)]  # noqa: PTH113 - never raises
    return f"{sum(file.stat().st_size for file in files) / 1e6:,.1f} MB"


app.command("list", help=prose(list_models), epilog=LIST_EXAMPLES)(list_models)
app.command(help=prose(fetch), epilog=FETCH_EXAMPLES)(fetch)
app.command(help=prose(where), epilog=WHERE_EXAMPLES)(where)
