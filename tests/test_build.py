"""The kernel in the wheel: one wheel for a platform, and a pure one where it is not compiled."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from environments import Environment
from hatchling.bridge.app import Application

import hatch_build
from pillow_sdc.format.context.kernel import Kernel

NAME = hatch_build.LIBRARY.as_posix()
REASON = "from pillow_sdc.format.context import kernel; print(kernel.selection().reason)"

with_compiler = pytest.mark.skipif(hatch_build.compiler_command() is None, reason="there is no C compiler")


def files_of(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory: pytest.TempPathFactory, source_distribution: Path) -> Path:
    """What the source distribution holds."""
    directory = tmp_path_factory.mktemp("tree")
    with tarfile.open(source_distribution) as archive:
        archive.extractall(directory, filter="data")
    (tree,) = directory.iterdir()
    return tree


def build(tree: Path, directory: Path, **variables: str) -> tuple[Path, str]:
    """Build a wheel from a source tree; return it, and what was written meanwhile."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel:standard", "-d", str(directory)]
    done = subprocess.run(
        command,
        cwd=tree,
        env=os.environ | variables,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    (wheel,) = directory.glob("*.whl")
    assert list(directory.iterdir()) == [wheel]
    return wheel, done.stdout


def test_the_source_distribution_holds_the_source_and_no_kernel(source_tree: Path) -> None:
    assert (source_tree / hatch_build.SOURCE).is_file()
    assert (source_tree / "hatch_build.py").is_file()
    assert not (source_tree / hatch_build.LIBRARY).exists()


@with_compiler
def test_the_wheel_is_one_for_all_pythons_of_the_platform_and_holds_the_kernel(wheel: Path) -> None:
    assert wheel.name.endswith(f"-py3-none-{hatch_build.platform()}.whl")
    files = files_of(wheel)
    assert NAME in files
    (name,) = (name for name in files if name.endswith("/WHEEL"))
    about = files[name].decode()
    assert "Root-Is-Purelib: false" in about
    assert re.findall("^Tag: (.*)$", about, re.MULTILINE) == [f"py3-none-{hatch_build.platform()}"]


def test_the_wheel_has_extras_for_users_alone(wheel: Path) -> None:
    """What developers need is in dependency groups, which no wheel has."""
    (about,) = (data.decode() for name, data in files_of(wheel).items() if name.endswith("/METADATA"))
    assert re.findall("^Provides-Extra: (.*)$", about, re.MULTILINE) == ["batch", "ray", "report"]


@with_compiler
def test_the_kernel_runs_from_the_wheel(tmp_path: Path, wheel: Path) -> None:
    environment = Environment.create(tmp_path / "environment")
    environment.pip("install", "--no-deps", "--no-index", str(wheel))
    assert environment.run("-c", REASON).startswith("compiled, ")
    where = environment.run("-c", "from pillow_sdc.format.context import kernel as k; print(k.LIBRARY)")
    assert Path(where.strip()).is_relative_to(environment.directory)


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CC": f"{sys.executable} -c exit(3)"}, "failed: status 3"),
        ({"CC": f"{sys.executable} -c 'exit(\"no such header\")'"}, "failed: no such header"),
        ({"CC": "no-such-compiler"}, "No such file or directory: 'no-such-compiler'"),
        ({"PILLOW_SDC_KERNEL": "0"}, "PILLOW_SDC_KERNEL is 0"),
    ],
    ids=["that fails", "that complains", "that is not there", "that is not wanted"],
)
def test_a_compiler(source_tree: Path, tmp_path: Path, variables: dict[str, str], reason: str) -> None:
    """Without one the wheel is pure, for any platform, and the build says why."""
    wheel, said = build(source_tree, tmp_path, **variables)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert NAME not in files_of(wheel)
    assert "no compiled kernel, the codec context will be slow: " in said
    assert reason in said


@with_compiler
def test_an_editable_installation_compiles_in_place(source_tree: Path, tmp_path: Path) -> None:
    library = source_tree / hatch_build.LIBRARY
    hook = hatch_build.KernelHook(str(source_tree), {}, None, None, str(tmp_path), "wheel", Application())
    build_data: dict[str, Any] = {"force_include": {}}
    try:
        hook.initialize("editable", build_data)
        hook.finalize("editable", build_data, "")
        assert Kernel(library).paths
        assert build_data == {
            "force_include": {},
            "pure_python": False,
            "tag": f"py3-none-{hatch_build.platform()}",
        }
        wheel, _ = build(source_tree, tmp_path / "pure", PILLOW_SDC_KERNEL="0")
        assert NAME not in files_of(wheel)  # the one that lies in the tree belongs to the editable installation
    finally:
        library.unlink(missing_ok=True)
