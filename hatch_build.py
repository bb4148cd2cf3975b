"""Compiles the kernel of the codec ``context`` when the package is built; without a C compiler the wheel goes without.

The kernel is a plain shared library that knows nothing of Python, so one wheel serves all Pythons of a platform.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from packaging.tags import platform_tags

SOURCE = Path("pillow_sdc", "format", "context", "kernel.c")
LIBRARY = SOURCE.with_name(
    {"win32": "sdc_context.dll", "darwin": "libsdc_context.dylib"}.get(sys.platform, "libsdc_context.so")
)

FLAGS = ["-std=c11", "-O3", "-shared", "-fvisibility=hidden", "-ffp-contract=off"]
"""The last, so that each operation is rounded by itself; that the processor may fuse two would change latents."""
UNIX_FLAGS = ["-fPIC", "-lm"]

VARIABLE = "PILLOW_SDC_KERNEL"
"""``0`` builds a pure wheel, for any platform."""


class KernelHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel, or to the source tree of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if that can be done."""
        self._folder = TemporaryDirectory()
        library = Path(self.root, LIBRARY) if version == "editable" else Path(self._folder.name, LIBRARY.name)
        problem = compiled(Path(self.root, SOURCE), library)
        if problem:
            self.app.display_warning(f"no compiled kernel, the codec context will be slow: {problem}")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform()}"
        if version != "editable":
            build_data["force_include"][str(library)] = LIBRARY.as_posix()

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove what the wheel now holds."""
        self._folder.cleanup()


def platform() -> str:
    """Return the tag of wheels for this machine alone: of macOS without other processors, of Linux without others'."""
    return next(tag for tag in platform_tags() if not tag.startswith(("manylinux", "musllinux")))


def compiled(source: Path, library: Path, flags: Sequence[str] = ()) -> str | None:
    """Compile the kernel, with ``flags`` besides the usual ones; return what prevents that, if anything does."""
    library.unlink(missing_ok=True)
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    compiler = compiler_command()
    if compiler is None:
        return "there is no C compiler"
    built = library.with_suffix(".new")
    end = [] if sys.platform == "win32" else UNIX_FLAGS
    command = [*compiler, *FLAGS, *flags, "-o", str(built), str(source), *end]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the user's compiler
    except OSError as error:
        return f"{shlex.join(command)} failed: {error}"
    if done.returncode:
        return f"{shlex.join(command)} failed: {done.stderr.strip() or f'status {done.returncode}'}"
    built.replace(library)  # a process that has the old one open keeps it
    return None


def compiler_command() -> list[str] | None:
    """Return the command of a compiler with GCC's options: ``CC``, else Python's own or one of the usual names."""
    if chosen := os.environ.get("CC"):
        return shlex.split(chosen)
    candidates = [sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]
    commands = (shlex.split(candidate) for candidate in candidates if candidate)
    return next((command for command in commands if shutil.which(command[0])), None)
