"""The command line as a whole: help, version, and what starting it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from locations import ROOT
from typer.testing import CliRunner

import pillow_sdc
from pillow_sdc.cli import app

COMMANDS = [
    "encode",
    "decode",
    "info",
    "view",
    "batch",
    "compare",
    "doctor",
    "models",
    "models list",
    "models fetch",
    "models where",
]


@pytest.mark.parametrize(("arguments", "word"), [([], "models"), (["models"], "fetch")])
def test_without_a_command_the_help_is_shown(arguments: list[str], word: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert word in result.output


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_shows_how_it_is_used(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"sdc {command} " in result.output.replace("Usage: root", "Usage: sdc")
    if command != "compare":
        assert "Examples" in result.output


def test_version_is_the_packages() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.exit_code == 0
    assert result.stdout == f"sdc {pillow_sdc.__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["encode"], ["info", "--frobnicate"], ["encode", "--quality", "0", "a.png"]]
)
def test_wrong_usage_ends_with_code_2(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "pillow_sdc", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"sdc {pillow_sdc.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["info", "--help"], ["encode", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = f"""
import sys
from pillow_sdc.cli import app
try:
    app({arguments!r}, prog_name="sdc")
except SystemExit as leaving:
    assert not leaving.code
heavy = {{"numpy", "torch", "diffusers", "transformers", "huggingface_hub", "faiss", "pydantic"}}
print(sorted(heavy & set(sys.modules)), [name for name in sys.modules if name.endswith("ImagePlugin")])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] []"


def test_completion_offers_the_commands() -> None:
    result = CliRunner().invoke(
        app, [], prog_name="sdc", env={"_SDC_COMPLETE": "complete_bash", "COMP_WORDS": "sdc ", "COMP_CWORD": "1"}
    )
    assert {"encode", "decode", "info", "view", "models", "doctor"} <= set(result.stdout.split())


def test_modules_of_the_command_line_import_only_light_packages_at_their_top() -> None:
    light = sys.stdlib_module_names | {"typer"}
    package = ROOT / "pillow_sdc"
    drawn = {
        package / "cli" / name for name in ("conversion.py", "local_models.py", "sheet.py")
    }  # imported inside functions alone
    waiting = set((package / "cli").glob("*.py")) - drawn
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= light, path
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                assert (node.module or "").split(".")[0] in light, path
            elif isinstance(node, ast.ImportFrom):
                base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
                names = [base, *(base / alias.name for alias in node.names)]
                reached = {file for name in names for file in (name.with_suffix(".py"), name / "__init__.py")}
                waiting |= {file for file in reached if file.exists() and package in file.parents} - seen
    assert not seen & drawn
    assert package / "jobs" / "tasks.py" in seen
