"""``--codec`` and the options of all codecs, as the registry has them, for the commands that write ``.sdc`` files."""

import functools
import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from ..errors import OptionError
from ..format.codecs import CODECS, TARGET_SIZE, Option
from .arguments import bytes_of, number, whole_number
from .messages import misuse

SAVE_OPTIONS = "save_options"
"""The parameter of commands that takes what the user gave of them, as ``Image.save`` does."""

_PANEL = "Size and quality"
_ENVIRONMENT = {"codec": "PILLOW_SDC_CODEC", "quality": "PILLOW_SDC_QUALITY"}


def takes_codec_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options in place of its parameter ``save_options``; refuse those that exclude each other.

    Raises:
        typer.Exit: By the command; some options are of different codecs.
    """
    options = _parameters()

    @functools.wraps(command)
    def with_options(**arguments: Any) -> None:
        values = {name: arguments.pop(name) for name in options}
        given = {name: value for name, value in values.items() if value is not None}
        if "codec" in given:
            given["codec"] = given["codec"].value
        try:
            CODECS.choose(given, spelled=_spelled)
        except OptionError as error:
            raise misuse(str(error)) from None
        command(**arguments, **{SAVE_OPTIONS: given})

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += options.values() if parameter.name == SAVE_OPTIONS else [parameter]
    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    with_options.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]  # Typer reads it
    return with_options


def parser_of(option: Option) -> Callable[[object], float]:
    """Return what reads the values of an option, and says of other texts what is allowed."""
    lowest, highest = option.range.lowest, option.range.highest
    return whole_number(int(lowest), int(highest)) if option.range.type is int else number(lowest, highest)


def metavar_of(option: Option) -> str:
    """Return what stands for the values of an option in help texts."""
    return f"{option.range.lowest:g}-{option.range.highest:g}"


def _spelled(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _parameters() -> dict[str, inspect.Parameter]:
    """Return the parameters by their names: the newest codec's first, and a byte budget's after what it decides."""
    parameters = {"codec": _codec_parameter()}
    budgets = {codec.budget.decides: codec.budget for codec in CODECS if codec.budget is not None}
    for codec in reversed([*CODECS]):
        for option in codec.options.values():
            unless = f"[bold]{_ENVIRONMENT[option.name]}[/]" if option.name in _ENVIRONMENT else f"{option.default:g}"
            parameters[option.name] = _parameter(
                option.name,
                option.range.type,
                f"{option.help}; chooses {_named(option.name)}. {unless} unless given.",
                parser=parser_of(option),
                metavar=metavar_of(option),
            )
            if option.name in budgets:
                parameters[TARGET_SIZE] = _parameter(
                    TARGET_SIZE,
                    int,
                    f"{budgets[option.name].help}: 2000, 2k, 5kB; chooses {_named(TARGET_SIZE)}.",
                    parser=bytes_of,
                    metavar="BYTES",
                )
    return parameters


def _codec_parameter() -> inspect.Parameter:
    names = [CODECS.default.name, *(codec.name for codec in CODECS if codec is not CODECS.default)]
    words = [
        f"[bold]{codec.name}[/]{' (default)' if codec is CODECS.default else ''}: {codec.help}"
        for codec in map(CODECS.named, names)
    ]
    help_text = f"{'; '.join(words)}. [bold]{_ENVIRONMENT['codec']}[/] unless given."
    enumeration: Any = StrEnum  # of names that type checkers cannot know
    return _parameter("codec", enumeration("Codec", {name.upper(): name for name in names}), help_text)


def _named(option: str) -> str:
    """Return the codec that an option chooses where none is named."""
    return f"[bold]{CODECS.takers(option)[0].name}[/]"


def _parameter(name: str, kind: type, help_text: str, **how: Any) -> inspect.Parameter:
    option = typer.Option(_spelled(name), help=help_text, show_default=False, rich_help_panel=_PANEL, **how)
    annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
