"""Compiles the kernel of the codec ``context`` when the package is built; without a C compiler the wheel goes without.

The kernel is a plain shared library that knows nothing of Python, so one wheel serves all Pythons of a platform.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("pillow_sdc", "latent_codecs", "context_kernel.c")
LIBRARY = SOURCE.with_name(
    {"win32": "sdc_context.dll", "darwin": "libsdc_context.dylib"}.get(sys.platform, "libsdc_context.so")
)

FLAGS = ("-std=c11", "-O3", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off")
"""The last, so that each operation is rounded by itself; that the processor may fuse two would change latents."""

VARIABLE = "PILLOW_SDC_KERNEL"
"""``0`` builds a pure wheel, for any platform."""


class KernelHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel, or to the source tree of an editable installation."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, if that can be done."""
        library = Path(self.root, LIBRARY) if version == "editable" else Path(self.directory, "kernel", LIBRARY.name)
        library.parent.mkdir(parents=True, exist_ok=True)
        problem = compiled(Path(self.root, SOURCE), library)
        if problem:
            self.app.display_warning(f"no compiled kernel, the codec context will be slow: {problem}")
            return
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform}"
        if version != "editable":
            build_data["force_include"][str(library)] = LIBRARY.as_posix()


def compiled(source: Path, library: Path) -> str | None:
    """Compile the kernel; return what hinders that, if anything does."""
    library.unlink(missing_ok=True)
    if os.environ.get(VARIABLE) == "0":
        return f"{VARIABLE} is 0"
    compiler = compiler_command()
    if compiler is None:
        return "there is no C compiler"
    built = library.with_suffix(".new")
    command = [*compiler, *FLAGS, "-o", str(built), str(source), *([] if sys.platform == "win32" else ["-lm"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return str(error)
    if done.returncode:
        return f"{shlex.join(command)} failed:\n{done.stderr}"
    built.replace(library)  # a process that has the old one open keeps it
    return None


def compiler_command() -> list[str] | None:
    """Return the command of a compiler that knows GCC's options: ``CC``, Python's own, or any of the usual names."""
    candidates = [os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]
    commands = (shlex.split(candidate) for candidate in candidates if candidate)
    return next((command for command in commands if shutil.which(command[0])), None)
