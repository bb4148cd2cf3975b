from pathlib import Path

import pytest
from typer.testing import CliRunner

from pillow_sdc.cli import app


def test_fetch_prints_where_a_directory_lies(tiny_pipeline: Path) -> None:
    result = CliRunner().invoke(app, ["models", "fetch", str(tiny_pipeline)])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tiny_pipeline)


def test_fetch_explains_in_one_line_what_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["models", "fetch", str(tmp_path / "nothing")])
    assert result.exit_code == 1
    assert result.stderr.startswith("sdc: ")
    assert "nothing" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(("arguments", "word"), [([], "models"), (["models"], "fetch")])
def test_without_a_command_the_help_is_shown(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert word in result.output
