"""Words that ``docs/glossary.md`` replaces do not appear in code, pages and tests."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from locations import GOLDEN, ROOT

INSTEAD = {
    r"foretell\w*|foretold": "predict",
    r"what came of": "the result of",
    r"by and by": "gradually",
    r"for want of": "without",
    r"(?:is|are) none (?:of (?:it|what|that)|that)": "is not one of, is not",
    r"(?:is|are|was|were) told(?! apart)|unless told|told of": "is given, unless you say otherwise",
    r"what (?:\S+ ){1,6}makes? of": "the result, the output",
    r"[Tt]ake up a": "set",
    r"(?:stretched|shrunk) (?:latents?|axis)|stretched(?==)": "weighted, from_weighted (the section Codecs)",
    r"shares? of \[0|shares? of (?:its|their) own|symbol's share": "interval, frequency",
    r"inner values": "activations",
    r"context_(?:head|network)\.py|palette_(?:design|stream)`": "the module's name in format/context, format/palette",
    r"SeenLatents|bias_under|frequencies_below|probabilities_below|_best_ways": "the names in format/context",
}
"""Patterns of whole words, and what to write instead."""

CONSTANT_OF = re.compile(r'^[ ]*"""Of ', re.M)
"""A docstring of a constant that does not begin with what the constant is."""

TEXT = {".py", ".md", ".c", ".js", ".j2", ".toml", ".ipynb"}
FOLDERS = ("pillow_sdc", "training", "benchmarks", "fuzz", "examples", "autoload", "docs", "tests")


@cache
def lines() -> list[tuple[str, str]]:
    """Return all lines, each with its file and number."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", line)
        for path in texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
    ]


def texts() -> Iterator[Path]:
    """Yield what people read and write: code, pages and tests, without the frozen expectations of golden files."""
    yield from sorted(ROOT.glob("*.md"))
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in TEXT and not {GOLDEN, Path(__file__).resolve()} & {path, *path.parents}:
                yield path


@pytest.mark.parametrize("pattern", INSTEAD)
def test_words_have_their_usual_names(pattern: str) -> None:
    word = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")
    found = [
        f"{place}: {match[0]!r}; write: {INSTEAD[pattern]}" for place, line in lines() for match in word.finditer(line)
    ]
    assert found == []


def test_docstrings_of_constants_begin_with_what_these_are() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in texts()
        if path.suffix == ".py" and CONSTANT_OF.search(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "a network foretells symbols",
        "what the network makes of it",
        "the network is told the step",
        "symbols that have shares of their own",
        "a symbol is none that encode writes",
        "ContextCodec(stretched=False)",
    ],
)
def test_the_patterns_find_the_words(text: str) -> None:
    assert re.search(rf"(?<!\w)(?:{'|'.join(INSTEAD)})(?!\w)", text)
