"""What MkDocs does with pages besides: the options of the command line, and what of docstrings is for others."""

import re
from typing import Any

import typer.main

from pillow_sdc.cli import app

OPTIONS = "<!-- options of every command -->"
ROLE = re.compile(r":(?:class|data|func|meth|mod):(?=<code>)")
DOCTEST = re.compile(r"(?:<blockquote>\s*){3}<p>(.*?)</p>\s*(?:</blockquote>\s*){3}", re.S)
DOCTEST_MARKS = re.compile(r"^\.\.\. ?| *# doctest: .*$", re.M)
RICH = re.compile(r"\[bold\](.*?)\[/(?:bold)?\]")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the options of every command where a page asks for them."""
    if OPTIONS not in markdown:
        return markdown
    return markdown.replace(OPTIONS, "\n".join(_sections(typer.main.get_command(app), "sdc")))


def on_page_content(html: str, **_: Any) -> str:
    """Make of docstrings what they are for readers: names without Sphinx's roles, and code of what doctest runs."""
    return DOCTEST.sub(_code, ROLE.sub("", html))


def _code(example: re.Match[str]) -> str:
    return f"<pre><code>{DOCTEST_MARKS.sub('', example[1])}</code></pre>"


def _sections(command: Any, name: str) -> list[str]:
    """Return the lines of a command, or of the commands of a group."""
    if hasattr(command, "commands"):
        return [line for inner, each in command.commands.items() for line in _sections(each, f"{name} {inner}")]
    lines = [f"### {name}", "", _one_line(command.help), "", "| option | |", "|---|---|"]
    for parameter in command.params:
        names = ", ".join(f"`{option}`" for option in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.metavar or parameter.name.upper()}`"
        lines.append(f"| {names} | {_one_line(parameter.help)} |")
    return [*lines, ""]


def _one_line(text: str | None) -> str:
    """Return the first paragraph of a help text, in Markdown."""
    line = " ".join((text or "").partition("\n\n")[0].split())
    return RICH.sub(r"`\1`", line).replace("|", "\\|")
