"""The command line, ``sdc``."""

from typing import Annotated

import typer

import pillow_sdc

app = typer.Typer(no_args_is_help=True, help="Photographs as Stable Diffusion latents: the .sdc image format.")
models = typer.Typer(no_args_is_help=True, help="The models that turn pictures into latents and back.")
app.add_typer(models, name="models")


@app.callback()
def main() -> None:
    """Photographs as Stable Diffusion latents: the .sdc image format."""


@models.command()
def fetch(
    model: Annotated[str, typer.Argument(help="Hub id, for instance CompVis/stable-diffusion-v1-4, or a directory.")],
) -> None:
    """Bring a model into the local cache, so that no network is needed afterwards."""
    try:
        directory = pillow_sdc.fetch_model(model)
    except pillow_sdc.SdcError as error:
        typer.echo(f"sdc: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(directory)
