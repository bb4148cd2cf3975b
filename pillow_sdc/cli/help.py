"""Docstrings as help texts."""

import inspect
from collections.abc import Callable
from typing import Any


def prose(command: Callable[..., Any]) -> str:
    """Return a command's docstring with its paragraphs in one line each, so that they are wrapped to the terminal."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
