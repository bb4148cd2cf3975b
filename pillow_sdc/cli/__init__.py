"""The command line, ``sdc``: one module for each command, and what several of them need.

Modules import at their top the standard library, Typer and each other alone. What takes longer, Pillow's plugins,
numpy, torch and Rich, is imported inside functions, so that ``--help`` and shell completion answer at once.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import batch, compare, decode, doctor, encode, info, integrate, models, streams, thumbnail, view
from .help import prose

EXAMPLES = """[bold]Examples[/]

[cyan]sdc encode photo.jpg[/]   writes photo.sdc, under 5 kB for 512×512 pixels

[cyan]sdc decode photo.sdc[/]   writes photo.png

[cyan]sdc info photo.sdc[/]   what the file says of itself

[cyan]sdc doctor[/]   what would decode here, and whether it works"""


class _Group(TyperGroup):
    """Typer's, but quick, and not dependent on the standard streams.

    Typer gives its own options, for help and for completion, no value where they are not used, and imports pydantic,
    for a tenth of a second, to find out that no value is one. The flag False needs no such thing.
    """

    def get_params(self, ctx: Any) -> list[Any]:
        parameters = super().get_params(ctx)
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.default is None:
                parameter.default = False
        return parameters

    def main(self, *args: Any, **kwargs: Any) -> Any:
        streams.prepare()
        return super().main(*args, **kwargs)


app = typer.Typer(
    name="sdc",
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        import pillow_sdc

        typer.echo(f"sdc {pillow_sdc.__version__}")
        raise typer.Exit


@app.callback(epilog=EXAMPLES)
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Photographs as Stable Diffusion latents: the .sdc image format."""


app.command(help=prose(encode.encode), epilog=encode.EXAMPLES)(encode.encode)
app.command(help=prose(decode.decode), epilog=decode.EXAMPLES)(decode.decode)
app.command(help=prose(batch.batch), epilog=batch.EXAMPLES)(batch.batch)
app.command(help=prose(info.info), epilog=info.EXAMPLES)(info.info)
app.command(help=prose(view.view), epilog=view.EXAMPLES)(view.view)
app.command(help=prose(thumbnail.thumbnail), epilog=thumbnail.EXAMPLES)(thumbnail.thumbnail)
app.command(help=prose(compare.compare), epilog=compare.EXAMPLES)(compare.compare)
app.add_typer(models.app, name="models")
app.command(help=prose(doctor.doctor), epilog=doctor.EXAMPLES)(doctor.doctor)
app.command(help=prose(integrate.integrate), epilog=integrate.EXAMPLES)(integrate.integrate)
